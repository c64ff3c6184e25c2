"""What is drawn of a classifier: confusion, and the curves of each class, micro and macro."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.charts.curves import (
    Bools,
    Calibration,
    Curve,
    Floats,
    MacroCurve,
    calibration,
    curve,
    macro,
    points_each,
)
from mlflow_automl_remote.charts.rows import sample

MAX_CURVES: Final = 20
"""Classes with a curve of their own, the most frequent ones; means are over all of them."""
MAX_LABELS: Final = 30
"""Classes with a row in the confusion matrix, the most frequent ones; the rest are one."""
OTHER: Final = "(other)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassificationCharts:
    """All that is drawn of a classifier.

    Attributes:
        n_rows: Rows with a prediction.
        n_drawn: Of which so many were looked at.
        labels: Of the confusion matrix.
        confusion: Weight of the rows by true (first axis) and predicted label, of shape
            (n_labels, n_labels).
        curves: By class; classes without a row of theirs, or without another, are left out.
        micro: Of all cells of the class-indicator matrix; None where it does not exist.
        macro: The mean over the classes; None without any curve.
        calibrations: By class.
        micro_calibration: Of all cells.
        hidden: How many classes have no curve of their own because they are too many.
    """

    n_rows: int
    n_drawn: int
    labels: tuple[str, ...]
    confusion: Floats
    curves: Mapping[str, Curve]
    micro: Curve | None
    macro: MacroCurve | None
    calibrations: Mapping[str, Calibration]
    micro_calibration: Calibration
    hidden: int


def of_classifier(
    codes: NDArray[np.intp],
    probabilities: Floats,
    *,
    classes: tuple[str, ...],
    weight: Floats | None = None,
) -> ClassificationCharts:
    """Make the charts of a classifier from predictions for rows that it was not fitted on.

    Args:
        codes: Which of `classes` each row is, of shape (n_rows,).
        probabilities: Of shape (n_rows, n_classes).
        classes: Names of the classes.
        weight: Of each row, of shape (n_rows,), not all 0; None for equal ones.
    """
    n_rows = len(codes)
    rows = sample(n_rows)
    codes, probabilities = codes[rows], probabilities[rows]
    weight = np.ones(len(codes)) if weight is None else weight[rows]
    n_classes = len(classes)
    frequent = np.argsort(-np.bincount(codes, weights=weight, minlength=n_classes), kind="stable")
    indicator = np.zeros(probabilities.shape, dtype=bool)
    indicator[np.arange(len(codes)), codes] = True
    found = {
        int(number): one
        for number in range(n_classes)
        if (one := curve(indicator[:, number], probabilities[:, number], weight)) is not None
    }
    shown = sorted(int(number) for number in frequent[:MAX_CURVES] if int(number) in found)
    cells = (indicator.reshape(-1), probabilities.reshape(-1), np.repeat(weight, n_classes))
    micro = curve(*cells)
    limit = points_each(len(shown) + 1)
    labels, confusion = _confusion(codes, probabilities.argmax(axis=1), weight, classes, frequent)
    return ClassificationCharts(
        n_rows=n_rows,
        n_drawn=len(codes),
        labels=labels,
        confusion=confusion,
        curves={classes[number]: found[number].thinned(limit) for number in shown},
        micro=None if micro is None else micro.thinned(limit),
        macro=macro(list(found.values())) if found else None,
        calibrations=_calibrations(indicator, probabilities, weight, classes, shown),
        micro_calibration=calibration(*cells),
        hidden=len(found) - len(shown),
    )


def _calibrations(
    indicator: Bools,
    probabilities: Floats,
    weight: Floats,
    classes: tuple[str, ...],
    shown: list[int],
) -> dict[str, Calibration]:
    return {
        classes[number]: calibration(indicator[:, number], probabilities[:, number], weight)
        for number in shown
    }


def _confusion(
    codes: NDArray[np.intp],
    predicted: NDArray[np.intp],
    weight: Floats,
    classes: tuple[str, ...],
    frequent: NDArray[np.intp],
) -> tuple[tuple[str, ...], Floats]:
    """Weigh rows by true and predicted label; classes beyond the most frequent are one."""
    shown = np.sort(frequent[:MAX_LABELS])
    labels = tuple(classes[number] for number in shown)
    if len(classes) > MAX_LABELS:
        labels = (*labels, OTHER)
    place = np.full(len(classes), len(labels) - 1, dtype=np.intp)
    place[shown] = np.arange(len(shown))
    n_labels = len(labels)
    cells = np.bincount(
        place[codes] * n_labels + place[predicted], weights=weight, minlength=n_labels**2
    )
    return labels, cast("Floats", cells.reshape(n_labels, n_labels))
