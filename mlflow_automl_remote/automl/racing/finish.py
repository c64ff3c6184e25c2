"""Makes an iteration of the folds it was fitted on: its metrics, its predictions and its model.

The model is the mean of the models of the folds: nothing is fitted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import (
    assembly,
    data,
    evaluation,
    featurization,
    metrics,
    pipelines,
    predictions,
    speed,
)
from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.dataset import Dataset, Labels
from mlflow_automl_remote.automl.featurization.preprocessor import TablePreprocessor
from mlflow_automl_remote.automl.iteration import (
    CHARTS_NAME,
    MODEL_NAME,
    IterationResult,
    SaveCharts,
    SaveModel,
    refuse_undefined,
    score_on_test,
    scoring_of,
)
from mlflow_automl_remote.automl.racing.fold import load_models, load_predictions
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.config import AutoMLConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishOrder:
    """What the process is asked for.

    Attributes:
        label: Of the pipeline.
        config: The settings of the sweep.
        data_dir: Folder of the dataset.
        output_dir: Of the iteration; gets the predictions and `model`.
        n_folds: How many folds it was fitted on.
        fit_s: Seconds of the fits.
        predict_s: Seconds of the predictions.
        save_model: Writes the model, or None.
        save_charts: Draws the predictions, or None.
    """

    label: str
    config: AutoMLConfig
    data_dir: Path
    output_dir: Path
    n_folds: int
    fit_s: float
    predict_s: float
    save_model: SaveModel | None
    save_charts: SaveCharts | None = None


def run_finish(order: FinishOrder) -> IterationResult:
    """Score what the folds left, all together, and save a model of it.

    Raises:
        MetricUndefined: The primary metric is not a number.
    """
    dataset = data.open_dataset(order.data_dir)
    whole = splits_of(order.data_dir, dataset, order.config)
    splits = replace(whole, folds=whole.folds[: order.n_folds])
    predicted = [load_predictions(order.output_dir, at) for at in range(order.n_folds)]
    scoring = scoring_of(order.config, dataset)
    per_fold = []
    for (_, rows), values in zip(splits.folds, predicted, strict=True):
        _, y, weight = evaluation.to_score(dataset, splits, rows)
        per_fold.append(evaluation.score(dataset, y, values, weight, scoring))
    mean = metrics.mean_over_folds(per_fold)
    refuse_undefined(mean, order.config.primary_metric)
    predictions.save(order.output_dir, predicted, dataset, splits)
    found = predictions.held_out(dataset, splits, np.concatenate(predicted))
    models = load_models(order.output_dir, n_models_of(order.config))
    model, predict_ms = _quick_enough(
        models, dataset, order, 1000 * order.predict_s / len(found.y)
    )
    if order.save_model is not None:
        order.save_model(model, dataset, order.output_dir / MODEL_NAME)
    if order.save_charts is not None:
        order.save_charts(dataset, found, order.output_dir / CHARTS_NAME, order.label)
    first = cast("Pipeline", models[0])[0]
    preprocessed = isinstance(first, TablePreprocessor)
    return IterationResult(
        metrics=mean,
        fold_metrics=metrics.by_name(per_fold),
        hyperparameters=pipelines.hyperparameters(models[0]),
        fit_s=order.fit_s,
        predict_s=order.predict_s,
        predict_ms_per_row=predict_ms,
        n_fits=order.n_folds,
        test_metrics=score_on_test(model, dataset, splits, order.config),
        featurization=first.mode if preprocessed else "",
        features=tuple(featurization.summary(first, dataset.columns)) if preprocessed else (),
    )


def n_models_of(config: AutoMLConfig) -> int | None:
    """Say how many of the models of the folds a pipeline keeps at most; None for all.

    For latency one: it is what the score of the pipeline is of, and their mean takes as many times
    as long.
    """
    return 1 if config.optimize_for == "latency" else None


def _quick_enough(
    models: Sequence[Estimator], dataset: Dataset, order: FinishOrder, expected_ms: float
) -> tuple[Estimator, float]:
    """Give the mean of so many of the models as keep to the limit, and what it takes a row.

    They are alike, so one of them is measured.
    """
    classes = dataset.classes if dataset.task == "classification" else np.array([])
    limit_ms = order.config.max_predict_ms_per_row
    one_ms = speed.predict_ms_per_row(models[0], dataset, expected_ms=expected_ms)
    n = len(models)
    if limit_ms is not None and n * one_ms > limit_ms:
        n = max(1, int(limit_ms / one_ms))
    return mean_of(models[:n], classes), n * one_ms


def mean_of(models: Sequence[Estimator], classes: Labels) -> Estimator:
    """Make one model of the fitted ones that answers with their mean.

    Args:
        models: Fitted on the same labels.
        classes: Sorted labels; empty for regression.
    """
    if len(models) == 1:
        return models[0]
    named = {f"fold_{number}": model for number, model in enumerate(models)}
    alike = [1.0] * len(models)
    if len(classes):
        mean: object = assembly.voting_classifier(named, alike, classes)
    else:
        mean = assembly.voting_regressor(named, alike)
    return cast("Estimator", Pipeline([("model", mean)]))
