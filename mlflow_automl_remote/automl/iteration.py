"""One iteration, as it runs in a process of its own: build, score, fit on all rows, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components.base import Estimator, Scalar
from mlflow_automl_remote.automl.data import Dataset
from mlflow_automl_remote.automl.pipelines import PipelineSpec

OOF_NAME: Final = "oof.npy"
MODEL_NAME: Final = "model"

SaveModel = Callable[[Estimator, Dataset, Path], None]
"""Writes a fitted pipeline to a path that does not exist yet; runs in the iteration's process."""


class MetricUndefined(ValueError):
    """The primary metric is not a number for this pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationOrder:
    """What an iteration's process is asked for.

    Attributes:
        spec: The pipeline.
        data_dir: Folder of the dataset.
        output_dir: Gets `oof.npy` and `model`.
        n_folds: Of the cross-validation.
        fold_seed: Of the folds; the same for all iterations of a sweep.
        seed: Of the pipeline.
        n_jobs: Threads that it may use.
        primary_metric: Must be a number for the iteration to count.
        save_model: Writes the fitted pipeline, or None.
    """

    spec: PipelineSpec
    data_dir: Path
    output_dir: Path
    n_folds: int
    fold_seed: int
    seed: int
    n_jobs: int
    primary_metric: str
    save_model: SaveModel | None


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationResult:
    """What an iteration's process gives back.

    Attributes:
        metrics: Mean over the folds, by name.
        fold_metrics: One value per fold, by name.
        hyperparameters: All parameters of scaler and model, defaults included.
        fit_s: Seconds of all fits: the folds and the one on all rows.
        predict_s: Seconds of the predictions of all folds.
    """

    metrics: Mapping[str, float]
    fold_metrics: Mapping[str, list[float]]
    hyperparameters: Mapping[str, Scalar]
    fit_s: float
    predict_s: float


def run_iteration(order: IterationOrder) -> IterationResult:
    """Score a pipeline by cross-validation, fit it on all rows and save what came of it.

    Raises:
        MetricUndefined: The primary metric is not a number.
        Exception: Whatever the pipeline or `save_model` raises.
    """
    dataset = data.open_dataset(order.data_dir)
    context = pipelines.context_for(
        dataset, n_folds=order.n_folds, seed=order.seed, n_jobs=order.n_jobs
    )
    pipeline = pipelines.build(order.spec, dataset.task, context)
    splitter = evaluation.make_splitter(dataset.task, order.n_folds, order.fold_seed)
    scored = evaluation.evaluate(pipeline, dataset, splitter)
    if not math.isfinite(scored.metrics[order.primary_metric]):
        raise MetricUndefined(
            f"{order.primary_metric} is {scored.metrics[order.primary_metric]} for this pipeline; "
            "it cannot be compared with others."
        )
    begun = time.perf_counter()
    fitted = evaluation.refit(pipeline, dataset)
    refit_s = time.perf_counter() - begun
    np.save(order.output_dir / OOF_NAME, scored.oof, allow_pickle=False)
    if order.save_model is not None:
        order.save_model(fitted, dataset, order.output_dir / MODEL_NAME)
    return IterationResult(
        metrics=scored.metrics,
        fold_metrics=scored.fold_metrics,
        hyperparameters=pipelines.hyperparameters(fitted),
        fit_s=scored.fit_s + refit_s,
        predict_s=scored.predict_s,
    )
