"""The twenty metrics of a classifier."""

from __future__ import annotations

import math
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.automl.dataset import FloatArray, Labels

_EPSILON: Final = float(np.finfo(np.float64).eps)
Codes = NDArray[np.intp]
Indicator = NDArray[np.bool_]


def score_classification(
    y_true: Labels,
    probabilities: FloatArray,
    *,
    classes: Labels,
    sample_weight: FloatArray | None = None,
    only: str | None = None,
) -> dict[str, float]:
    """Give all 20 metrics of a classifier.

    Averages over classes ("macro": all alike; "weighted": by rows; "micro": all cells of the
    class-indicator matrix in one) treat two classes like many, each against the rest.

    * AUC_*: area under the ROC curve, ties counted half (the rank-sum of Hanley and McNeil 1982).
      Classes without a row, or without a row of another class, are left out.
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
        sample_weight: Weights of the rows, of shape (n_rows,), not all 0; None for equal ones.
            Rows then count by their weights everywhere above.
        only: Name of a metric; give just those that come with it, in less time.
    """
    n_rows, n_classes = probabilities.shape
    codes = np.searchsorted(classes, y_true)
    weight = np.ones(n_rows) if sample_weight is None else sample_weight
    scored: dict[str, float] = {}
    if only is None or only.startswith(("AUC", "average_precision")):
        scored |= _rankings(codes, probabilities, weight, only)
    if only in (None, "log_loss"):
        scored["log_loss"] = _log_loss(codes, probabilities, weight)
    if only is None or not scored:
        predicted = probabilities.argmax(axis=1)
        scored |= _from_confusion(_confusion(codes, predicted, weight, n_classes))
    return scored


def _rankings(
    codes: Codes, probabilities: FloatArray, weight: FloatArray, only: str | None
) -> dict[str, float]:
    """Give what depends on the order of the rows alone: AUC and average precision."""
    n_rows, n_classes = probabilities.shape
    indicator = np.zeros((n_rows, n_classes), dtype=bool)
    indicator[np.arange(n_rows), codes] = True
    support = cast("FloatArray", np.bincount(codes, weights=weight, minlength=n_classes))
    scored: dict[str, float] = {}
    if only is None or not only.endswith("_micro"):
        areas, precisions = _curves(indicator, probabilities, weight)
        scored |= _averaged("AUC", areas, support)
        scored |= _averaged("average_precision_score", precisions, support)
    if only is None or only.endswith("_micro"):
        area, precision = _curves(
            indicator.reshape(-1, 1), probabilities.reshape(-1, 1), np.repeat(weight, n_classes)
        )
        scored["AUC_micro"] = float(area[0])
        scored["average_precision_score_micro"] = float(precision[0])
    return scored


def _curves(
    indicator: Indicator, scores: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Give area under the ROC curve and average precision, each of shape (n_columns,)."""
    pairs = [
        curve(indicator[:, column], scores[:, column], weight) for column in range(scores.shape[1])
    ]
    areas, precisions = zip(*pairs, strict=True)
    return np.array(areas), np.array(precisions)


def curve(positive: Indicator, scores: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Give both numbers for one column; NaN where a kind of row that they need does not exist."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(np.where(positive[order], weight[order], 0.0))
    misses = np.cumsum(np.where(positive[order], 0.0, weight[order]))
    # Rows with equal scores are one threshold: only the last of them counts.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits, misses = hits[last], misses[last]
    n_positive, n_negative = hits[-1], misses[-1]
    if n_positive == 0:
        return math.nan, math.nan
    seen = hits + misses
    gained = np.diff(hits, prepend=0.0)
    precision = np.divide(hits, seen, out=np.zeros(len(seen)), where=seen > 0)
    average_precision = float((precision * gained).sum() / n_positive)
    if n_negative == 0:
        return math.nan, average_precision
    below = n_negative - misses + np.diff(misses, prepend=0.0) / 2
    return float((gained * below).sum() / (n_positive * n_negative)), average_precision


def _averaged(name: str, per_class: FloatArray, support: FloatArray) -> dict[str, float]:
    """Give the macro and the weighted mean over the classes for which the value is defined."""
    defined = ~np.isnan(per_class)
    if not defined.any():
        return {f"{name}_macro": math.nan, f"{name}_weighted": math.nan}
    values, weights = per_class[defined], support[defined]
    return {
        f"{name}_macro": float(values.mean()),
        f"{name}_weighted": float(np.average(values, weights=weights)),
    }


def _log_loss(codes: Codes, probabilities: FloatArray, weight: FloatArray) -> float:
    clipped = np.clip(probabilities, _EPSILON, 1 - _EPSILON)
    share = clipped[np.arange(len(codes)), codes] / clipped.sum(axis=1)
    return float(np.average(-np.log(share), weights=weight))


def _confusion(codes: Codes, predicted: Codes, weight: FloatArray, n_classes: int) -> FloatArray:
    """Weigh rows by true class (first axis) and predicted class (second axis)."""
    cells = np.bincount(
        codes * n_classes + predicted, weights=weight, minlength=n_classes * n_classes
    )
    return cast("FloatArray", cells.reshape(n_classes, n_classes))


def _from_confusion(confusion: FloatArray) -> dict[str, float]:
    correct = np.diag(confusion)
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
        "weighted_accuracy": float((support * correct).sum() / (support**2).sum()),
    }


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide; 0 where the whole is 0."""
    return cast("FloatArray", np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0))
