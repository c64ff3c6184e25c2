"""One iteration, as it runs in a process of its own: build, score, fit on all rows, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import (
    data,
    evaluation,
    featurization,
    pages,
    pipelines,
    predictions,
    speed,
)
from mlflow_automl_remote.automl.components.base import Device, Estimator, Scalar
from mlflow_automl_remote.automl.dataset import Dataset, take_rows
from mlflow_automl_remote.automl.evaluation import FoldScore, Scoring
from mlflow_automl_remote.automl.feature_store import FeatureStore
from mlflow_automl_remote.automl.features import RowSet
from mlflow_automl_remote.automl.featurization import FeatureSummary
from mlflow_automl_remote.automl.featurization.preprocessor import TablePreprocessor
from mlflow_automl_remote.automl.part import Parts, save
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.predictions import HeldOut, held_out
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.automl.targets import position_of
from mlflow_automl_remote.config import AutoMLConfig

_Result = TypeVar("_Result")

MODEL_NAME: Final = "model"
CHARTS_NAME: Final = "charts"

SaveModel = Callable[[Estimator, Dataset, Path], None]
"""Writes a fitted pipeline to a path that does not exist yet; runs in the iteration's process."""
LoadModel = Callable[[Path], Estimator]
"""Reads what `SaveModel` wrote; runs in the process of an ensemble."""
SaveCharts = Callable[[Dataset, HeldOut, Path, str], None]
"""Draws held-out predictions into a folder, under the label of the pipeline; must not raise."""


class MetricUndefined(ValueError):
    """The primary metric is not a number for this pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationOrder:
    """What an iteration's process is asked for.

    Attributes:
        spec: The pipeline.
        config: The settings of the sweep.
        data_dir: Folder of the dataset.
        output_dir: Gets the predictions and `model`.
        seed: Of the pipeline.
        n_jobs: Threads that it may use.
        device: Where boosters that can are fitted.
        save_model: Writes the fitted pipeline, or None.
        save_charts: Draws the predictions, or None.
        features_dir: What steps before models make is shared here; None to make it alone.
        parts: Where folds were scored before, each in a process of its own; None to do it here.
    """

    spec: PipelineSpec
    config: AutoMLConfig
    data_dir: Path
    output_dir: Path
    seed: int
    n_jobs: int
    device: Device
    save_model: SaveModel | None
    save_charts: SaveCharts | None = None
    features_dir: Path | None = None
    parts: Parts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationResult:
    """What an iteration's process gives back.

    Attributes:
        metrics: Mean over the folds, by name.
        fold_metrics: One value per fold, by name.
        hyperparameters: All parameters of scaler and model, defaults included.
        fit_s: Seconds of all fits: the folds and the one on all rows.
        predict_s: Seconds of the predictions of all folds.
        predict_ms_per_row: What the model takes, as `speed` measures it; None without a model.
        n_fits: How many fits that were; 0 of an ensemble.
        test_metrics: Of the model on the rows of `test_size`, by name; empty without them.
        featurization: How the columns were preprocessed, a mode of `TablePreprocessor`; empty
            if not at all.
        features: What that made of each column.
    """

    metrics: Mapping[str, float]
    fold_metrics: Mapping[str, list[float]]
    hyperparameters: Mapping[str, Scalar]
    fit_s: float
    predict_s: float
    predict_ms_per_row: float | None = None
    n_fits: int = 0
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    featurization: str = ""
    features: tuple[FeatureSummary, ...] = ()


def run_iteration(order: IterationOrder) -> IterationResult:
    """Score a pipeline on the folds, fit it on all rows and save what came of it.

    Raises:
        MetricUndefined: The primary metric is not a number.
        Exception: Whatever the pipeline or `save_model` raises.
    """
    return _with_pages_given_back(order, partial(_run, order))


def run_part(part: tuple[IterationOrder, int]) -> None:
    """Score a pipeline on one fold, for an iteration that is run later.

    Args:
        part: The iteration, and the number of the fold.

    Raises:
        Exception: Whatever the pipeline raises.
    """
    order, number = part

    def run(dataset: Dataset) -> FoldScore:
        splits, pipeline, how = _prepare(order, dataset)
        return evaluation.evaluate_fold(pipeline, dataset, splits, number, **how)

    if order.parts is None:
        raise ValueError("The order says nowhere to leave the fold.")
    save(order.parts.of(number), _with_pages_given_back(order, run))


def _with_pages_given_back(order: IterationOrder, run: Callable[[Dataset], _Result]) -> _Result:
    dataset = data.open_dataset(order.data_dir)
    if order.features_dir is None or pipelines.stored_cells(dataset) <= featurization.LARGE_CELLS:
        return run(dataset)
    with pages.given_back(order.data_dir, order.features_dir):
        return run(dataset)


def _prepare(order: IterationOrder, dataset: Dataset) -> tuple[Splits, Estimator, dict[str, Any]]:
    """Give the folds, the pipeline, and how it is evaluated on them."""
    splits = splits_of(order.data_dir, dataset, order.config)
    context = pipelines.context_for(
        dataset, splits=splits, seed=order.seed, n_jobs=order.n_jobs, device=order.device
    )
    store = None
    if order.features_dir is not None:
        store = FeatureStore(order.features_dir, order.data_dir)
    pipeline = pipelines.build(
        order.spec, dataset.task, context, dataset=dataset, features_seed=order.config.seed
    )
    how = {
        "scoring": scoring_of(order.config, dataset),
        "early_stopping": pipelines.early_stopping_of(order.spec, dataset.task, context),
        "seed": order.config.seed,
        "store": store,
    }
    return splits, pipeline, how


def _is_all(rows: RowSet | None, dataset: Dataset, splits: Splits) -> bool:
    """Whether the rows of the only fold are all of a large table: the last fit can use them."""
    if (
        rows is None
        or not dataset.is_table
        or pipelines.stored_cells(dataset) <= featurization.LARGE_CELLS
    ):
        return False
    n_rows = dataset.n_rows if splits.train is None else len(splits.train)
    return splits.n_folds == 1 and not splits.on_valid and len(rows.order) == n_rows


def _run(order: IterationOrder, dataset: Dataset) -> IterationResult:
    splits, pipeline, how = _prepare(order, dataset)
    if order.parts is None:
        scored = evaluation.evaluate(pipeline, dataset, splits, **how)
    else:
        scored = evaluation.combined(list(order.parts.load()))
    stopping = how["early_stopping"]
    refuse_undefined(scored.metrics, order.config.primary_metric)
    begun = time.perf_counter()
    if stopping is not None and scored.rounds is not None:
        pipeline = evaluation.with_rounds(pipeline, stopping, scored.rounds)
    fitted = evaluation.refit(
        pipeline,
        dataset,
        train=splits.train,
        store=how["store"],
        made=scored.rows if _is_all(scored.rows, dataset, splits) else None,
    )
    refit_s = time.perf_counter() - begun
    n_scored = sum(len(rows) for _, rows in splits.folds)
    predictions.save(order.output_dir, scored.predictions, dataset, splits)
    if order.save_model is not None:
        order.save_model(fitted, dataset, order.output_dir / MODEL_NAME)
    if order.save_charts is not None:
        found = held_out(dataset, splits, np.concatenate(scored.predictions))
        order.save_charts(dataset, found, order.output_dir / CHARTS_NAME, order.spec.label)
    first = cast("Pipeline", fitted)[0]
    preprocessed = isinstance(first, TablePreprocessor)
    return IterationResult(
        metrics=scored.metrics,
        fold_metrics=scored.fold_metrics,
        hyperparameters=pipelines.hyperparameters(fitted),
        fit_s=scored.fit_s + refit_s,
        predict_s=scored.predict_s,
        predict_ms_per_row=speed.predict_ms_per_row(
            fitted, dataset, expected_ms=1000 * scored.predict_s / n_scored, is_warm=True
        ),
        n_fits=splits.n_folds + 1,
        test_metrics=score_on_test(fitted, dataset, splits, order.config),
        featurization=first.mode if preprocessed else "",
        features=tuple(featurization.summary(first, dataset.columns)) if preprocessed else (),
    )


def refuse_undefined(metrics: Mapping[str, float], primary_metric: str) -> None:
    """Raise `MetricUndefined` unless the primary metric is a number."""
    if not math.isfinite(metrics[primary_metric]):
        raise MetricUndefined(
            f"{primary_metric} is {metrics[primary_metric]} for this pipeline; "
            "it cannot be compared with others."
        )


def scoring_of(config: AutoMLConfig, dataset: Dataset) -> Scoring:
    """Give what the settings say about metrics."""
    positive = None
    if config.positive_label is not None:
        positive = position_of(config.positive_label, dataset.classes)
    return Scoring(y_min=config.y_min, y_max=config.y_max, positive=positive, scorer=config.scorer)


def score_on_test(
    fitted: Estimator, dataset: Dataset, splits: Splits, config: AutoMLConfig
) -> Mapping[str, float]:
    """Score a fitted model on the rows that nothing was chosen by; empty if there are none."""
    if not len(splits.test):
        return {}
    weight = dataset.sample_weight
    return evaluation.score(
        dataset,
        dataset.y[splits.test],
        evaluation.predict(fitted, take_rows(dataset.features(), splits.test), dataset),
        None if weight is None else weight[splits.test],
        scoring_of(config, dataset),
    )
