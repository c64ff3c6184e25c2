"""What every component must do, found by the registry: a new one is tested by naming it there."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning

from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import (
    FEWEST_TO_STOP_EARLY,
    MAX_ROUNDS,
    Component,
)
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.automl.splits import Splits, make_splits
from mlflow_automl_remote.config import MODELS as CONFIGURED
from mlflow_automl_remote.config import AutoMLConfig, Task

N_ROWS = 60
ALL_MODELS = [(task, name) for task, models in MODELS.items() for name in models]
ALL_STEPS = [
    *(pytest.param(component, id=component.name) for component in SCALERS.values()),
    *(pytest.param(MODELS[task][name], id=f"{task}-{name}") for task, name in ALL_MODELS),
]


def _dataset(task: Task, folder: Path) -> data.Dataset:
    """Make 60 rows with text labels that are not codes, as read-only memory maps."""
    if task == "classification":
        X, codes = make_classification(N_ROWS, 6, n_informative=4, n_classes=3, random_state=0)
        raw = {"X": X, "y": np.array(["ape", "bee", "cat"])[codes]}
    else:
        X, y = make_regression(N_ROWS, 6, noise=1.0, random_state=0)
        raw = {"X": X, "y": y}
    data.save(data.check(raw, task, n_folds=3), folder)
    return data.open_dataset(folder)


def _folds(dataset: data.Dataset, n_folds: int) -> Splits:
    config = AutoMLConfig.parse({"task": dataset.task, "n_cross_validations": n_folds})
    return make_splits(dataset, config)


def test_every_model_of_the_settings_exists_and_no_other() -> None:
    """The names of the settings and those of the engine cannot drift apart."""
    assert {task: set(names) for task, names in CONFIGURED.items()} == {
        task: set(models) for task, models in MODELS.items()
    }


@pytest.mark.parametrize("component", ALL_STEPS)
def test_the_defaults_of_a_component_are_a_point_of_its_search_space(
    component: Component,
) -> None:
    """All names, no others, no value out of its range."""
    assert component.defaults == component.suggest(FixedTrial(dict(component.defaults)))
    assert set(component.scalers) <= set(SCALERS)


@pytest.mark.parametrize("component", ALL_STEPS)
def test_hyper_parameters_are_json_scalars_and_rounds_are_bounded(component: Component) -> None:
    """Whatever is drawn can go into a journal and an MLflow param."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    for _ in range(20):
        params = component.suggest(study.ask())
        assert params == json.loads(json.dumps(params))
        rounds = {"n_estimators", "iterations", "max_iter"} & set(params)
        assert all(int(params[name] or 0) <= MAX_ROUNDS for name in rounds)


@pytest.mark.parametrize(("task", "name"), ALL_MODELS)
def test_a_model_fits_scores_and_travels_without_our_package(
    task: Task, name: str, tmp_path: Path
) -> None:
    """Defaults and a random draw, on read-only data; the same predictions in a bare Python."""
    dataset = _dataset(task, tmp_path / "data")
    component = MODELS[task][name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    context = pipelines.context_for(dataset, n_folds=3, seed=7, n_jobs=1)
    for model_params in (component.defaults, component.suggest(study.ask())):
        scaler = SCALERS[component.scalers[0]]
        spec = PipelineSpec(
            scaler=scaler.name,
            model=name,
            params=join_params(scaler.defaults, model_params),
        )
        pipeline = pipelines.build(spec, task, context)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # sixty rows are few
            scored = evaluation.evaluate(clone(pipeline), dataset, _folds(dataset, 3))
            fitted = evaluation.refit(pipeline, dataset)
        predicted = np.concatenate(scored.predictions)
        assert predicted.shape == ((N_ROWS, 3) if task == "classification" else (N_ROWS,))
        assert np.isfinite(predicted).all()
        hyperparameters = pipelines.hyperparameters(fitted)
        assert hyperparameters == json.loads(json.dumps(hyperparameters, allow_nan=False))
        _check_portable(pickle.dumps(fitted))
    predicted = fitted.predict(dataset.X)
    assert predicted.shape == (N_ROWS,)
    if task == "classification":
        assert set(predicted.tolist()) <= {"ape", "bee", "cat"}
        assert fitted.classes_.tolist() == ["ape", "bee", "cat"]


@pytest.mark.parametrize("name", MODELS["classification"])
def test_a_classifier_predicts_one_label_a_row_where_labels_are_whole_numbers(name: str) -> None:
    """Not a column of them, which is what one library does of more than two classes."""
    X, y = make_classification(N_ROWS, 6, n_informative=4, n_classes=3, random_state=0)
    dataset = data.check({"X": X, "y": y}, "classification")
    component = MODELS["classification"][name]
    scaler = SCALERS[component.scalers[0]]
    params = join_params(scaler.defaults, component.defaults)
    spec = PipelineSpec(scaler=scaler.name, model=name, params=params)
    context = pipelines.context_for(dataset, n_folds=3, seed=7, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty rows are few
        fitted = evaluation.refit(pipelines.build(spec, "classification", context), dataset)
    found = fitted.predict(X)
    assert found.shape == (N_ROWS,)
    assert set(found.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_lightgbm_learns_the_logarithm_of_prices_in_any_currency(unit: float) -> None:
    """Trees that add up to it fit products, and what they learn does not depend on the unit."""
    X = np.random.default_rng(0).uniform(1.0, 9.0, (400, 3))
    prices = X[:, 0] * X[:, 1] * X[:, 2]
    found = _fit_lightgbm(X, unit * prices, objective="poisson")
    assert found[-1].objective_ == "poisson"
    logs = found.predict(X)
    assert logs.min() > 0
    expected = _fit_lightgbm(X, prices, objective="poisson").predict(X)
    np.testing.assert_allclose(logs, unit * expected, rtol=1e-3)
    squares = _fit_lightgbm(X, prices).predict(X)
    assert np.std(expected - prices) < 0.8 * np.std(squares - prices)


@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_a_target_without_a_logarithm_is_learned_as_it_is(least: float) -> None:
    """Where a target is negative, or mostly 0, the objective of a warm start is passed over."""
    X = np.random.default_rng(0).uniform(1.0, 9.0, (400, 3))
    y = np.where(X[:, 0] < 6.0, least, X[:, 1])
    found = _fit_lightgbm(X, y, objective="poisson")
    assert found[-1].objective_ == "regression"
    np.testing.assert_array_equal(found.predict(X), _fit_lightgbm(X, y).predict(X))


def _fit_lightgbm(X: np.ndarray, y: np.ndarray, **params: str) -> Any:
    dataset = data.check({"X": X, "y": y}, "regression")
    context = pipelines.context_for(dataset, n_folds=3, seed=7, n_jobs=1)
    model = {**MODELS["regression"]["LightGBM"].defaults, **params}
    spec = PipelineSpec(scaler="MaxAbsScaler", model="LightGBM", params=join_params({}, model))
    return evaluation.refit(pipelines.build(spec, "regression", context), dataset)


def _check_portable(pickled: bytes) -> None:
    """Every module that a pickle names is one that it finds without us."""
    assert b"mlflow_automl_remote" not in pickled
    assert b"test_components" not in pickled


def test_a_pickled_pipeline_predicts_in_a_python_that_cannot_import_us(tmp_path: Path) -> None:
    """The same for a real process, for the model that needs its labels encoded."""
    dataset = _dataset("classification", tmp_path / "data")
    spec = PipelineSpec(
        scaler="MaxAbsScaler",
        model="XGBoost",
        params=join_params({}, MODELS["classification"]["XGBoost"].defaults),
    )
    context = pipelines.context_for(dataset, n_folds=3, seed=7, n_jobs=1)
    fitted = evaluation.refit(pipelines.build(spec, "classification", context), dataset)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted))
    code = (
        "import sys, pickle, numpy as np; sys.modules['mlflow_automl_remote'] = None\n"
        "model = pickle.load(open('model.pkl', 'rb'))\n"
        "print(','.join(model.predict(np.load('data/X.npy'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert fitted.predict(dataset.X).tolist() == done.stdout.strip().split(",")


@pytest.mark.parametrize("scaler", SCALERS.values(), ids=lambda scaler: scaler.name)
def test_a_scaler_keeps_the_names_of_the_columns(scaler: Component) -> None:
    """The fitted pipeline knows the names it was fitted with; the label names both parts."""
    X, y = make_regression(N_ROWS, 4, random_state=0)
    names = ("a", "b", "c", "d")
    checked = data.check({"X": X, "y": y}, "regression")
    dataset = data.Dataset(
        X=checked.X, y=checked.y, feature_names=names, task="regression", digest=checked.digest
    )
    params = join_params(scaler.defaults, MODELS["regression"]["KNN"].defaults)
    spec = PipelineSpec(scaler=scaler.name, model="KNN", params=params)
    context = pipelines.context_for(dataset, n_folds=3, seed=0, n_jobs=1)
    fitted = evaluation.refit(pipelines.build(spec, "regression", context), dataset)
    assert fitted.feature_names_in_.tolist() == list(names)
    assert f"{scaler.name} KNN" == spec.label
    assert evaluation.predict(fitted, dataset.features(), dataset).shape == (N_ROWS,)


@pytest.mark.parametrize("model", MODELS["regression"])
def test_regression_learns_the_same_in_other_units(model: str, tmp_path: Path) -> None:
    """Whatever the penalty or the steps of a model, prices in cents are a hundred in dollars."""
    dataset = _dataset("regression", tmp_path)
    component = MODELS["regression"][model]
    scaler = next(name for name in ("StandardScaler", "MaxAbsScaler") if name in component.scalers)
    params = join_params(SCALERS[scaler].defaults, component.defaults)
    spec = PipelineSpec(scaler=scaler, model=model, params=params)
    context = pipelines.context_for(dataset, n_folds=3, seed=0, n_jobs=1)

    def predicted(y: np.ndarray) -> np.ndarray:
        pipeline = pipelines.build(spec, "regression", context)
        return evaluation.refit(pipeline, replace(dataset, y=y)).predict(dataset.X)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        usual = predicted(dataset.y)
        scaled = (predicted(1e4 * dataset.y + 1e6) - 1e6) / 1e4
    assert np.corrcoef(usual, dataset.y)[0, 1] > 0.6
    assert abs(scaled - usual).mean() < 0.05 * dataset.y.std()


@pytest.mark.parametrize("model", ["ElasticNet", "MLP"])
def test_a_value_far_beyond_all_others_does_not_carry_a_prediction_away(
    model: str, tmp_path: Path
) -> None:
    """It counts as four deviations from the mean; values that are usual count as they are."""
    dataset = _dataset("regression", tmp_path)
    params = join_params(SCALERS["StandardScaler"].defaults, MODELS["regression"][model].defaults)
    spec = PipelineSpec(scaler="StandardScaler", model=model, params=params)
    context = pipelines.context_for(dataset, n_folds=3, seed=0, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = evaluation.refit(pipelines.build(spec, "regression", context), dataset)
    row = dataset.X.mean(axis=0, keepdims=True)
    rows = row + np.array([0.0, 3.0, 4.0, 5.0, 1e6])[:, None] * dataset.X.std(axis=0)
    _, usual, most, beyond, far = fitted.predict(rows)
    assert usual != most
    assert most == pytest.approx(beyond, rel=1e-9)
    assert most == pytest.approx(far, rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 30])
def test_gradient_boosting_fits_where_no_rows_can_be_spared_to_stop_early(n_classes: int) -> None:
    """Two rows of each class in a fold, or more classes than a tenth of the rows."""
    y = np.arange(4 * n_classes) % n_classes
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    dataset = data.check({"X": X, "y": y}, "classification", n_folds=2)
    component = MODELS["classification"]["GradientBoosting"]
    params = join_params({}, component.defaults)
    spec = PipelineSpec(scaler="MaxAbsScaler", model=component.name, params=params)
    context = pipelines.context_for(dataset, n_folds=2, seed=0, n_jobs=1)
    pipeline = pipelines.build(spec, "classification", context)
    scored = evaluation.evaluate(pipeline, dataset, _folds(dataset, 2))
    assert np.concatenate(scored.predictions).shape == (len(y), n_classes)


@pytest.mark.parametrize(("task", "name"), ALL_MODELS)
def test_a_model_takes_weights_a_single_column_and_a_single_row_or_says_that_it_does_not(
    task: Task, name: str, tmp_path: Path
) -> None:
    """A weight counts: rows of weight nearly zero with wrong targets do no harm."""
    component = MODELS[task][name]
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 1.0, 120)
    y = (x > 0.5).astype(int) if task == "classification" else 3.0 * x
    wrong = np.arange(120) % 2 == 0
    given = np.where(wrong, 1 - y if task == "classification" else -y, y)
    weight = np.where(wrong, 1e-3, 1.0)
    raw = {"X": x.reshape(-1, 1), "y": given}
    if component.takes_weights:
        raw["sample_weight"] = weight
    data.save(data.check(raw, task), tmp_path)
    dataset = data.open_dataset(tmp_path)
    context = pipelines.context_for(dataset, n_folds=2, seed=0, n_jobs=1)
    scaler = SCALERS[component.scalers[0]]
    params = join_params(scaler.defaults, component.defaults)
    spec = PipelineSpec(scaler=scaler.name, model=name, params=params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = evaluation.refit(pipelines.build(spec, task, context, dataset=dataset), dataset)
    assert fitted.predict(dataset.X[:1]).shape == (1,)
    if component.takes_weights and name not in ("BernoulliNaiveBayes", "MultinomialNaiveBayes"):
        middle = np.array([[0.1], [0.9]])
        low, high = (float(value) for value in fitted.predict(middle))
        assert low < high


@pytest.mark.parametrize(
    ("task", "name"),
    [(task, name) for task, name in ALL_MODELS if MODELS[task][name].early_stopping],
)
@pytest.mark.parametrize("labels", ["codes", "text"])
def test_a_booster_is_stopped_early_on_rows_that_do_not_score_and_keeps_its_rounds(
    task: Task, name: str, labels: str
) -> None:
    """On noise few rounds are best; the model for all rows has the mean of the folds."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2 * FEWEST_TO_STOP_EARLY + 100, 4))
    y = rng.integers(0, 2, len(X)) if task == "classification" else rng.normal(size=len(X))
    if labels == "text" and task == "classification":
        y = np.array(["no", "yes"])[y]
    dataset = data.check({"X": X, "y": y, "sample_weight": np.ones(len(X))}, task)
    splits = _folds(dataset, 2)
    context = pipelines.context_for(dataset, splits=splits, seed=0, n_jobs=1)
    component = MODELS[task][name]
    spec = PipelineSpec(
        scaler="MaxAbsScaler", model=name, params=join_params({}, component.defaults)
    )
    stopping = pipelines.early_stopping_of(spec, task, context)
    assert stopping is not None
    pipeline = pipelines.build(spec, task, context)
    scored = evaluation.evaluate(pipeline, dataset, splits, early_stopping=stopping)
    assert scored.rounds is not None
    assert 1 <= scored.rounds < 100
    if task == "classification":
        assert 0.45 < scored.metrics["AUC_weighted"] < 0.55
    final = evaluation.refit(evaluation.with_rounds(pipeline, stopping, scored.rounds), dataset)
    assert scored.rounds in pipelines.hyperparameters(final).values()
    assert evaluation.predict(final, X[:3], dataset).shape[0] == 3
