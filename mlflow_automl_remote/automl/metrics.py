"""All metrics of both tasks, from probabilities or predicted values, in one pass per fold.

Names and meaning are Azure AutoML's; the definitions are scikit-learn's where it has one. A metric
that is undefined for a fold is NaN, never an exception and never a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mlflow_automl_remote.automl.data import FloatArray, Labels

_EPSILON: Final = float(np.finfo(np.float64).eps)
Codes = NDArray[np.intp]


def score_classification(
    y_true: Labels, probabilities: FloatArray, *, classes: Labels
) -> dict[str, float]:
    """Give all 20 metrics of a classifier.

    Averages over classes ("macro": all alike; "weighted": by rows; "micro": all cells of the
    class-indicator matrix in one) treat two classes like many, each against the rest.

    * AUC_*: area under the ROC curve by the rank-sum formula, ties counted half (Hanley and
      McNeil 1982). Classes without a row, or without a row of another class, are left out.
    * average_precision_score_*: sum of precision times the step in recall, as scikit-learn's.
      Classes without a row are left out.
    * precision, recall, f1: as scikit-learn's with `zero_division=0`; "macro" is over the
      classes that occur in `y_true` or are predicted.
    * balanced_accuracy: mean recall of the classes in `y_true`. norm_macro_recall: the same,
      scaled so that guessing gives 0: (recall - R) / (1 - R) with R = 1 / n_classes.
    * weighted_accuracy: accuracy with each row weighted by the share of its class.
    * log_loss: as scikit-learn's; rows are normalised.

    Args:
        y_true: Labels, of shape (n_rows,); each is in `classes`.
        probabilities: Of shape (n_rows, n_classes), columns in the order of `classes`.
        classes: All labels of the data, sorted, of shape (n_classes,).
    """
    n_rows, n_classes = probabilities.shape
    codes = np.searchsorted(classes, y_true)
    indicator = np.zeros((n_rows, n_classes), dtype=bool)
    indicator[np.arange(n_rows), codes] = True
    support = indicator.sum(axis=0)
    return (
        _averaged("AUC", _area_under_roc(indicator, probabilities), support)
        | {"AUC_micro": float(_area_under_roc(*_as_one_column(indicator, probabilities))[0])}
        | _averaged(
            "average_precision_score", _average_precision(indicator, probabilities), support
        )
        | {
            "average_precision_score_micro": float(
                _average_precision(*_as_one_column(indicator, probabilities))[0]
            ),
            "log_loss": _log_loss(codes, probabilities),
        }
        | _from_confusion(_confusion(codes, probabilities.argmax(axis=1), n_classes))
    )


def score_regression(
    y_true: FloatArray, predicted: FloatArray, *, y_min: float, y_max: float
) -> dict[str, float]:
    """Give all 11 metrics of a regressor.

    * normalized_*: the metric divided by the range of the target over all data; NaN if that is 0.
    * root_mean_squared_log_error: NaN where a target is negative; negative predictions count as 0.
    * explained_variance, r2_score: as scikit-learn's; for a constant target 1 or 0.
    * spearman_correlation: of the ranks, ties averaged; NaN where one side is constant.

    Args:
        y_true: Of shape (n_rows,).
        predicted: Of shape (n_rows,).
        y_min: Smallest target of all data.
        y_max: Largest target of all data.
    """
    error = y_true - predicted
    errors = {
        "mean_absolute_error": float(np.abs(error).mean()),
        "median_absolute_error": float(np.median(np.abs(error))),
        "root_mean_squared_error": math.sqrt(float((error**2).mean())),
        "root_mean_squared_log_error": _log_error(y_true, predicted),
    }
    span = y_max - y_min
    normalized = {
        f"normalized_{name}": value / span if span > 0 else math.nan
        for name, value in errors.items()
    }
    spread = y_true - y_true.mean()
    return (
        errors
        | normalized
        | {
            "explained_variance": _share_explained(error - error.mean(), spread),
            "r2_score": _share_explained(error, spread),
            "spearman_correlation": _correlation(rankdata(y_true), rankdata(predicted)),
        }
    )


def mean_over_folds(per_fold: list[dict[str, float]]) -> dict[str, float]:
    """Give the mean of each metric; NaN where it is NaN in any fold."""
    return {
        name: float(np.mean([fold[name] for fold in per_fold])) for name in sorted(per_fold[0])
    }


def by_name(per_fold: list[dict[str, float]]) -> Mapping[str, list[float]]:
    """Turn one mapping per fold into one list, of length n_folds, per metric."""
    return {name: [fold[name] for fold in per_fold] for name in sorted(per_fold[0])}


def _as_one_column(
    indicator: NDArray[np.bool_], scores: FloatArray
) -> tuple[NDArray[np.bool_], FloatArray]:
    return indicator.reshape(-1, 1), scores.reshape(-1, 1)


def _averaged(name: str, per_class: FloatArray, support: Codes) -> dict[str, float]:
    """Give the macro and the weighted mean over the classes for which the value is defined."""
    defined = ~np.isnan(per_class)
    if not defined.any():
        return {f"{name}_macro": math.nan, f"{name}_weighted": math.nan}
    values, weights = per_class[defined], support[defined]
    return {
        f"{name}_macro": float(values.mean()),
        f"{name}_weighted": float(np.average(values, weights=weights)),
    }


def _area_under_roc(indicator: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Give one area per column, of shape (n_columns,); NaN where only one kind of row exists."""
    n_positive = indicator.sum(axis=0)
    n_negative = len(indicator) - n_positive
    rank_sum = np.where(indicator, rankdata(scores, axis=0), 0.0).sum(axis=0)
    pairs = (n_positive * n_negative).astype(np.float64)
    pairs[pairs == 0] = np.nan
    return cast("FloatArray", (rank_sum - n_positive * (n_positive + 1) / 2) / pairs)


def _average_precision(indicator: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Give one average precision per column, of shape (n_columns,); NaN without a positive row."""
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=0)
    hits = np.cumsum(np.take_along_axis(indicator, order, axis=0), axis=0)
    seen = np.arange(1, len(scores) + 1, dtype=np.float64)
    results = np.full(scores.shape[1], np.nan)
    for column in range(scores.shape[1]):
        total = hits[-1, column]
        if total == 0:
            continue
        # Rows with equal scores are one threshold: only the last of them counts.
        last = np.append(np.flatnonzero(np.diff(ranked[:, column])), len(scores) - 1)
        true_positive = hits[last, column]
        steps = np.diff(true_positive, prepend=0)
        results[column] = float((true_positive / seen[last] * steps).sum() / total)
    return results


def _log_loss(codes: Codes, probabilities: FloatArray) -> float:
    clipped = np.clip(probabilities, _EPSILON, 1 - _EPSILON)
    share = clipped[np.arange(len(codes)), codes] / clipped.sum(axis=1)
    return float(-np.log(share).mean())


def _confusion(codes: Codes, predicted: Codes, n_classes: int) -> Codes:
    """Count rows by true class (first axis) and predicted class (second axis)."""
    cells = np.bincount(codes * n_classes + predicted, minlength=n_classes * n_classes)
    return cells.reshape(n_classes, n_classes)


def _from_confusion(confusion: Codes) -> dict[str, float]:
    correct = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    accuracy = float(correct.sum() / confusion.sum())
    balanced = float((correct[support > 0] / support[support > 0]).mean())
    chance = 1 / len(correct)
    per_class = {
        "precision_score": _ratio(correct, predicted),
        "recall_score": _ratio(correct, support),
        "f1_score": _ratio(2 * correct, support + predicted),
    }
    seen = support + predicted > 0
    averages = {
        f"{name}_{average}": value
        for name, values in per_class.items()
        for average, value in (
            ("macro", float(values[seen].mean())),
            ("micro", accuracy),
            ("weighted", float(np.average(values, weights=support))),
        )
    }
    return averages | {
        "accuracy": accuracy,
        "balanced_accuracy": balanced,
        "norm_macro_recall": (balanced - chance) / (1 - chance),
        "weighted_accuracy": float(
            (support * correct).sum() / (support.astype(np.float64) ** 2).sum()
        ),
    }


def _ratio(part: FloatArray, whole: Codes) -> FloatArray:
    """Divide; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _log_error(y_true: FloatArray, predicted: FloatArray) -> float:
    if y_true.min() < 0:
        return math.nan
    difference = np.log1p(y_true) - np.log1p(np.maximum(predicted, 0))
    return math.sqrt(float((difference**2).mean()))


def _share_explained(error: FloatArray, spread: FloatArray) -> float:
    left, total = float((error**2).sum()), float((spread**2).sum())
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return 1 - left / total


def _correlation(first: FloatArray, second: FloatArray) -> float:
    a, b = first - first.mean(), second - second.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan
