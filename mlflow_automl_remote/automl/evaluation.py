"""Scores one pipeline by cross-validation, then fits it on all rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold

from mlflow_automl_remote.automl import metrics
from mlflow_automl_remote.automl.components.base import Classifier, Estimator
from mlflow_automl_remote.automl.data import Dataset, FloatArray, Labels
from mlflow_automl_remote.config import Task


class Splitter(Protocol):
    """The part of a scikit-learn splitter that is used; with a fixed seed."""

    def split(
        self, X: FloatArray, y: Labels
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Give the rows to fit on and the rows to score, once per fold."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What cross-validation says of a pipeline.

    Attributes:
        metrics: Mean over the folds, by name; NaN where it is undefined in a fold.
        fold_metrics: One value per fold, by name.
        oof: Out-of-fold predictions: of shape (n_rows, n_classes), columns in the order of the
            sorted labels, for classification; (n_rows,) for regression.
        fit_s: Seconds of all fits of the folds.
        predict_s: Seconds of all predictions.
    """

    metrics: Mapping[str, float]
    fold_metrics: Mapping[str, list[float]]
    oof: FloatArray
    fit_s: float
    predict_s: float


def make_splitter(task: Task, n_folds: int, seed: int) -> Splitter:
    """Give shuffled folds, stratified by class for classification; the same ones for a seed."""
    kind = StratifiedKFold if task == "classification" else KFold
    return cast("Splitter", kind(n_splits=n_folds, shuffle=True, random_state=seed))


def evaluate(pipeline: Estimator, dataset: Dataset, splitter: Splitter) -> Evaluation:
    """Score a pipeline by cross-validation.

    Args:
        pipeline: An unfitted pipeline; it is cloned, never changed.
        dataset: Features and targets.
        splitter: Gives the folds; each row is scored once.

    Raises:
        ValueError: The pipeline predicts values that are not finite.
        Exception: Whatever the pipeline raises.
    """
    oof = _empty_predictions(dataset)
    per_fold: list[dict[str, float]] = []
    fit_s = predict_s = 0.0
    for fit_rows, score_rows in splitter.split(dataset.X, dataset.y):
        begun = time.perf_counter()
        fitted = clone(pipeline).fit(dataset.X[fit_rows], dataset.y[fit_rows])
        fitted_at = time.perf_counter()
        oof[score_rows] = predict(fitted, dataset.X[score_rows], dataset)
        predict_s += time.perf_counter() - fitted_at
        fit_s += fitted_at - begun
        per_fold.append(score(dataset, dataset.y[score_rows], oof[score_rows]))
    return Evaluation(
        metrics=metrics.mean_over_folds(per_fold),
        fold_metrics=metrics.by_name(per_fold),
        oof=oof,
        fit_s=fit_s,
        predict_s=predict_s,
    )


def refit(pipeline: Estimator, dataset: Dataset) -> Estimator:
    """Fit a clone on all rows, with the names of the columns where they are known."""
    return cast("Estimator", clone(pipeline).fit(dataset.features(), dataset.y))


def predict(fitted: Estimator, X: FloatArray | pd.DataFrame, dataset: Dataset) -> FloatArray:
    """Give probabilities in the order of the data's classes, or predicted numbers.

    Returns:
        Of shape (n_rows, n_classes) for classification, (n_rows,) for regression.

    Raises:
        ValueError: A value is not finite.
    """
    if dataset.task == "regression":
        predicted = np.asarray(fitted.predict(X), dtype=np.float64).reshape(-1)
    else:
        classifier = cast("Classifier", fitted)
        predicted = np.zeros((len(X), len(dataset.classes)))
        columns = np.searchsorted(dataset.classes, classifier.classes_)
        predicted[:, columns] = classifier.predict_proba(X)
    if not np.isfinite(predicted).all():
        raise ValueError("The pipeline predicts values that are not finite.")
    return predicted


def score(dataset: Dataset, y_true: Labels, predicted: FloatArray) -> dict[str, float]:
    """Give all metrics of predictions for some rows of a dataset."""
    if dataset.task == "classification":
        return metrics.score_classification(y_true, predicted, classes=dataset.classes)
    y = cast("FloatArray", dataset.y)
    return metrics.score_regression(
        cast("FloatArray", y_true), predicted, y_min=float(y.min()), y_max=float(y.max())
    )


def _empty_predictions(dataset: Dataset) -> FloatArray:
    if dataset.task == "classification":
        return np.full((dataset.n_rows, len(dataset.classes)), np.nan)
    return np.full(dataset.n_rows, np.nan)
