"""The eleven metrics of a regressor."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

from mlflow_automl_remote.automl.dataset import FloatArray


def score_regression(
    y_true: FloatArray,
    predicted: FloatArray,
    *,
    y_min: float,
    y_max: float,
    sample_weight: FloatArray | None = None,
    only: str | None = None,
) -> dict[str, float]:
    """Give all 11 metrics of a regressor.

    * normalized_*: the metric divided by the range of the target over all data; NaN if that is 0.
    * root_mean_squared_log_error: NaN where a target is negative; negative predictions count as 0.
    * explained_variance, r2_score: as scikit-learn's; for a constant target 1 or 0.
    * spearman_correlation: of the ranks, ties averaged; NaN where one side is constant. With
      weights it is the weighted correlation of the ranks that the rows have without weights.

    Args:
        y_true: Of shape (n_rows,).
        predicted: Of shape (n_rows,).
        y_min: Smallest target of all data.
        y_max: Largest target of all data.
        sample_weight: Weights of the rows, of shape (n_rows,), not all 0; None for equal ones.
        only: Name of a metric; leave those out that take long, unless it is one of them.
    """
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    error = y_true - predicted
    errors = {
        "mean_absolute_error": _mean(np.abs(error), weight),
        "root_mean_squared_error": math.sqrt(_mean(error**2, weight)),
        "root_mean_squared_log_error": _log_error(y_true, predicted, weight),
    }
    if only is None or only.endswith("median_absolute_error"):
        errors["median_absolute_error"] = _median(np.abs(error), sample_weight)
    span = y_max - y_min
    normalized = {
        f"normalized_{name}": value / span if span > 0 else math.nan
        for name, value in errors.items()
    }
    spread = y_true - _mean(y_true, weight)
    centred = error - _mean(error, weight)
    scored = errors | normalized
    scored["explained_variance"] = _share_explained(centred, spread, weight)
    scored["r2_score"] = _share_explained(error, spread, weight)
    if only in (None, "spearman_correlation"):
        scored["spearman_correlation"] = _correlation(
            rankdata(y_true), rankdata(predicted), weight
        )
    return scored


def _mean(values: FloatArray, weight: FloatArray) -> float:
    return float(np.average(values, weights=weight))


def _median(values: FloatArray, weight: FloatArray | None) -> float:
    """Give the median; with weights, the middle of the two where half the weight is passed."""
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    order = order[weight[order] > 0]
    passed = np.cumsum(weight[order])
    half = passed[-1] / 2
    lower = int(np.searchsorted(passed, half, side="left"))
    upper = min(int(np.searchsorted(passed, half, side="right")), len(order) - 1)
    return float((values[order[lower]] + values[order[upper]]) / 2)


def _log_error(y_true: FloatArray, predicted: FloatArray, weight: FloatArray) -> float:
    if y_true.min() < 0:
        return math.nan
    difference = np.log1p(y_true) - np.log1p(np.maximum(predicted, 0))
    return math.sqrt(_mean(difference**2, weight))


def _share_explained(error: FloatArray, spread: FloatArray, weight: FloatArray) -> float:
    left, total = float((weight * error**2).sum()), float((weight * spread**2).sum())
    if total == 0:
        return 1.0 if left == 0 else 0.0
    return 1 - left / total


def _correlation(first: FloatArray, second: FloatArray, weight: FloatArray) -> float:
    a, b = first - _mean(first, weight), second - _mean(second, weight)
    scale = math.sqrt(float((weight * a**2).sum() * (weight * b**2).sum()))
    return float((weight * a * b).sum()) / scale if scale > 0 else math.nan
