"""What every component must do, found by the registry: a new one is tested by naming it there."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning

from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import MAX_ROUNDS, Component
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.config import MODELS as CONFIGURED
from mlflow_automl_remote.config import Task

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
        assert int(params.get("n_estimators") or 0) <= MAX_ROUNDS


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
            scored = evaluation.evaluate(
                clone(pipeline), dataset, evaluation.make_splitter(task, 3, seed=0)
            )
            fitted = evaluation.refit(pipeline, dataset)
        assert scored.oof.shape == ((N_ROWS, 3) if task == "classification" else (N_ROWS,))
        assert np.isfinite(scored.oof).all()
        hyperparameters = pipelines.hyperparameters(fitted)
        assert hyperparameters == json.loads(json.dumps(hyperparameters, allow_nan=False))
        _check_portable(pickle.dumps(fitted))
    predicted = fitted.predict(dataset.X)
    assert predicted.shape == (N_ROWS,)
    if task == "classification":
        assert set(predicted.tolist()) <= {"ape", "bee", "cat"}
        assert fitted.classes_.tolist() == ["ape", "bee", "cat"]


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
    splitter = evaluation.make_splitter("classification", 2, seed=0)
    pipeline = pipelines.build(spec, "classification", context)
    assert evaluation.evaluate(pipeline, dataset, splitter).oof.shape == (len(y), n_classes)


def test_models_that_cannot_work_on_the_data_are_left_out_with_a_reason() -> None:
    """Calibration needs three rows of each class; when nothing else is allowed, it is tried."""
    X, y = np.arange(20.0).reshape(10, 2), np.array([0] * 7 + [1] * 3)
    dataset = data.check({"X": X, "y": y}, "classification", n_folds=3)
    left, reasons = pipelines.usable_models(("KNN", "SVM"), dataset, n_folds=3, chosen=True)
    assert left == ("KNN",)
    assert "the rarest class has 3 rows" in reasons["SVM"]
    only = pipelines.usable_models(("SVM",), dataset, n_folds=3, chosen=True)
    assert only == (("SVM",), {})


def test_kernel_machines_are_for_few_rows_unless_asked_for() -> None:
    """Their time grows with the square of the rows."""
    n_rows = pipelines.MAX_ROWS_FOR_KERNELS + 2
    dataset = data.check({"X": np.ones((n_rows, 1)), "y": np.arange(n_rows) % 2}, "classification")
    models = ("KNN", "SVM")
    assert pipelines.usable_models(models, dataset, n_folds=2, chosen=False)[0] == ("KNN",)
    assert pipelines.usable_models(models, dataset, n_folds=2, chosen=True)[0] == models
