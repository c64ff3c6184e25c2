"""All metrics against scikit-learn's, or against their formula where it has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

from mlflow_automl_remote.automl import metrics
from mlflow_automl_remote.config import CLASSIFICATION_METRICS, METRICS, REGRESSION_METRICS
from mlflow_automl_remote.config.catalogue import SCORERS
from mlflow_automl_remote.errors import DataError


def _case(
    n_classes: int, *, n_rows: int = 200, digits: int | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make labels and probabilities that know something of them; `digits` makes ties."""
    rng = np.random.default_rng(seed)
    y = rng.choice(
        n_classes, n_rows, p=np.arange(1, n_classes + 1) / np.arange(n_classes + 1).sum()
    )
    raw = rng.random((n_rows, n_classes)) + 0.7 * np.eye(n_classes)[y]
    if digits is not None:
        raw = np.round(raw, digits) + 0.01
    return y, raw / raw.sum(axis=1, keepdims=True)


CASES = [_case(2), _case(2, digits=1), _case(5), _case(5, digits=1), _case(10, n_rows=357)]


@pytest.mark.parametrize(("y", "p"), CASES)
def test_classification_metrics_equal_those_of_scikit_learn(y: np.ndarray, p: np.ndarray) -> None:
    """Two classes and many, with and without ties between probabilities."""
    classes = np.arange(p.shape[1])
    got = metrics.score_classification(y, p, classes=classes)
    assert set(CLASSIFICATION_METRICS) == set(got)
    indicator, predicted = np.eye(len(classes))[y], p.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        "log_loss": sk.log_loss(y, p, labels=classes),
        "norm_macro_recall": sk.balanced_accuracy_score(y, predicted, adjusted=True),
        "weighted_accuracy": np.average(y == predicted, weights=np.bincount(y)[y]),
    }
    for average in ("macro", "micro", "weighted"):
        expected |= {
            f"AUC_{average}": sk.roc_auc_score(indicator, p, average=average),
            f"average_precision_score_{average}": sk.average_precision_score(
                indicator, p, average=average
            ),
            f"f1_score_{average}": sk.f1_score(y, predicted, average=average),
            f"precision_score_{average}": sk.precision_score(
                y, predicted, average=average, zero_division=0
            ),
            f"recall_score_{average}": sk.recall_score(y, predicted, average=average),
        }
    assert expected == pytest.approx(got, abs=1e-12)


def test_the_auc_of_two_classes_is_that_of_the_positive_class() -> None:
    """Macro and weighted agree with the usual binary AUC."""
    y, p = CASES[0]
    got = metrics.score_classification(y, p, classes=np.arange(2))
    expected = pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert got["AUC_macro"] == expected
    assert got["AUC_weighted"] == expected


def test_classes_that_are_not_in_a_fold_are_left_out_of_the_averages() -> None:
    """Nothing is NaN as long as two classes occur."""
    y, p = _case(4)
    keep = (y == 1) | (y == 3)
    got = metrics.score_classification(y[keep], p[keep], classes=np.arange(4))
    assert all(math.isfinite(value) for value in got.values())
    aucs = [sk.roc_auc_score(y[keep] == c, p[keep][:, c]) for c in (1, 3)]
    assert got["AUC_macro"] == pytest.approx(np.mean(aucs))
    recalls = [np.mean(p[y == c].argmax(axis=1) == c) for c in (1, 3)]
    assert got["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_a_fold_with_one_class_has_no_auc_and_raises_nothing() -> None:
    """AUC is NaN there; the metrics that make sense are not."""
    got = metrics.score_classification(
        np.array(["a", "a"]), np.array([[0.9, 0.1], [0.2, 0.8]]), classes=np.array(["a", "b"])
    )
    assert math.isnan(got["AUC_weighted"])
    assert got["accuracy"] == 0.5


def test_certain_and_wrong_probabilities_cost_a_finite_log_loss() -> None:
    """Probabilities are clipped as scikit-learn does."""
    p = np.array([[1.0, 0.0], [1.0, 0.0]])
    got = metrics.score_classification(np.array([0, 1]), p, classes=np.arange(2))
    assert got["log_loss"] == pytest.approx(sk.log_loss([0, 1], p))


def test_regression_metrics_equal_those_of_scikit_learn() -> None:
    """The normalised ones are divided by the range of all data."""
    rng = np.random.default_rng(0)
    y = rng.gamma(2.0, 5.0, 300)
    predicted = np.abs(y + rng.normal(0, 2, 300))
    got = metrics.score_regression(y, predicted, y_min=0.0, y_max=50.0)
    assert set(REGRESSION_METRICS) == set(got)
    errors = {
        "mean_absolute_error": sk.mean_absolute_error(y, predicted),
        "median_absolute_error": sk.median_absolute_error(y, predicted),
        "root_mean_squared_error": sk.root_mean_squared_error(y, predicted),
        "root_mean_squared_log_error": sk.root_mean_squared_log_error(y, predicted),
    }
    expected = {
        **errors,
        **{f"normalized_{name}": value / 50 for name, value in errors.items()},
        "explained_variance": sk.explained_variance_score(y, predicted),
        "r2_score": sk.r2_score(y, predicted),
        "spearman_correlation": spearmanr(y, predicted).statistic,
    }
    assert expected == pytest.approx(got)


def test_undefined_regression_metrics_are_nan_without_a_warning() -> None:
    """A constant target, and a negative one."""
    constant = metrics.score_regression(np.ones(3), np.ones(3), y_min=1.0, y_max=1.0)
    assert math.isnan(constant["normalized_mean_absolute_error"])
    assert math.isnan(constant["spearman_correlation"])
    assert constant["r2_score"] == 1.0
    negative = metrics.score_regression(
        np.array([-1.0, 2.0]), np.array([0.0, 2.0]), y_min=-1.0, y_max=2.0
    )
    assert math.isnan(negative["root_mean_squared_log_error"])


def test_negative_predictions_of_a_positive_target_count_as_zero() -> None:
    """One of them must not make the whole iteration worthless."""
    got = metrics.score_regression(
        np.array([0.0, 1.0]), np.array([-5.0, 1.0]), y_min=0.0, y_max=1.0
    )
    assert got["root_mean_squared_log_error"] == 0.0


def test_a_metric_that_is_undefined_in_one_fold_is_undefined_on_average() -> None:
    """Folds keep their own values."""
    per_fold = [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": math.nan}]
    mean = metrics.mean_over_folds(per_fold)
    assert mean["a"] == 2.0
    assert math.isnan(mean["b"])
    assert metrics.by_name(per_fold)["a"] == [1.0, 3.0]


weights_and_seed = st.tuples(
    st.integers(2, 6), st.integers(0, 10_000), st.sampled_from([None, 1, 2])
)


@settings(max_examples=40, deadline=None)
@given(weights_and_seed)
def test_weighted_classification_metrics_equal_those_of_scikit_learn(
    case: tuple[int, int, int | None],
) -> None:
    """Whatever the classes, the weights and the ties; rows of weight 0 do not exist."""
    n_classes, seed, digits = case
    y, p = _case(n_classes, n_rows=60, digits=digits, seed=seed)
    w = np.random.default_rng(seed).choice([0.0, 0.5, 1.0, 3.0], len(y))
    w[[np.flatnonzero(y == c)[0] for c in np.unique(y)]] = 1.0
    classes = np.arange(n_classes)
    got = metrics.score_classification(y, p, classes=classes, sample_weight=w)
    predicted, here = p.argmax(axis=1), np.unique(y)
    expected = {
        "accuracy": sk.accuracy_score(y, predicted, sample_weight=w),
        "log_loss": sk.log_loss(y, p, labels=classes, sample_weight=w),
        "AUC_macro": np.mean([sk.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in here]),
        "average_precision_score_weighted": np.average(
            [sk.average_precision_score(y == c, p[:, c], sample_weight=w) for c in here],
            weights=[w[y == c].sum() for c in here],
        ),
        "average_precision_score_micro": sk.average_precision_score(
            np.eye(n_classes)[y], p, average="micro", sample_weight=w
        ),
        "f1_score_weighted": sk.f1_score(
            y, predicted, average="weighted", sample_weight=w, zero_division=0
        ),
    }
    assert expected == pytest.approx({name: got[name] for name in expected}, abs=1e-9)
    kept = w > 0
    without = metrics.score_classification(
        y[kept], p[kept], classes=classes, sample_weight=w[kept]
    )
    assert without == pytest.approx(got, abs=1e-9)
    for name, value in got.items():
        alone = metrics.score_classification(y, p, classes=classes, sample_weight=w, only=name)
        assert alone[name] == value


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_weighted_regression_metrics_equal_those_of_scikit_learn(seed: int, ties: bool) -> None:
    """A whole number as a weight is the same as so many rows."""
    rng = np.random.default_rng(seed)
    y, predicted = rng.gamma(2.0, 5.0, 40), rng.gamma(2.0, 5.0, 40)
    if ties:
        y, predicted = np.round(y), np.round(predicted)
    w = rng.integers(0, 4, 40).astype(float)
    w[0] = 1.0
    got = metrics.score_regression(y, predicted, y_min=0.0, y_max=10.0, sample_weight=w)
    expected = {
        "mean_absolute_error": sk.mean_absolute_error(y, predicted, sample_weight=w),
        "median_absolute_error": sk.median_absolute_error(y, predicted, sample_weight=w),
        "root_mean_squared_error": sk.root_mean_squared_error(y, predicted, sample_weight=w),
        "root_mean_squared_log_error": sk.root_mean_squared_log_error(
            y, predicted, sample_weight=w
        ),
        "explained_variance": sk.explained_variance_score(y, predicted, sample_weight=w),
        "r2_score": sk.r2_score(y, predicted, sample_weight=w),
    }
    assert expected == pytest.approx({name: got[name] for name in expected})
    times = w.astype(int)
    repeated = metrics.score_regression(
        np.repeat(y, times), np.repeat(predicted, times), y_min=0.0, y_max=10.0
    )
    del repeated["spearman_correlation"]  # ranks are those without weights
    assert repeated == pytest.approx({name: got[name] for name in repeated})


def test_the_standard_error_of_a_mean_over_folds() -> None:
    """One fold says nothing of it."""
    assert metrics.standard_error([1.0, 2.0, 3.0]) == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(metrics.standard_error([1.0]))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.booleans(), st.integers(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_metrics_of_a_positive_label_are_those_of_scikit_learn(
    seed: int, n_rows: int, weighted: bool, positive: int
) -> None:
    """With ties, with weights, and where a class has no row."""
    rng = np.random.default_rng(seed)
    classes = np.array(["no", "yes"])
    y = classes[rng.integers(0, 2, n_rows)]
    share = rng.integers(0, 6, n_rows) / 5
    probabilities = np.column_stack([1 - share, share])
    weight = rng.integers(1, 4, n_rows).astype(float) if weighted else None
    found = metrics.score_binary(
        y, probabilities, classes=classes, positive=positive, sample_weight=weight
    )
    is_true = y == classes[positive]
    said = probabilities.argmax(axis=1) == positive
    more = {"sample_weight": weight}
    for name, function in (
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
        ("f1", sk.f1_score),
    ):
        expected = function(is_true, said, zero_division=0, **more)
        assert found[f"{name}_score_binary"] == pytest.approx(expected)
    if is_true.any() and not is_true.all():
        scores = probabilities[:, positive]
        assert found["AUC_binary"] == pytest.approx(sk.roc_auc_score(is_true, scores, **more))
        expected = sk.average_precision_score(is_true, scores, **more)
        assert found["average_precision_score_binary"] == pytest.approx(expected)
    else:
        assert math.isnan(found["AUC_binary"])


def test_every_scorer_of_scikit_learn_can_be_the_primary_metric() -> None:
    """All names are known by their task, but those for clusterings and for several labels."""
    others = {name for name in sk.get_scorer_names() if not name.endswith("_samples")}
    others -= {name for name in others if "rand_score" in name or "mutual_info" in name}
    others -= {"completeness_score", "fowlkes_mallows_score", "homogeneity_score"}
    others -= {"v_measure_score", *METRICS["classification"], *METRICS["regression"]}
    assert others == {*SCORERS["classification"], *SCORERS["regression"]}


@pytest.mark.filterwarnings("ignore:'k' .2. greater than or equal to 'n_classes' .2.")
@pytest.mark.parametrize("name", SCORERS["classification"])
@pytest.mark.parametrize("labels", [("no", "yes"), ("a", "b", "c")])
def test_a_scorer_says_of_predictions_what_it_says_of_the_classifier(
    name: str, labels: tuple[str, ...]
) -> None:
    """Labels of any type; one that takes no such labels is refused before anything is fitted."""
    rng = np.random.default_rng(0)
    classes = np.array(labels)
    X = rng.random((90, 2))
    codes = ((0.7 * X[:, 0] + 0.3 * rng.random(90)) * len(labels)).astype(int)
    weight = rng.random(90)
    flipped = len(labels) - 1 - codes
    model = GaussianNB().fit(X, codes)
    try:
        metrics.refuse_unfit(name, classes[codes], classes, None)
    except DataError as error:
        assert f"'{name}'" in str(error)
        with pytest.raises(ValueError, match=r"multiclass|multi_class|binary"):
            sk.get_scorer(name)(model, X, codes)
        return
    got = metrics.score_by_scorer(name, classes[codes], model.predict_proba(X), classes=classes)
    assert sk.get_scorer(name)(model, X, codes) == pytest.approx(got)
    weighted = metrics.score_by_scorer(
        name, classes[codes], model.predict_proba(X), classes=classes, sample_weight=weight
    )
    assert math.isfinite(weighted)
    if len(labels) == 2:
        first = metrics.score_by_scorer(
            name, classes[flipped], model.predict_proba(X)[:, ::-1], classes=classes, positive=0
        )
        assert got == pytest.approx(first)


@pytest.mark.parametrize("name", SCORERS["regression"])
def test_a_scorer_says_of_predicted_numbers_what_it_says_of_the_regressor(name: str) -> None:
    """With weights where it takes any; errors come with their sign turned, as it gives them."""
    rng = np.random.default_rng(0)
    X = rng.random((60, 1))
    y = 1 + X[:, 0] + 0.1 * rng.random(60)
    model = LinearRegression().fit(X, y)
    metrics.refuse_unfit(name, y, None, None)
    got = metrics.score_by_scorer(name, y, model.predict(X))
    assert sk.get_scorer(name)(model, X, y) == pytest.approx(got)
    assert math.isfinite(
        metrics.score_by_scorer(name, y, model.predict(X), sample_weight=rng.random(60))
    )


def test_a_scorer_without_an_answer_gives_nan_and_no_warning() -> None:
    """Such as the area under a curve where a fold has one class only."""
    p = np.array([[0.4, 0.6], [0.5, 0.5]])
    found = metrics.score_by_scorer("roc_auc", np.array([1, 1]), p, classes=np.arange(2))
    assert math.isnan(found)
    with pytest.raises(DataError, match="strictly positive"):
        metrics.refuse_unfit("neg_mean_gamma_deviance", np.array([0.0, 1.0]), None, None)
