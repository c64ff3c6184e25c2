"""The curve of a score over all thresholds, from which ROC, precision, gains and lift follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]

MAX_POINTS: Final = 2000
"""Of one curve; a screen shows fewer."""
MAX_POINTS_OF_ALL: Final = 6000
"""Of all curves of a model together; it decides the size of the page."""
FEWEST_POINTS: Final = 150
N_BINS: Final = 10
"""Of a calibration curve, of equal width."""
GRID: Final[Floats] = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """How many rows of a class are found as more and more rows are called it.

    All but `positives` have shape (n_points,) and begin where no row is called it.

    Attributes:
        positives: Share of the rows that are of the class, over 0 and below 1.
        threshold: The lowest score of the rows called it; at the first point the highest score.
        fpr: Share of the other rows that are called it: false positives.
        tpr: Share of the rows of the class that are called it: true positives, recall.
    """

    positives: float
    threshold: Floats
    fpr: Floats
    tpr: Floats

    @property
    def fraction(self) -> Floats:
        """Share of all rows that are called it."""
        return self.tpr * self.positives + self.fpr * (1 - self.positives)

    @property
    def precision(self) -> Floats:
        """Share of the rows called it that are of the class; at the first point as at the next."""
        fraction = self.fraction
        found = self.tpr * self.positives
        precision = np.divide(found, fraction, out=np.ones_like(found), where=fraction > 0)
        precision[0] = precision[min(1, len(precision) - 1)]
        return precision

    @property
    def lift(self) -> Floats:
        """How often more the class is among the rows called it than among all."""
        return self.precision / self.positives

    def thinned(self, limit: int) -> Curve:
        """Leave out points so that at most `limit` remain, ends and corners among them."""
        n_points = len(self.tpr)
        if n_points <= limit:
            return self
        way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(self.tpr)) + np.diff(self.fpr))])
        by_way = np.searchsorted(way, np.linspace(0, way[-1], limit // 2 - 1))
        # Precision and lift change most among the first rows.
        by_rank = np.geomspace(1, n_points - 1, limit // 2 - 1).astype(np.intp)
        ends = np.array([0, n_points - 1])
        kept = np.unique(np.clip(np.concatenate([by_way, by_rank, ends]), 0, n_points - 1))
        return Curve(
            positives=self.positives,
            threshold=self.threshold[kept],
            fpr=self.fpr[kept],
            tpr=self.tpr[kept],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MacroCurve:
    """The mean of the curves of all classes, each of them counting alike; over `GRID`.

    Attributes:
        roc: True positive rate over false positive rate.
        precision: Over recall.
        gains: Recall over the share of rows called the class.
        lift: The mean of the classes' lifts over that share; the first point as the second.
    """

    roc: Floats
    precision: Floats
    gains: Floats
    lift: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Whether rows with a score of 0.8 are of the class in 8 of 10 cases.

    Of shape (n_bins,), bins without a row left out.

    Attributes:
        predicted: Mean score of the rows of the bin.
        observed: Share of them that are of the class.
        weight: Share of all rows that are in the bin.
    """

    predicted: Floats
    observed: Floats
    weight: Floats


def curve(positive: Bools, scores: Floats, weight: Floats) -> Curve | None:
    """Give the curve of one class; None without a row of it, or without another row.

    Args:
        positive: Whether a row is of the class, of shape (n_rows,).
        scores: The probability given to the class, of shape (n_rows,).
        weight: Of each row, at least 0.
    """
    order = np.argsort(-scores)  # rows with equal scores may come in any order
    ordered = scores[order]
    counted = np.where(positive[order], weight[order], 0.0)
    hits = np.cumsum(counted)
    misses = np.cumsum(weight[order] - counted)
    if hits[-1] <= 0 or misses[-1] <= 0:
        return None
    # Rows with equal scores are one threshold: only the last of them is a point.
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return Curve(
        positives=float(hits[-1] / (hits[-1] + misses[-1])),
        threshold=np.concatenate([ordered[:1], ordered[last]]),
        fpr=np.concatenate([[0.0], misses[last] / misses[-1]]),
        tpr=np.concatenate([[0.0], hits[last] / hits[-1]]),
    )


def macro(curves: Sequence[Curve]) -> MacroCurve:
    """Give the mean of curves, of which there must be one at least."""
    gains = [np.interp(GRID, one.fraction, one.tpr) for one in curves]
    lifts = [np.divide(part, GRID, out=np.zeros_like(part), where=GRID > 0) for part in gains]
    lift = np.mean(lifts, axis=0)
    lift[0] = lift[1]
    return MacroCurve(
        roc=_mean([np.interp(GRID, one.fpr, one.tpr) for one in curves]),
        precision=_mean([np.interp(GRID, one.tpr, one.precision) for one in curves]),
        gains=_mean(gains),
        lift=lift,
    )


def calibration(positive: Bools, scores: Floats, weight: Floats) -> Calibration:
    """Compare scores with what came true, in ten bins of equal width."""
    number = np.clip((scores * N_BINS).astype(np.intp), 0, N_BINS - 1)
    total = np.bincount(number, weights=weight, minlength=N_BINS)
    summed = np.bincount(number, weights=weight * scores, minlength=N_BINS)
    hits = np.bincount(number, weights=weight * positive, minlength=N_BINS)
    there = total > 0
    return Calibration(
        predicted=summed[there] / total[there],
        observed=hits[there] / total[there],
        weight=total[there] / total.sum(),
    )


def points_each(n_curves: int) -> int:
    """Give how many points each of so many curves may have."""
    return max(FEWEST_POINTS, min(MAX_POINTS, MAX_POINTS_OF_ALL // max(n_curves, 1)))


def _mean(rows: Sequence[Floats]) -> Floats:
    return cast("Floats", np.mean(rows, axis=0))
