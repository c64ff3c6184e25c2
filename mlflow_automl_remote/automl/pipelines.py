"""A pipeline as a value: one scaler, one model and their hyper-parameters, and how to build it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Scalar,
)
from mlflow_automl_remote.automl.components.svm import CALIBRATION_FOLDS
from mlflow_automl_remote.automl.data import Dataset
from mlflow_automl_remote.config import Task

MAX_ROWS_FOR_KERNELS: Final = 20_000  # time and memory of a kernel machine grow with their square
_STEPS: Final = ("scaler", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """What a pipeline is made of.

    Attributes:
        scaler: Name of the scaler.
        model: Name of the model.
        params: Point of the search space; keys are `scaler__x` and `model__x`.
    """

    scaler: str
    model: str
    params: Mapping[str, Scalar]

    @property
    def label(self) -> str:
        """How it is shown: `MaxAbsScaler LightGBM`."""
        return f"{self.scaler} {self.model}"

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for pipelines that are the same; can be a key."""
        return (self.scaler, self.model, tuple(sorted(self.params.items())))

    def of_step(self, step: str) -> Params:
        """Give the parameters of `scaler` or `model` under their own names."""
        prefix = f"{step}__"
        return {
            name.removeprefix(prefix): value
            for name, value in self.params.items()
            if name.startswith(prefix)
        }


def join_params(scaler: Params, model: Params) -> dict[str, Scalar]:
    """Name the parameters of both steps as one mapping."""
    return {f"scaler__{name}": value for name, value in scaler.items()} | {
        f"model__{name}": value for name, value in model.items()
    }


def components_of(spec: PipelineSpec, task: Task) -> tuple[Component, Component]:
    """Give the scaler and the model of a pipeline.

    Raises:
        KeyError: There is no such scaler, or no such model for this task.
    """
    return SCALERS[spec.scaler], MODELS[task][spec.model]


def build(spec: PipelineSpec, task: Task, context: BuildContext) -> Estimator:
    """Make an unfitted scikit-learn `Pipeline` with the steps `scaler` and `model`."""
    scaler, model = components_of(spec, task)
    return Pipeline(  # type: ignore[no-any-return]
        [
            ("scaler", scaler.build(spec.of_step("scaler"), context)),
            ("model", model.build(spec.of_step("model"), context)),
        ]
    )


def context_for(dataset: Dataset, *, n_folds: int, seed: int, n_jobs: int) -> BuildContext:
    """Say what constructors may know about the data that they will be fitted on."""
    classes = dataset.classes if dataset.task == "classification" else np.array([])
    codes = classes.dtype.kind in "iu" and bool((classes == np.arange(len(classes))).all())
    return BuildContext(
        seed=seed,
        n_jobs=n_jobs,
        n_rows=_left_in_fold(dataset.n_rows, n_folds),
        n_features=dataset.n_features,
        n_classes=len(classes),
        n_rarest=_left_in_fold(dataset.smallest_class, n_folds) if len(classes) else 0,
        labels_are_codes=codes,
    )


def usable_models(
    models: tuple[str, ...], dataset: Dataset, *, n_folds: int, chosen: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Leave out models that cannot, or should not, be fitted on this data.

    Args:
        models: Names that the settings allow.
        dataset: The data.
        n_folds: The folds of the cross-validation.
        chosen: Whether the user named the models; then being slow is no reason.

    Returns:
        The names that are left, and the reason for each that is not. If none were left, all are.
    """
    reasons: dict[str, str] = {}
    if dataset.task == "classification":
        rarest = dataset.smallest_class
        if _left_in_fold(rarest, n_folds) < CALIBRATION_FOLDS:
            reason = (
                f"its probabilities need {CALIBRATION_FOLDS} rows of each class in every fold, "
                f"and the rarest class has {rarest} rows"
            )
            reasons |= dict.fromkeys(("LinearSVM", "SVM"), reason)
        if dataset.n_rows > MAX_ROWS_FOR_KERNELS and not chosen:
            reasons["SVM"] = f"too slow for {dataset.n_rows} rows; name it in allowed_models"
    left = tuple(name for name in models if name not in reasons)
    if not left:
        return models, {}
    return left, {name: reason for name, reason in reasons.items() if name in models}


def _left_in_fold(n_rows: int, n_folds: int) -> int:
    """Give the fewest of so many rows that any fold leaves to be fitted on."""
    return n_rows - math.ceil(n_rows / n_folds)


def hyperparameters(pipeline: Estimator) -> dict[str, Scalar]:
    """Give all parameters of scaler and model, defaults included, as JSON scalars.

    Values that are none (estimators, for example) are left out; tuples become text; a number that
    is not finite becomes text too.
    """
    flat: dict[str, Scalar] = {}
    for name, value in sorted(pipeline.get_params(deep=True).items()):
        if name.split("__")[0] not in _STEPS or "__" not in name:
            continue
        if hasattr(value, "get_params") or isinstance(value, list | dict):
            continue
        flat[name] = _as_scalar(value)
    return flat


def _as_scalar(value: object) -> Scalar:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
