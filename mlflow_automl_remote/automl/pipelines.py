"""A pipeline as a value: one scaler, one model and their hyper-parameters, and how to build it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mlflow_automl_remote.automl import featurization
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import (
    FEWEST_TO_STOP_EARLY,
    TREE_SCALERS,
    BuildContext,
    Component,
    Device,
    EarlyStopping,
    Estimator,
    Params,
    Scalar,
)
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.featurization.coded import CodesAsIntegers
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.config import Task

_STEPS: Final = ("scaler", "model")
_LONGEST: Final = 20
"""Parameters with more values, of columns that is, are none that a person compares."""
_MOST_DEVIATIONS: Final = 4.0
"""From the mean: what is farther away counts as if it were there, for models that are no trees. A
linear one is far off where a value is far beyond those it knows."""
_ORDER_IS_KEPT: Final = ("MaxAbsScaler", "StandardScaler")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """What a pipeline is made of.

    Attributes:
        scaler: Name of the scaler; empty for an ensemble.
        model: Name of the model.
        params: Point of the search space; keys are `scaler__x` and `model__x`.
    """

    scaler: str
    model: str
    params: Mapping[str, Scalar]

    @property
    def label(self) -> str:
        """How it is shown: `MaxAbsScaler LightGBM`."""
        return f"{self.scaler} {self.model}".strip()

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


def build(
    spec: PipelineSpec,
    task: Task,
    context: BuildContext,
    *,
    dataset: Dataset | None = None,
    features_seed: int = 0,
) -> Estimator:
    """Make an unfitted scikit-learn `Pipeline` with the steps `scaler` and `model`.

    What a `StandardScaler` makes is clipped, as a step `clip`.

    Args:
        spec: What it is made of.
        task: The kind of problem.
        context: What its parts may know of the data.
        dataset: If its features are not all numbers, or lack values, the pipeline begins with a
            step `preprocess` that turns them into what the model takes. Trees take categories and
            missing values as they are; a scaler that keeps the order of numbers says nothing to
            them, so it is passed over.
        features_seed: Of that step: the same for all pipelines that share what it makes.
    """
    scaler, model = components_of(spec, task)
    steps: list[tuple[str, object]] = []
    if dataset is not None:
        mode = model.mode if spec.scaler in _ORDER_IS_KEPT else "dense"
        first = featurization.build_preprocessor(dataset, mode=mode, task=task, seed=features_seed)
        if first is not None:
            steps.append(("preprocess", first))
            # What the first step makes is nobody else's: the scaler need not copy it.
            context = replace(context, in_place=True, n_codes=first.n_codes)
    sees_order = model.scalers == TREE_SCALERS and spec.scaler in _ORDER_IS_KEPT
    if context.n_codes and model.mode == "coded":
        steps.append(("scaler", CodesAsIntegers(context.n_codes)))
    elif sees_order and (steps or context.has_gaps):
        steps.append(("scaler", "passthrough"))
    else:
        steps.append(("scaler", scaler.build(spec.of_step("scaler"), context)))
        if model.scalers != TREE_SCALERS and _is_clipped(spec, context):
            steps.append(("clip", _clip()))
    steps.append(("model", model.build(spec.of_step("model"), context)))
    return Pipeline(steps)  # type: ignore[no-any-return]


def _is_clipped(spec: PipelineSpec, context: BuildContext) -> bool:
    """Whether numbers are distances from a mean, of which the far ones can be told."""
    params = spec.of_step("scaler")
    is_standard = spec.scaler == "StandardScaler" and params["with_mean"] and params["with_std"]
    return bool(is_standard) and not (context.is_sparse or context.is_large)


def _clip() -> FunctionTransformer:
    return FunctionTransformer(
        np.clip,
        kw_args={"a_min": -_MOST_DEVIATIONS, "a_max": _MOST_DEVIATIONS},
        feature_names_out="one-to-one",
    )


def early_stopping_of(
    spec: PipelineSpec, task: Task, context: BuildContext
) -> EarlyStopping | None:
    """Say how a pipeline's model is stopped early; None if it is not."""
    return components_of(spec, task)[1].early_stopping if context.stops_early else None


def context_for(
    dataset: Dataset,
    *,
    splits: Splits | None = None,
    n_folds: int = 2,
    seed: int,
    n_jobs: int,
    device: Device = "cpu",
) -> BuildContext:
    """Say what constructors may know about the data that they will be fitted on.

    Args:
        dataset: The data.
        splits: Its folds; None to reckon with `n_folds` equal ones.
        n_folds: How many, if `splits` is None.
        seed: Of the pipeline.
        n_jobs: Threads that it may use.
        device: Where boosters that can are fitted.
    """
    classes = dataset.classes if dataset.task == "classification" else np.array([])
    codes = classes.dtype.kind in "iu" and bool((classes == np.arange(len(classes))).all())
    n_rows = _left_in_fold(dataset.n_rows, n_folds) if splits is None else splits.fewest_rows
    return BuildContext(
        seed=seed,
        n_jobs=n_jobs,
        n_rows=n_rows,
        n_features=dataset.n_features,
        n_classes=len(classes),
        n_rarest=_rarest(dataset, splits, n_folds) if len(classes) else 0,
        labels_are_codes=codes,
        positive_mean=positive_mean(dataset),
        device=device,
        stops_early=n_rows >= FEWEST_TO_STOP_EARLY,
        is_sparse=dataset.is_sparse,
        has_gaps=has_gaps(dataset),
        n_cells=stored_cells(dataset) * n_rows // dataset.n_rows,
    )


def positive_mean(dataset: Dataset) -> float:
    """Give the mean of the targets of a regression, where a model may learn their logarithm.

    Returns:
        0.0 where one is negative or most are 0, and for classification.
    """
    if dataset.task != "regression":
        return 0.0
    y = np.asarray(dataset.y, dtype=np.float64)
    return float(y.mean()) if y.min() >= 0 and 2 * np.count_nonzero(y) > len(y) else 0.0


def stored_cells(dataset: Dataset) -> int:
    """Give how many values the features have; of a sparse matrix, those that are not 0."""
    X: Any = dataset.X
    return int(X.nnz) if dataset.is_sparse else dataset.n_rows * dataset.n_features


def has_gaps(dataset: Dataset) -> bool:
    """Whether an array of numbers lacks some; False for tables and sparse matrices."""
    return isinstance(dataset.X, np.ndarray) and bool(np.isnan(dataset.X.sum()))


def _rarest(dataset: Dataset, splits: Splits | None, n_folds: int) -> int:
    """Give the fewest rows of a class that any fold leaves to be fitted on."""
    if splits is None:
        return _left_in_fold(dataset.smallest_class, n_folds)
    codes = np.unique(dataset.y, return_inverse=True)[1].reshape(-1)
    n_classes = int(codes.max()) + 1
    return min(int(np.bincount(codes[fit], minlength=n_classes).min()) for fit, _ in splits.folds)


def _left_in_fold(n_rows: int, n_folds: int) -> int:
    """Give the fewest of so many rows that any fold leaves to be fitted on."""
    return n_rows - math.ceil(n_rows / n_folds)


def hyperparameters(pipeline: Estimator) -> dict[str, Scalar]:
    """Give all parameters of scaler and model, defaults included, as JSON scalars.

    Values that are none (estimators, for example) and long tuples are left out; others become
    text; a number that is not finite becomes text too.
    """
    flat: dict[str, Scalar] = {}
    for name, value in sorted(pipeline.get_params(deep=True).items()):
        if name.split("__")[0] not in _STEPS or "__" not in name:
            continue
        if hasattr(value, "get_params") or isinstance(value, list | dict):
            continue
        if isinstance(value, tuple) and len(value) > _LONGEST:
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
