"""Every family of the engine is explained by raw columns, whatever stands in front of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parent))
import engine

from mlflow_automl_remote.automl import assembly, data
from mlflow_automl_remote.automl.components import MODELS
from mlflow_automl_remote.explain.chains import chain_of
from mlflow_automl_remote.explain.ensembles import as_parts
from mlflow_automl_remote.explain.outputs import whole_output

FAMILIES = [(task, name) for task in ("classification", "regression") for name in MODELS[task]]
EXACT_TREES = (
    "DecisionTree", "RandomForest", "ExtremeRandomTrees", "GradientBoosting",
    "HistGradientBoosting", "LightGBM", "XGBoost",
)  # fmt: skip
"""Over a table with categories; CatBoost asks for statistics of theirs, which are no splits."""


@pytest.fixture(scope="module")
def of_task():
    """Gives the data of a task, and models fitted on it once."""
    datasets = {task: engine.dataset(task) for task in ("classification", "regression")}
    models = {}

    def model(task, name):
        if (task, name) not in models:
            models[task, name] = engine.fitted(name, datasets[task])
        return models[task, name]

    return lambda task: (datasets[task], lambda name: model(task, name))


TASKS = pytest.mark.parametrize("task", ["classification", "regression"])


def check(model, X, n_rows=3, n_background=8):
    """Additivity and Shapley's definition on raw columns."""
    background, rows = (
        engine.rows_of(X, slice(0, n_background)),
        engine.rows_of(X, slice(-n_rows, None)),
    )
    result = engine.explained(model, background, rows)
    assert result.complete
    assert engine.off_by(model, rows, result) < 1e-3
    values = result.per_output()
    for row in range(n_rows):
        truth = engine.brute_force(model, result, background, rows, row)
        np.testing.assert_allclose(values[row], truth, atol=1e-3 * max(1, np.abs(truth).max()))
    return result


@pytest.mark.parametrize(("task", "name"), FAMILIES)
def test_a_family_over_a_mixed_table_is_explained_as_shapley_defines_it(task, name, of_task):
    """One-hot, text, date and target-encoded parts count for the column that they come from."""
    found, model = of_task(task)
    result = check(model(name), found.X)
    assert (result.explainer == "tree") == (name in EXACT_TREES)
    assert result.feature_names == ("age", "vip", "town", "shop", "since", "note")
    assert result.standard_error == 0


@TASKS
@pytest.mark.parametrize("scaler", ["Normalizer", "PCA"])
def test_a_family_behind_steps_that_mix_columns_is_explained_by_raw_columns(scaler, task, of_task):
    """What mixes columns is part of what is asked."""
    found, _ = of_task(task)
    check(engine.fitted("RandomForest", found, scaler), found.X)


@pytest.mark.parametrize("name", ["LightGBM", "LogisticRegression"])
def test_pairs_of_categories_count_for_both_columns(name):
    """What two columns say together is shared between them, as Shapley defines it."""
    rng = np.random.default_rng(0)
    shop, area = rng.integers(0, 30, (2, 600))
    table = engine.table(600)[["age", "vip"]].assign(shop=shop, area=area)
    table = table.assign(**{name: table[name].map("c{}".format) for name in ("shop", "area")})
    found = data.check(
        {"X": table, "y": rng.integers(0, 2, (30, 30))[shop, area]}, "classification"
    )
    result = check(engine.fitted(name, found), found.X)
    assert result.feature_names == ("age", "vip", "shop", "area")
    found_by = np.abs(result.per_output()).mean(axis=(0, 2))
    assert found_by[2:].min() > found_by[:2].max()


@TASKS
def test_a_vote_is_explained_as_shapley_defines_it(task, of_task):
    """Exact members are added up; those whose probabilities trees do not give are asked."""
    found, model = of_task(task)
    forests = engine.vote([model("RandomForest"), model("DecisionTree")], [2.0, 1.0])
    assert check(forests, found.X).explainer == "members"
    mixed = engine.vote([model("RandomForest"), model("LightGBM"), model("KNN")], [1.0, 2.0, 1.0])
    assert check(mixed, found.X).explainer == "members+exact"
    booster = model("LightGBM")
    boosters = engine.vote([booster, model("XGBoost")], [1.0, 1.0])
    expected = "exact" if task == "classification" else "members"
    assert check(boosters, found.X).explainer == expected


def test_trees_that_add_up_to_a_logarithm_are_explained_in_units_of_the_target():
    """Alone and in a vote, of which other members are still exact."""
    found = engine.dataset("regression")
    logs = engine.fitted("LightGBM", found, objective="poisson")
    assert type(logs[-1]).__name__ == "LGBMRegressor"
    assert logs[-1].objective_ == "poisson"
    assert check(logs, found.X).explainer == "exact"
    forest = engine.fitted("RandomForest", found)
    assert check(engine.vote([forest, logs], [1.0, 2.0]), found.X).explainer == "members+exact"


@TASKS
def test_a_stack_is_explained_as_shapley_defines_it(task, of_task):
    """Its margin, or its value, is a weighted sum of what its members answer."""
    found, model = of_task(task)
    members = [model("RandomForest"), model("CatBoost"), model("KNN")]
    if task == "regression":
        fed = np.column_stack([one.predict(found.X) for one in members])
        final = make_pipeline(StandardScaler(), Ridge()).fit(fed, found.y)
        stacked = engine.stack(members, final)
    else:
        fed = np.hstack([one.predict_proba(found.X) for one in members])
        codes = np.searchsorted(found.classes, found.y)
        final = make_pipeline(StandardScaler(), LogisticRegression()).fit(fed, codes)
        stacked = engine.stack(members, final, found.classes)
    result = check(stacked, found.X)
    assert result.explainer == "members+exact"
    assert result.output_space == ("value" if task == "regression" else "margin")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_vote_at_a_temperature_and_a_stack_with_a_forest_are_asked_by_their_members(n_classes):
    """What they make of their answers is no sum; it is explained as Shapley defines it."""
    found = engine.dataset("classification", n_classes)
    members = [engine.fitted(name, found) for name in ("ExtremeRandomTrees", "KNN", "LightGBM")]
    mean = engine.vote(members[:2], [2.0, 1.0])
    fed = np.hstack(
        [one.predict_proba(found.X)[:, n_classes == 2 :] for one in (mean, members[2])]
    )
    codes = np.searchsorted(found.classes, found.y)
    forest = ExtraTreesClassifier(5, random_state=0).fit(fed, codes)
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(fed, codes)
    stacked = engine.stack(
        [mean, members[2]], engine.vote([forest, linear], [1, 1]), found.classes
    )
    for model in (stacked, assembly.at_temperature(engine.vote(members, [1, 1, 1]), 0.5)):
        assert check(model, found.X).explainer == "exact"
        chain = chain_of(model)
        parts = as_parts(chain)
        answers = [whole_output(member)[0](found.X) for member in parts.members]
        np.testing.assert_allclose(parts.combine(answers), model.predict_proba(found.X))


def test_a_stack_of_numbers_with_a_forest_is_asked_by_its_members():
    """The same of numbers, of which the last one is a vote as well."""
    found = engine.dataset("regression")
    members = [engine.fitted(name, found) for name in ("ExtremeRandomTrees", "KNN", "LightGBM")]
    mean = engine.vote(members[:2], [2.0, 1.0])
    fed = np.column_stack([one.predict(found.X) for one in (mean, members[2])])
    forest = ExtraTreesRegressor(5, random_state=0).fit(fed, found.y)
    linear = make_pipeline(StandardScaler(), Ridge()).fit(fed, found.y)
    stacked = engine.stack([mean, members[2]], engine.vote([forest, linear], [1, 1]))
    assert check(stacked, found.X).explainer == "exact"
    parts = as_parts(chain_of(stacked))
    answers = [whole_output(member)[0](found.X) for member in parts.members]
    predicted = stacked.predict(found.X)
    np.testing.assert_allclose(parts.combine(answers)[:, 0], predicted)


def test_an_ensemble_of_two_classes_speaks_for_both():
    """The second class gains what the first loses."""
    found = engine.dataset("classification", n_classes=2)
    members = [engine.fitted(name, found) for name in ("ExtremeRandomTrees", "KNN")]
    result = check(engine.vote(members, [1.0, 1.0]), found.X)
    np.testing.assert_allclose(result.values[..., 0], -result.values[..., 1], atol=1e-9)
    fed = np.column_stack([one.predict_proba(found.X)[:, 1] for one in members])
    final = make_pipeline(StandardScaler(), LogisticRegression())
    final.fit(fed, np.searchsorted(found.classes, found.y))
    check(engine.stack(members, final, found.classes), found.X)


def sparse_dataset(n_columns=400, n_rows=120, n_classes=3):
    rng = np.random.default_rng(0)
    X = sparse.random(n_rows, n_columns, density=0.05, format="csr", random_state=0)
    signal = np.asarray(X[:, :40].sum(axis=1)).ravel() + rng.normal(0, 0.1, n_rows)
    y = np.searchsorted(np.quantile(signal, [1 / 3, 2 / 3][: n_classes - 1]), signal)
    return data.check({"X": X, "y": y}, "classification")


@pytest.mark.parametrize("name", ["LightGBM", "XGBoost", "RandomForest", "LogisticRegression"])
def test_a_sparse_matrix_is_explained_exactly_by_trees_and_linear_models(name):
    """All columns have values, those that are zero everywhere the value zero."""
    found = sparse_dataset()
    model = engine.fitted(name, found)
    background, rows = found.X[:20], found.X[-10:]
    result = engine.explained(model, background, rows)
    assert result.values.shape == (10, 400, 3)
    assert result.explainer in ("tree", "linear")
    assert engine.off_by(model, rows, result) < 1e-3
    silent = np.setdiff1d(np.arange(400), sparse.vstack([background, rows]).indices)
    assert np.abs(result.values[:, silent]).max() == 0


def test_a_sparse_matrix_is_explained_by_asking_where_there_is_no_other_way():
    """Only columns in which a row differs from the background are walked through."""
    found = sparse_dataset(n_columns=2000)
    model = engine.fitted("MultinomialNaiveBayes", found, "MaxAbsScaler")
    result = engine.explained(model, found.X[:20], found.X[-2:])
    assert engine.off_by(model, found.X[-2:], result) < 1e-3
    assert result.explainer == "permutation"


def test_a_thousand_columns_and_thirty_classes_are_explained():
    """By trees all of it; by asking as many rows as the budget allows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 1000)), np.arange(300) % 30
    X[np.arange(300), y] += 3
    found = data.check({"X": X, "y": y}, "classification")
    forest = engine.fitted("RandomForest", found)
    result = engine.explained(forest, X[:20], X[-10:])
    assert result.values.shape == (10, 1000, 30)
    assert engine.off_by(forest, X[-10:], result) < 1e-3
    neighbours = engine.fitted("KNN", found)
    part = engine.explained(neighbours, X[:20], X[-10:], budget_s=0.1)
    assert 1 <= len(part.rows) < 10
    assert not part.complete
    assert part.standard_error > 0
    assert engine.off_by(neighbours, X[-10:], part) < 1e-3


def test_engineered_features_are_explained_on_request():
    """Each category and each part of a date has values of its own, which add up alike."""
    found = engine.dataset("regression")
    model = engine.fitted("RandomForest", found)
    result = engine.explained(model, found.X[:10], found.X[-5:], features="engineered")
    assert {"age", "town_Rome", "since_days", "shop_mean"} <= set(result.feature_names)
    assert engine.off_by(model, found.X[-5:], result) < 1e-3


def test_permuting_the_columns_of_a_table_permutes_the_answer():
    """A column's value does not depend on where the column stands."""
    found = engine.dataset("classification")
    for name in ("LogisticRegression", "KNN"):
        model = engine.fitted(name, found)
        turned = list(found.X.columns[[3, 0, 5, 2, 1, 4]])
        straight = engine.explained(model, found.X[:8], found.X[-4:])
        other = engine.explained(model, found.X[:8][turned], found.X[-4:][turned])
        places = [other.feature_names.index(column) for column in straight.feature_names]
        np.testing.assert_allclose(straight.values, other.values[:, places], atol=1e-6)


def test_what_the_rows_hold_can_be_shown():
    """Categories, texts and dates have numbers to place them by and words to read."""
    found = engine.dataset("classification")
    result = engine.explained(engine.fitted("LightGBM", found), found.X[:8], found.X[-4:])
    rows = found.X.iloc[-4:]
    for row in range(4):
        town = rows["town"].iloc[row]
        shown = [result.shown(column, result.data[row, column]) for column in (2, 4, 5)]
        assert shown[0] == (town if isinstance(town, str) else "missing")
        assert shown[1][:10] == str(rows["since"].iloc[row])[:10]
        assert shown[2] == rows["note"].iloc[row]
