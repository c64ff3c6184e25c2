"""The numbers in the charts are scikit-learn's, and whatever the data is, they are drawn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mlflow_automl_remote import charts
from mlflow_automl_remote.charts import picture
from mlflow_automl_remote.charts.content import content_of
from mlflow_automl_remote.charts.curves import GRID, curve

EVIL = "</script><img src=x onerror=document.body.remove()>"


def case(
    n_classes: int, n_rows: int = 400, *, digits: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make codes and probabilities that know something of them; `digits` makes ties."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n_rows)
    raw = rng.random((n_rows, n_classes)) + 0.7 * np.eye(n_classes)[codes]
    if digits is not None:
        raw = np.round(raw, digits) + 0.01
    return codes, raw / raw.sum(axis=1, keepdims=True)


def names(n_classes: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(n_classes))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 1]), st.booleans())
def test_a_curve_is_that_of_scikit_learn(seed: int, digits: int | None, weighted: bool) -> None:
    """ROC with its thresholds, precision over recall, and the areas below both."""
    codes, p = case(2, 80, digits=digits, seed=seed)
    rng = np.random.default_rng(seed)
    weight = rng.choice([0.5, 1.0, 3.0], len(codes)) if weighted else np.ones(len(codes))
    found = curve(codes == 1, p[:, 1], weight)
    assert found is not None
    fpr, tpr, threshold = sk.roc_curve(
        codes == 1, p[:, 1], sample_weight=weight, drop_intermediate=False
    )
    assert found.fpr == pytest.approx(fpr)
    assert found.tpr == pytest.approx(tpr)
    assert found.threshold[1:] == pytest.approx(threshold[1:])
    precision, recall, _ = sk.precision_recall_curve(codes == 1, p[:, 1], sample_weight=weight)
    # scikit-learn's curve goes the other way, and may begin with recall 1 at several thresholds
    assert found.precision[1:][::-1] == pytest.approx(precision[:-1][-len(found.tpr) + 1 :])
    assert found.tpr[1:][::-1] == pytest.approx(recall[:-1][-len(found.tpr) + 1 :])
    assert found.lift[-1] == pytest.approx(1)
    assert found.fraction[-1] == pytest.approx(1)


def test_a_thinned_curve_keeps_its_ends_and_its_area() -> None:
    """Two thousand points tell what a hundred thousand tell."""
    codes, p = case(2, 100_000)
    whole = curve(codes == 1, p[:, 1], np.ones(len(codes)))
    assert whole is not None
    thin = whole.thinned(2000)
    assert 1000 < len(thin.tpr) <= 2000
    assert (thin.tpr[0], thin.fpr[-1], thin.tpr[-1]) == (0, 1, 1)
    assert sk.auc(thin.fpr, thin.tpr) == pytest.approx(sk.auc(whole.fpr, whole.tpr), abs=1e-4)
    assert sk.auc(thin.tpr, thin.precision) == pytest.approx(
        sk.auc(whole.tpr, whole.precision), abs=1e-3
    )


def test_confusion_micro_macro_and_calibration_are_those_of_scikit_learn() -> None:
    """Of three classes; the micro-average is that of all cells of the indicator matrix."""
    codes, p = case(3)
    made = charts.of_classifier(codes, p, classes=names(3))
    assert (sk.confusion_matrix(codes, p.argmax(axis=1)) == made.confusion).all()
    indicator = np.eye(3)[codes]
    assert made.micro is not None
    assert made.macro is not None
    assert sk.auc(made.micro.fpr, made.micro.tpr) == pytest.approx(
        sk.roc_auc_score(indicator, p, average="micro"), abs=1e-4
    )
    assert sk.auc(GRID, made.macro.roc) == pytest.approx(sk.roc_auc_score(indicator, p), abs=0.01)
    observed, predicted = calibration_curve(codes == 1, p[:, 1], n_bins=10)
    assert made.calibrations["class 1"].observed == pytest.approx(observed)
    assert made.calibrations["class 1"].predicted == pytest.approx(predicted)


def test_classes_without_a_row_have_no_curve() -> None:
    """The others have; with one class alone there is only its confusion."""
    codes, p = case(4)
    codes = np.where(codes == 2, 1, codes)
    made = charts.of_classifier(codes, p, classes=names(4))
    assert {"class 0", "class 1", "class 3"} == set(made.curves)
    alone = charts.of_classifier(np.zeros(5, dtype=int), p[:5, :1], classes=names(1))
    assert not alone.curves
    assert alone.macro is None
    assert picture.draw(alone, "one class")


def test_of_many_classes_the_frequent_ones_are_drawn() -> None:
    """Curves of 20, and a matrix of 30 and all others together; no row is lost."""
    codes, p = case(80, 2000)
    made = charts.of_classifier(codes, p, classes=names(80))
    assert (20, 31, 60) == (len(made.curves), len(made.labels), made.hidden)
    assert made.confusion.sum() == 2000
    assert len(json.dumps(content_of(made))) < 1_000_000


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 5),
    st.integers(1, 60),
    st.sampled_from([None, 0, 1]),
    st.integers(0, 1000),
    st.booleans(),
)
def test_whatever_a_classifier_predicts_is_drawn(
    n_classes: int, n_rows: int, digits: int | None, seed: int, certain: bool
) -> None:
    """Few rows, ties everywhere, probabilities of 0 and 1."""
    codes, p = case(n_classes, n_rows, digits=digits, seed=seed)
    if certain:
        p = np.eye(n_classes)[p.argmax(axis=1)]
    made = charts.of_classifier(codes, p, classes=names(n_classes))
    json.dumps(content_of(made), allow_nan=False)
    assert Image.open(io.BytesIO(picture.draw(made, "x"))).size == (990, 654)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 1000),
    st.sampled_from([0.0, 1e-12, 1.0, 1e12]),
    st.booleans(),
)
def test_whatever_a_regressor_predicts_is_drawn(
    n_rows: int, seed: int, size: float, constant: bool
) -> None:
    """A perfect model, a constant one, tiny and huge numbers; every row is in a bar."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n_rows) * size
    predicted = np.full(n_rows, 3.0) if constant else true + rng.normal(size=n_rows) * size / 3
    made = charts.of_regressor(true, predicted)
    assert made.bars.sum() == pytest.approx(n_rows)
    json.dumps(content_of(made), allow_nan=False)
    assert Image.open(io.BytesIO(picture.draw(made, "x")))


def test_residuals_and_bins_are_what_they_say() -> None:
    """With weights, rows count by them."""
    true, predicted = np.array([1.0, 2.0, 3.0, 10.0]), np.array([1.5, 2.0, 2.5, 9.0])
    made = charts.of_regressor(true, predicted, weight=np.array([1.0, 1.0, 0.0, 2.0]))
    assert made.mean == pytest.approx((-0.5 + 2 * 1.0) / 4)
    assert made.bars.sum() == pytest.approx(4)
    assert made.bins.true.tolist() == [1.0, 2.0, 3.0, 10.0]


def test_three_files_tell_the_same_and_hold_no_markup_of_others(tmp_path: Path) -> None:
    """The page is one document without addresses; names of classes are text in it."""
    codes, p = case(3)
    made = charts.of_classifier(codes, p, classes=(EVIL, "b", "ü"))
    charts.write(made, tmp_path / "charts", title=EVIL)
    page = (tmp_path / "charts/charts.html").read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "charts/charts.json").read_text())
    assert EVIL not in page
    assert not {"http:", "https:", "src="} & set(page.replace('"', " ").split())
    assert [EVIL, "b", "ü"] == numbers["confusion"]["labels"]
    assert len(page) < 1_500_000
    with Image.open(tmp_path / "charts/charts.png") as image:
        assert image.format == "PNG"
