"""Scores of pipelines: weights, ranges and devices reach what they are meant for."""

from __future__ import annotations

import numpy as np
import pytest

from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components import MODELS
from mlflow_automl_remote.automl.components.base import BuildContext
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.evaluation import Evaluation, Scoring
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.config import AutoMLConfig


def _evaluate(
    dataset: Dataset, model: str, scoring: Scoring | None = None, **settings: object
) -> Evaluation:
    config = AutoMLConfig.parse({"task": dataset.task, "n_cross_validations": 3} | settings)
    splits = make_splits(dataset, config)
    context = pipelines.context_for(dataset, splits=splits, seed=0, n_jobs=1)
    params = {f"model__{k}": v for k, v in MODELS[dataset.task][model].defaults.items()}
    spec = PipelineSpec(scaler="MaxAbsScaler", model=model, params=params)
    pipeline = pipelines.build(spec, dataset.task, context, dataset=dataset)
    return evaluation.evaluate(pipeline, dataset, splits, scoring=scoring)


def test_rows_of_weight_zero_count_neither_in_the_fit_nor_in_the_score() -> None:
    """Half the rows have wrong labels and no weight: the score is perfect all the same."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 400)
    y = (x > 0).astype(int)
    wrong = np.arange(400) % 2 == 0
    raw = {"X": x.reshape(-1, 1), "y": np.where(wrong, 1 - y, y)}
    weighted = raw | {"sample_weight": np.where(wrong, 0.0, 1.0)}
    with_weights = _evaluate(data.check(weighted, "classification"), "LogisticRegression")
    without = _evaluate(data.check(raw, "classification"), "LogisticRegression")
    assert with_weights.metrics["AUC_weighted"] > 0.99
    assert without.metrics["AUC_weighted"] < 0.6


def test_weights_of_a_validation_set_count_in_its_score() -> None:
    """They are its own, not those of the rows to fit on."""
    x = np.linspace(-1, 1, 60)
    y = (x > 0).astype(int)
    raw = {
        "X": x.reshape(-1, 1),
        "y": y,
        "X_valid": np.array([[-0.9], [0.9], [0.8]]),
        "y_valid": np.array([0, 1, 0]),
        "sample_weight": np.ones(60),
        "sample_weight_valid": np.array([1.0, 1.0, 2.0]),
    }
    dataset = data.check(raw, "classification")
    scored = _evaluate(dataset, "LogisticRegression", n_cross_validations=None)
    assert scored.metrics["accuracy"] == pytest.approx(0.5)
    assert scored.predictions[0].shape == (3, 2)


def test_y_min_and_y_max_are_the_range_that_normalizes_errors() -> None:
    """Without them it is that of the data."""
    y = np.linspace(0.0, 10.0, 60)
    dataset = data.check({"X": y.reshape(-1, 1), "y": y}, "regression")
    own = _evaluate(dataset, "DecisionTree").metrics
    wide = _evaluate(dataset, "DecisionTree", Scoring(y_min=-10.0, y_max=90.0)).metrics
    name = "mean_absolute_error"
    assert own[f"normalized_{name}"] == pytest.approx(own[name] / 10)
    assert wide[f"normalized_{name}"] == pytest.approx(own[name] / 100)


def test_a_class_that_a_fold_lacks_is_no_error() -> None:
    """Own folds may leave one out of the rows to fit on, or to score."""
    y = np.array([0, 1, 2] * 10)
    X = np.eye(3)[y] + np.random.default_rng(0).normal(0, 0.1, (30, 3))
    lower = np.arange(30) < 15
    folds = [
        [np.flatnonzero(lower & (y > 0)), np.flatnonzero(~lower & (y < 2))],
        [np.flatnonzero(lower), np.flatnonzero(~lower)],
    ]
    dataset = data.check({"X": X, "y": y, "cv_splits_indices": folds}, "classification")
    scored = _evaluate(dataset, "LogisticRegression", n_cross_validations=None)
    assert scored.predictions[0][:, 0].max() == 0.0
    assert np.isfinite(scored.metrics["AUC_weighted"])
    assert scored.fold_metrics["accuracy"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("model", "parameter"), [("XGBoost", "device"), ("CatBoost", "task_type")]
)
def test_the_device_is_a_parameter_of_boosters_that_can(model: str, parameter: str) -> None:
    """So it is recorded with the hyper-parameters."""
    found = {}
    for device in ("cpu", "cuda"):
        context = BuildContext(
            seed=0,
            n_jobs=1,
            n_rows=10,
            n_features=1,
            n_classes=2,
            n_rarest=5,
            labels_are_codes=True,
            device=device,
        )
        component = MODELS["classification"][model]
        found[device] = component.build(component.defaults, context).get_params()[parameter]
    assert found == {"cpu": "CPU", "cuda": "GPU"} or found == {"cpu": "cpu", "cuda": "cuda"}
