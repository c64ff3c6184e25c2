"""Explanations add up, agree with Shapley's definition, and say what they are."""

from __future__ import annotations

import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_classification, make_regression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    LassoLars,
    LogisticRegression,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain import explain
from mlflow_automl_remote.explain.chains import chain_of, front_of
from mlflow_automl_remote.explain.fast_svm import accelerated
from mlflow_automl_remote.explain.outputs import whole_output
from mlflow_automl_remote.explain.sampled import AskedModel, Sampler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightgbm import LGBMClassifier, LGBMRegressor
    from xgboost import XGBClassifier, XGBRegressor

BUDGET_S = 60.0
SMALL = {"n_estimators": 12, "random_state": 0}

CLASSIFIERS = {
    "LogisticRegression": (StandardScaler(), LogisticRegression(), "linear", "margin", "margin"),
    "SGD": (StandardScaler(), SGDClassifier(random_state=0), "linear", "margin", "margin"),
    "SGD log": (
        MaxAbsScaler(),
        SGDClassifier(loss="log_loss", random_state=0),
        "linear",
        "margin",
        "margin",
    ),
    "linear behind PCA": (PCA(3), LogisticRegression(), "linear", "margin", "margin"),
    "linear behind SVD": (TruncatedSVD(3), LogisticRegression(), "linear", "margin", "margin"),
    "SGD behind Normalizer": (
        Normalizer(),
        SGDClassifier(random_state=0),
        "any",
        "margin",
        "margin",
    ),
    "MultinomialNB": (
        MinMaxScaler(clip=True),
        MultinomialNB(),
        "any",
        "probability",
        "probability",
    ),
    "BernoulliNB": (StandardScaler(), BernoulliNB(), "any", "probability", "probability"),
    "SVC": (StandardScaler(), SVC(), "any", "margin", "margin"),
    "calibrated SVC": (
        RobustScaler(),
        CalibratedClassifierCV(SVC(), cv=2),
        "any",
        "probability",
        "probability",
    ),
    "calibrated LinearSVC": (
        StandardScaler(),
        CalibratedClassifierCV(LinearSVC(), cv=2),
        "any",
        "probability",
        "probability",
    ),
    "KNN": (StandardScaler(), KNeighborsClassifier(), "any", "probability", "probability"),
    "DecisionTree": (
        MinMaxScaler(),
        DecisionTreeClassifier(random_state=0),
        "tree",
        "probability",
        "probability",
    ),
    "RandomForest": (
        RobustScaler(),
        RandomForestClassifier(**SMALL),
        "tree",
        "probability",
        "probability",
    ),
    "ExtraTrees": (
        StandardScaler(),
        ExtraTreesClassifier(**SMALL),
        "tree",
        "probability",
        "probability",
    ),
    "forest behind PCA": (
        PCA(3),
        RandomForestClassifier(**SMALL),
        "any",
        "probability",
        "probability",
    ),
    "GradientBoosting": (
        StandardScaler(),
        GradientBoostingClassifier(**SMALL),
        "tree",
        "margin",
        "margin",
    ),
    "LightGBM": (
        MaxAbsScaler(),
        LGBMClassifier(**SMALL, verbose=-1, n_jobs=1),
        "tree",
        "margin",
        "margin",
    ),
    "XGBoost": (
        StandardScaler(),
        XGBClassifier(**SMALL, n_jobs=1),
        "tree",
        "margin",
        "margin",
    ),
}
REGRESSORS = {
    "ElasticNet": (StandardScaler(), ElasticNet(), "linear"),
    "LassoLars": (MinMaxScaler(), LassoLars(), "linear"),
    "SGD": (StandardScaler(), SGDRegressor(random_state=0), "linear"),
    "KNN": (StandardScaler(), KNeighborsRegressor(), "any"),
    "ElasticNet behind Normalizer": (Normalizer(), ElasticNet(0.01), "any"),
    "DecisionTree": (RobustScaler(), DecisionTreeRegressor(random_state=0), "tree"),
    "RandomForest": (StandardScaler(), RandomForestRegressor(**SMALL), "tree"),
    "ExtraTrees": (MaxAbsScaler(), ExtraTreesRegressor(**SMALL), "tree"),
    "GradientBoosting": (StandardScaler(), GradientBoostingRegressor(**SMALL), "tree"),
    "LightGBM": (StandardScaler(), LGBMRegressor(**SMALL, verbose=-1, n_jobs=1), "tree"),
    "XGBoost": (StandardScaler(), XGBRegressor(**SMALL, n_jobs=1), "tree"),
    "LightGBM with a log link": (
        StandardScaler(),
        LGBMRegressor(**SMALL, objective="poisson", verbose=-1, n_jobs=1),
        "any",
    ),
}


def fitted(scaler, model, X, y):
    return Pipeline([("scaler", scaler), ("model", model)]).fit(X, y)


def classification(n_classes, n_columns=9):
    return make_classification(
        160,
        n_columns,
        n_informative=min(n_columns, 5),
        n_redundant=0,
        n_classes=n_classes,
        n_clusters_per_class=1,
        random_state=0,
    )


def regression(n_columns=9):
    X, y = make_regression(160, n_columns, n_informative=min(n_columns, 5), random_state=0)
    return X, np.exp(y / 200)


def explained(pipeline, background, X, **changes):
    classes = getattr(pipeline, "classes_", None)
    settings = {
        "feature_names": [f"f{i}" for i in range(X.shape[1])],
        "class_names": None if classes is None else [str(name) for name in classes],
        "task": "regression" if classes is None else "classification",
        "seed": 0,
        "budget_s": BUDGET_S,
    }
    return explain(pipeline, background, X, **(settings | changes))


def output_of(pipeline, explanation, X):
    """What the values must add up to, from the pipeline's public methods."""
    if explanation.output_space == "value":
        return pipeline.predict(X)
    if explanation.output_space == "probability":
        return pipeline.predict_proba(X)
    model, Z = pipeline[-1], pipeline[:-1].transform(X)
    if hasattr(model, "decision_function"):
        margin = model.decision_function(Z)
    elif isinstance(model, LGBMClassifier):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            margin = model.predict(Z, raw_score=True)
    else:
        margin = model.predict(Z, output_margin=True)
    return np.column_stack([-margin, margin]) if margin.ndim == 1 else margin


def off_by(pipeline, explanation):
    total = explanation.values.sum(axis=1) + (
        explanation.base_values if explanation.class_names else explanation.base_values[0]
    )
    return np.abs(total - output_of(pipeline, explanation, explanation.data)).max()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_values_of_a_classifier_add_up_to_its_output(name, n_classes):
    """Base value and SHAP values give the model's own answer, for every class, two classes too."""
    scaler, model, explainer, *spaces = CLASSIFIERS[name]
    X, y = classification(n_classes)
    pipeline = fitted(scaler, model, X, y)
    result = explained(pipeline, X[:40], X[-12:])
    assert (12, 9, n_classes) == result.values.shape
    assert (n_classes,) == result.base_values.shape
    assert spaces[n_classes - 2] == result.output_space
    assert result.explainer in ((explainer,) if explainer != "any" else ("permutation", "exact"))
    assert off_by(pipeline, result) < 1e-3
    assert (result.standard_error > 0) == (result.explainer == "permutation")
    assert result.complete


@pytest.mark.parametrize("name", REGRESSORS)
def test_the_values_of_a_regression_add_up_to_its_prediction(name):
    """Base value and SHAP values give the prediction."""
    scaler, model, explainer = REGRESSORS[name]
    X, y = regression()
    pipeline = fitted(scaler, model, X, y)
    result = explained(pipeline, X[:40], X[-12:])
    assert result.values.shape == (12, 9)
    assert result.base_values.shape == (1,)
    assert result.output_space == "value"
    assert result.explainer in ((explainer,) if explainer != "any" else ("permutation", "exact"))
    assert off_by(pipeline, result) < 1e-3


def brute_force(output, background, x):
    """Shapley's definition, coalition by coalition: (d, outputs)."""
    d = len(x)

    def worth(coalition):
        rows = background.copy()
        rows[:, list(coalition)] = x[list(coalition)]
        return output(rows).mean(axis=0)

    values = []
    for i in range(d):
        others = [j for j in range(d) if j != i]
        total = 0
        for size in range(d):
            weight = 1 / (d * math.comb(d - 1, size))
            for chosen in itertools.combinations(others, size):
                total = total + weight * (worth((*chosen, i)) - worth(chosen))
        values.append(total)
    return np.stack(values)


@pytest.mark.parametrize(
    ("scaler", "model", "explainer"),
    [
        (StandardScaler(), RandomForestClassifier(**SMALL), "tree"),
        (StandardScaler(), GradientBoostingClassifier(**SMALL), "tree"),
        (StandardScaler(), XGBClassifier(**SMALL, n_jobs=1), "tree"),
        (StandardScaler(), LGBMClassifier(**SMALL, verbose=-1, n_jobs=1), "tree"),
        (PCA(2), LogisticRegression(), "linear"),
        (Normalizer(), SVC(), "exact"),
    ],
    ids=["forest", "gradient boosting", "xgboost", "lightgbm", "linear behind PCA", "svc"],
)
def test_exact_values_are_shapleys(scaler, model, explainer):
    """Exact explainers agree with the definition, on raw columns, against the same background."""
    X, y = classification(3, n_columns=4)
    pipeline = fitted(scaler, model, X, y)
    background = X[:16]
    result = explained(pipeline, background, X[-5:])
    assert explainer == result.explainer
    for x, values in zip(result.data, result.values, strict=True):
        truth = brute_force(lambda rows: output_of(pipeline, result, rows), background, x)
        np.testing.assert_allclose(values, truth, atol=1e-4)


def asked(pipeline, X, background):
    chain = chain_of(pipeline)
    front = front_of(chain, X, background)
    return AskedModel(front=front, output=whole_output(front.rest)[0])


def test_sampled_values_are_within_their_stated_error_of_shapleys():
    """The distance to the definition is what `standard_error` says, neither more nor far less."""
    X, y = classification(3, n_columns=4)
    pipeline = fitted(StandardScaler(), KNeighborsClassifier(), X, y)
    sampler = Sampler(asked(pipeline, X[-20:], X[:16]), n_players=4, seed=3)
    sampler.is_exact = False
    attributed = sampler.attribute(np.arange(20), sampler.n_rounds)
    truth = np.stack([brute_force(pipeline.predict_proba, X[:16], x) for x in X[-20:]])
    distance = np.sqrt(((attributed.values - truth) ** 2).mean())
    stated = np.sqrt(attributed.squared_error.mean())
    assert 0.5 * stated < distance < 1.5 * stated


def test_enumerated_and_sampled_values_agree():
    """Both methods answer the same question."""
    X, y = classification(2, n_columns=6)
    pipeline = fitted(StandardScaler(), SVC(), X, y)
    sampler = Sampler(asked(pipeline, X[-4:], X[:8]), n_players=6, seed=0)
    exact = sampler.attribute(np.arange(4), 1)
    sampler.is_exact = False
    sampled = sampler.attribute(np.arange(4), sampler.n_rounds)
    assert exact.squared_error.max() == 0 < sampled.squared_error.max()
    assert np.abs(exact.values - sampled.values).max() < 6 * np.sqrt(sampled.squared_error.max())


@pytest.mark.parametrize(
    ("scaler", "model"),
    [
        # Its leaves hold 20 rows and more. Where few rows are split, columns tie, and the order
        # of the columns decides which one a tree takes.
        (StandardScaler(), LGBMRegressor(**SMALL, verbose=-1, n_jobs=1)),
        (StandardScaler(), ElasticNet()),
        (PCA(6), KNeighborsRegressor()),
    ],
    ids=["tree", "linear", "exact"],
)
def test_permuting_the_columns_permutes_the_answer(scaler, model):
    """A column's value does not depend on where the column stands."""
    X, y = regression(n_columns=6)
    turned = np.random.default_rng(1).permutation(6)
    straight = fitted(clone(scaler), clone(model), X, y)
    other = fitted(clone(scaler), clone(model), X[:, turned], y)
    direct = explained(straight, X[:7], X[-8:])
    permuted = explained(other, X[:7][:, turned], X[-8:][:, turned])
    assert direct.explainer == permuted.explainer
    np.testing.assert_allclose(direct.values[:, turned], permuted.values, atol=1e-4)


def test_values_and_thresholds_that_single_precision_cannot_tell_apart_stay_apart():
    """A forest on near-equal values adds up; shap by itself is off where they meet."""
    rng = np.random.default_rng(0)
    X = 1 + rng.integers(0, 40, (300, 4)) * np.finfo(np.float32).eps
    y = (X[:, 0] - 1) * 1e7 + rng.random(300)
    pipeline = fitted("passthrough", RandomForestRegressor(**SMALL), X, y)
    result = explained(pipeline, X[:40], X[-40:])
    assert result.explainer == "tree"
    assert off_by(pipeline, result) < 1e-3


class FakeClock:
    """Moves one second whenever it is looked at."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        self.now_s += 1
        return self.now_s


@pytest.mark.parametrize("model", [KNeighborsClassifier(), RandomForestClassifier(**SMALL)])
def test_when_the_budget_ends_the_rows_explained_so_far_are_kept(model):
    """A short budget gives a random part of the rows, complete in itself, and says so."""
    X, y = classification(2)
    pipeline = fitted(StandardScaler(), model, X, y)
    X = np.tile(X, (4, 1))
    seen = []
    part = explained(
        pipeline,
        X[:20],
        X,
        budget_s=2.5,
        clock=FakeClock(),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert not part.complete
    assert 0 < len(part.values) < 640 == part.n_requested
    assert (len(part.values), 640) == seen[-1]
    assert sorted(part.rows) == list(part.rows) != list(range(len(part.rows)))
    np.testing.assert_array_equal(X[part.rows], part.data)
    assert off_by(pipeline, part) < 1e-3


def test_a_row_is_explained_alike_with_and_without_the_others():
    """The sampled orders belong to the row, whichever rows come with it."""
    X, y = classification(2)
    pipeline = fitted(StandardScaler(), KNeighborsClassifier(), X, y)
    sampler = Sampler(asked(pipeline, X[:30], X[:16]), n_players=9, seed=0)
    whole = sampler.attribute(np.arange(30), 2).values
    np.testing.assert_allclose(whole[7:9], sampler.attribute(np.arange(7, 9), 2).values)


def test_threads_that_ask_side_by_side_change_no_value():
    """What is explained with several cores is what one core explains."""
    X, y = classification(3)
    pipeline = fitted(StandardScaler(), KNeighborsClassifier(), X, y)
    alone = explained(pipeline, X[:20], X[:12], budget_s=math.inf)
    together = explained(pipeline, X[:20], X[:12], budget_s=math.inf, n_jobs=3)
    np.testing.assert_allclose(together.values, alone.values)
    assert together.standard_error == pytest.approx(alone.standard_error)


class SlowNeighbors(KNeighborsClassifier):
    """Takes a second for each thousand rows, on a clock that nothing else moves."""

    now_s = 0.0

    def predict_proba(self, X):
        SlowNeighbors.now_s += len(X) / 1000
        return super().predict_proba(X)


def test_a_slow_model_is_sampled_less_so_that_more_rows_are_explained():
    """A third of the time that all rows take in full is enough for most of them."""
    X, y = classification(2)
    pipeline = fitted(StandardScaler(), SlowNeighbors(), X, y)

    def within(budget_s):
        SlowNeighbors.now_s = 0.0
        return explained(pipeline, X[:20], X, budget_s=budget_s, clock=lambda: SlowNeighbors.now_s)

    thorough = within(math.inf)
    whole_s = SlowNeighbors.now_s
    hasty = within(whole_s / 3)
    assert thorough.complete
    assert len(hasty.values) > 0.8 * len(X)
    assert SlowNeighbors.now_s < 1.2 * whole_s / 3
    assert hasty.standard_error > thorough.standard_error
    assert off_by(pipeline, hasty) < 1e-3


@pytest.mark.parametrize("name", ["LogisticRegression", "RandomForest", "XGBoost", "KNN"])
def test_a_constant_column_has_no_influence(name):
    """Its value is zero for every row and class."""
    scaler, model, *_ = CLASSIFIERS[name]
    X, y = classification(3)
    X[:, 2] = 7.0
    result = explained(fitted(scaler, model, X, y), X[:30], X[-9:])
    np.testing.assert_allclose(result.values[:, 2], 0, atol=1e-12)


@pytest.mark.parametrize("name", REGRESSORS)
def test_one_column_and_one_row_are_enough(name):
    """The only column explains the whole distance to the base value."""
    scaler, model, _ = REGRESSORS[name]
    X, y = regression(n_columns=1)
    pipeline = fitted(scaler, model, X, y)
    result = explained(pipeline, X[:1], X[-1:])
    assert result.values.shape == (1, 1)
    assert off_by(pipeline, result) < 1e-3


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_fast_svm_answers_as_libsvm_does(n_classes):
    """Explaining a kernel SVM asks a faster copy, whose answers are the same."""
    X, y = classification(n_classes)
    for kernel in ("rbf", "poly", "sigmoid", "linear"):
        machine = SVC(kernel=kernel)
        for model in (
            machine,
            CalibratedClassifierCV(machine, cv=2),
            CalibratedClassifierCV(OneVsRestClassifier(machine), ensemble=False, cv=2),
        ):
            front = front_of(chain_of(fitted(StandardScaler(), model, X, y)), X, X)
            fast = accelerated(front)
            assert fast is not front.rest
            np.testing.assert_allclose(
                whole_output(fast)[0](front.rows.X),
                whole_output(front.rest)[0](front.rows.X),
                atol=1e-4,
                rtol=1e-4,
            )


def test_a_pipeline_fitted_on_a_frame_is_explained_without_complaint():
    """Column names that the pipeline was fitted with are given back to it."""
    import pandas as pd

    X, y = classification(2)
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(9)])
    for name in ("KNN", "LightGBM", "LogisticRegression"):
        scaler, model, *_ = CLASSIFIERS[name]
        pipeline = fitted(scaler, model, frame, y)
        result = explained(pipeline, frame[:20], frame[-4:], feature_names=list(frame.columns))
        assert result.feature_names[0] == "column 0"


@pytest.mark.parametrize(
    "model",
    [
        XGBRegressor(booster="gblinear", n_jobs=1),
        XGBRegressor(**SMALL, booster="dart", rate_drop=0.5, n_jobs=1),
        LGBMRegressor(**SMALL, linear_tree=True, verbose=-1, n_jobs=1),
        LGBMRegressor(**SMALL, boosting_type="dart", verbose=-1, n_jobs=1),
    ],
    ids=["linear booster", "xgboost dart", "linear leaves", "lightgbm dart"],
)
def test_boosters_that_are_not_plain_sums_of_trees_are_explained_as_well(model):
    """Where shap cannot read a booster, or reads it wrongly, the booster itself is asked."""
    X, y = regression()
    pipeline = fitted(StandardScaler(), model, X, y)
    result = explained(pipeline, X[:20], X[-9:])
    assert off_by(pipeline, result) < 1e-3


def test_missing_values_are_explained_where_the_model_takes_them():
    """Boosters take NaN; the explanation still adds up."""
    X, y = classification(3)
    X[::5, 1] = np.nan
    for name in ("XGBoost", "LightGBM"):
        scaler, model, *_ = CLASSIFIERS[name]
        pipeline = fitted(scaler, model, X, y)
        result = explained(pipeline, X[:30], X[-20:])
        assert result.explainer == "tree"
        assert off_by(pipeline, result) < 1e-3


def test_an_explanation_travels_between_processes():
    """It can be pickled, and says which pipeline it is about."""
    X, y = classification(2)
    model = CalibratedClassifierCV(SVC(), cv=2)
    result = explained(fitted(StandardScaler(), model, X, y), X[:9], X[-3:])
    back = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(result.values, back.values)
    assert back.pipeline == "StandardScaler > CalibratedClassifierCV(SVC)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"feature_names": ["a"]}, "one column per feature name"),
        ({"class_names": ["a", "b"]}, "one name per class"),
        ({"task": "regression", "class_names": None}, "None for regression"),
    ],
)
def test_names_that_do_not_fit_are_refused(changes, words):
    """The message says what was expected, what came, and what to give."""
    X, y = classification(3)
    pipeline = fitted(StandardScaler(), LogisticRegression(), X, y)
    with pytest.raises(DataError, match=words):
        explained(pipeline, X[:5], X[:5], **changes)


def test_a_hundred_digits_by_a_support_vector_machine_are_explained_in_seconds():
    """64 columns, 10 classes and a kernel SVM are within a small budget on one core."""
    X, y = load_digits(return_X_y=True)
    model = CalibratedClassifierCV(SVC(gamma=0.02), ensemble=False, cv=3)
    pipeline = fitted(StandardScaler(), model, X[:1500], y[:1500])
    result = explained(pipeline, X[:100], X[-100:], budget_s=20)
    assert result.complete
    assert result.explainer == "permutation"
    assert off_by(pipeline, result) < 1e-3
