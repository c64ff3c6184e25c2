"""The six parts and the files of an explanation."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain import (
    Explanation,
    comparison,
    findings,
    select_rows,
    six_parts,
    stability,
    write,
)
from mlflow_automl_remote.explain.page import page
from mlflow_automl_remote.pages import embedded

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"quotes\" & 'more'",
    "emoji \U0001f600",
    "x" * 300,
    "line\u2028and\u2029paragraph\nbreak",
    "$\\frac{1}{$",
    "\u0e44\u0e17\u0e22",
    "",
)


def an_explanation(n_rows=30, n_columns=6, n_classes=3, names=None, **changes):
    """Random numbers in the form of an explanation; no classes means regression."""
    rng = np.random.default_rng(0)
    shape = (n_rows, n_columns, n_classes) if n_classes else (n_rows, n_columns)
    settings = {
        "values": rng.normal(size=shape)
        * np.arange(1, n_columns + 1).reshape(1, -1, *[1] * (n_classes > 0)),
        "base_values": rng.random(n_classes or 1),
        "data": rng.normal(size=(n_rows, n_columns)),
        "rows": np.arange(n_rows),
        "feature_names": tuple(names or (f"column {i}" for i in range(n_columns))),
        "class_names": tuple(f"class {k}" for k in range(n_classes)) or None,
        "pipeline": "StandardScaler > SVC",
        "explainer": "permutation",
        "output_space": "probability" if n_classes else "value",
        "n_background": 20,
        "n_requested": n_rows,
        "seed": 0,
        "elapsed_s": 1.25,
        "standard_error": 0.01,
        "complete": True,
    }
    return Explanation(**(settings | changes))


def test_the_six_parts_of_a_classification_are_in_their_order():
    """One table per class, bases, then overall and per-class importances, each descending."""
    explanation = an_explanation()
    values, bases, overall, overall_names, per_class, per_class_names = six_parts(explanation)
    assert [table.shape for table in values] == [(30, 6)] * 3
    assert list(explanation.base_values) == bases
    assert sorted(overall, reverse=True) == overall
    means = np.abs(explanation.values).mean(axis=(0, 2))
    assert [f"column {i}" for i in np.argsort(-means)] == overall_names
    np.testing.assert_allclose(np.sort(means)[::-1], overall)
    for k in range(3):
        means = np.abs(explanation.values[:, :, k]).mean(axis=0)
        np.testing.assert_allclose(np.sort(means)[::-1], per_class[k])
        assert [f"column {i}" for i in np.argsort(-means)] == per_class_names[k]


def test_a_regression_has_no_parts_per_class():
    """The last two of the six parts are None, and there is one table and one base value."""
    parts = six_parts(an_explanation(n_classes=0))
    assert parts.shap_values.shape == (30, 6)
    assert len(parts.expected_values) == 1
    assert parts[4:] == (None, None)


def test_equal_importances_keep_the_order_of_the_columns():
    """A tie is not broken by chance."""
    parts = six_parts(an_explanation(values=np.ones((30, 6, 3))))
    assert [f"column {i}" for i in range(6)] == parts.overall_imp


@pytest.mark.parametrize("n_classes", [0, 2, 12])
@pytest.mark.parametrize("n_rows", [1, 40])
def test_all_files_are_written_and_can_be_read(tmp_path, n_classes, n_rows):
    """JSON has the six parts, NPZ loads without pickle, pictures are pictures."""
    explanation = an_explanation(n_rows, n_columns=24, n_classes=n_classes)
    write(explanation, tmp_path / "explanation")
    folder = tmp_path / "explanation"
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    parts = six_parts(explanation)
    assert parts.overall_imp == summary["overall_imp"]
    assert parts.per_class_summary == summary["per_class_summary"]
    np.testing.assert_allclose(parts.shap_values, summary["shap_values"], rtol=1e-5)
    assert tuple(summary[name] for name in ("explainer", "n_background", "standard_error")) == (
        "permutation",
        20,
        0.01,
    )
    with np.load(folder / "values.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(explanation.values, arrays["shap_values"])
        assert explanation.feature_names == tuple(arrays["feature_names"])
    for name in ("bar.png", "beeswarm.png", "dependence.png", "waterfall.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_values_that_are_too_many_for_json_are_pointed_to(tmp_path):
    """The summary stays small and says where the values are."""
    write(an_explanation(1500, 64, 10), tmp_path)
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert len(text) < 100_000
    summary = json.loads(text)
    assert "values.npz" == summary["shap_values_in"] == summary["shap_values"]["file"]
    assert summary["shap_values"]["shape"] == [1500, 64, 10]


@pytest.mark.parametrize(("n_columns", "n_classes"), [(50, 0), (50, 2), (50, 10), (3000, 3)])
def test_the_page_stays_under_two_megabytes(n_columns, n_classes):
    """Two thousand rows fit, or a random part of them is shown."""
    assert len(page(an_explanation(2000, n_columns, n_classes)).encode()) < 2_000_000


def test_hostile_names_are_written_and_harmless(tmp_path):
    """Names with markup, emoji, or no glyphs in the font break neither page nor pictures."""
    explanation = an_explanation(n_columns=len(HOSTILE), names=HOSTILE)
    write(explanation, tmp_path)
    html = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert html.count("</script>") == 2
    assert "<img" not in html
    assert list(HOSTILE) == json.loads(embedded(HOSTILE))
    with np.load(tmp_path / "values.npz", allow_pickle=False) as arrays:
        assert tuple(arrays["feature_names"]) == HOSTILE


def test_categories_and_dates_are_written_as_a_person_would(tmp_path):
    """Numbers that stand for texts or points in time are shown as these, everywhere."""
    data = np.random.default_rng(0).integers(0, 3, (30, 6)).astype(float)
    data[:, 1] += 18_262  # days since 1970
    data[3, 0] = np.nan
    explanation = an_explanation(data=data, levels={0: ("<b>", "Oslo", "Rome"), 1: ()})
    assert explanation.shown(0, 1.0) == "Oslo"
    assert explanation.shown(0, np.nan) == "missing"
    assert explanation.shown(1, 18_262.5) == "2020-01-01 12:00:00"
    write(explanation, tmp_path)
    html = (tmp_path / "explanation.html").read_text(encoding="utf-8")
    assert "\\u003cb\\u003e" in html


def test_what_matters_most_is_told_with_its_direction():
    """The strongest columns come first, with which way they work and how surely."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 4))
    data[:, 1] = rng.integers(0, 2, 60)
    values = data * [5.0, 5.0, -2.0, 0.0]
    values[:, 1] -= 2.5
    explanation = an_explanation(
        60, 4, 0, names="abcd", data=data, values=values, levels={1: ("Oslo", "Rome")}
    )
    found = findings(explanation)
    assert [one.feature for one in found] == ["a", "b", "c"]
    assert [one.effect for one in found] == [
        "higher raises the prediction",
        "Rome raises and Oslo lowers the prediction most",
        "higher lowers the prediction",
    ]
    assert sum(one.share for one in found) == pytest.approx(1)
    assert stability(explanation) > 0.8
    noise = an_explanation(60, 4, 0, values=rng.normal(size=(60, 4)))
    assert stability(noise) < 0.8
    assert stability(an_explanation(n_rows=4)) is None


def test_explained_models_are_laid_side_by_side(tmp_path):
    """Shares, ranks and agreement of several explanations, with names that are markup."""
    folders = [tmp_path / name for name in ("one", "two")]
    for at, folder in enumerate(folders):
        values = np.random.default_rng(at).normal(size=(30, len(HOSTILE)))
        write(an_explanation(30, len(HOSTILE), 0, names=HOSTILE, values=values), folder)
    comparison.write(folders, ["0: A <b>", "1: B"], tmp_path / "both")
    content = json.loads((tmp_path / "both/comparison.json").read_text(encoding="utf-8"))
    assert len(content["features"]) == len(HOSTILE)
    np.testing.assert_allclose(np.sum(content["importance_shares"], axis=1), 1, atol=1e-4)
    html = (tmp_path / "both/comparison.html").read_text(encoding="utf-8")
    assert "<img" not in html
    assert "<script" not in html
    assert "0: A &lt;b&gt;" in html


def test_missing_and_constant_data_can_be_drawn(tmp_path):
    """A column without any value, and one with a single value, have a place in the pictures."""
    data = np.random.default_rng(0).normal(size=(30, 6))
    data[:, 0] = np.nan
    data[:, 1] = 4.0
    write(an_explanation(data=data, values=np.zeros((30, 6, 3))), tmp_path)


def test_writing_again_replaces_the_files(tmp_path):
    """The same explanation gives the same summary; an older one leaves nothing behind."""
    write(an_explanation(n_rows=10), tmp_path)
    write(an_explanation(n_rows=20), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["n_rows"] == 20


def test_selected_rows_hold_every_class_in_proportion():
    """A rare class is there, and the others keep their shares."""
    y = np.array(["rare"] * 2 + ["some"] * 200 + ["most"] * 798)
    selection = select_rows(np.zeros((1000, 3)), y, 0, task="classification", n_rows=100)
    names, counts = np.unique(y[selection.rows], return_counts=True)
    assert list(names) == ["most", "rare", "some"]
    assert 78 <= counts[0] <= 81
    assert 18 <= counts[2] <= 21
    assert len(np.unique(selection.background)) == 100


def test_selecting_rows_is_a_matter_of_the_seed():
    """The same seed draws the same rows, another one others; few rows are all taken."""
    X, y = np.zeros((300, 2)), np.arange(300.0)
    first, again, other = (
        select_rows(X, y, seed, task="regression", n_rows=50) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.rows, again.rows)
    assert list(first.rows) != list(other.rows)
    assert list(range(7)) == list(select_rows(X[:7], y[:7], 0, task="regression").rows)


@pytest.mark.parametrize(("n_rows", "n_targets"), [(0, 0), (5, 4)])
def test_rows_without_their_targets_are_refused(n_rows, n_targets):
    """X and y must be of one length, and not empty."""
    with pytest.raises(DataError, match="same length"):
        select_rows(np.zeros((n_rows, 2)), np.zeros(n_targets), 0, task="regression")


def test_importing_the_room_imports_nothing_heavy():
    """shap, matplotlib and scikit-learn wait until an explanation is asked for."""
    code = (
        "import sys, mlflow_automl_remote.explain;"
        "print([n for n in ('shap', 'matplotlib', 'sklearn', 'mlflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
