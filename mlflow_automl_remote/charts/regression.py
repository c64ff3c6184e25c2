"""What is drawn of a regressor: predicted against true values, and how its errors are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mlflow_automl_remote.charts.curves import MAX_POINTS, Floats
from mlflow_automl_remote.charts.rows import sample

N_BARS: Final = 40
N_BINS: Final = 20
_CLIPPED: Final = (0.005, 0.995)
"""Quantiles of the residuals between which the bars lie; what is outside is in the outer bars."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Binned:
    """Predictions for rows of like true value, of shape (n_bins,).

    Attributes:
        true: Mean true value of the rows of the bin.
        predicted: Mean prediction.
        spread: Standard deviation of the predictions.
    """

    true: Floats
    predicted: Floats
    spread: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegressionCharts:
    """All that is drawn of a regressor; a residual is true minus predicted.

    Attributes:
        n_rows: Rows with a prediction.
        true: Of the rows that have a dot, of shape (n_dots,).
        predicted: Of the same rows.
        bins: The same for all rows, in bins of equally many rows.
        edges: Of the bars of the residuals, of shape (n_bars + 1,).
        bars: Weight of the rows in each of them, of shape (n_bars,).
        mean: Of all residuals.
        deviation: Standard deviation of all residuals.
    """

    n_rows: int
    true: Floats
    predicted: Floats
    bins: Binned
    edges: Floats
    bars: Floats
    mean: float
    deviation: float


def of_regressor(
    true: Floats, predicted: Floats, *, weight: Floats | None = None
) -> RegressionCharts:
    """Make the charts of a regressor from predictions for rows that it was not fitted on.

    Args:
        true: Of shape (n_rows,).
        predicted: Of shape (n_rows,).
        weight: Of each row, of shape (n_rows,), not all 0; None for equal ones.
    """
    weight = np.ones(len(true)) if weight is None else weight
    residuals = true - predicted
    low, high = np.quantile(residuals, _CLIPPED)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, N_BARS + 1)
    bars, _ = np.histogram(np.clip(residuals, low, high), bins=edges, weights=weight)
    mean = float(np.average(residuals, weights=weight))
    dots = sample(len(true), MAX_POINTS)
    return RegressionCharts(
        n_rows=len(true),
        true=true[dots],
        predicted=predicted[dots],
        bins=_binned(true, predicted),
        edges=edges,
        bars=bars.astype(np.float64),
        mean=mean,
        deviation=float(np.sqrt(np.average((residuals - mean) ** 2, weights=weight))),
    )


def _binned(true: Floats, predicted: Floats) -> Binned:
    parts = [part for part in np.array_split(np.argsort(true, kind="stable"), N_BINS) if len(part)]
    return Binned(
        true=np.array([true[part].mean() for part in parts]),
        predicted=np.array([predicted[part].mean() for part in parts]),
        spread=np.array([predicted[part].std() for part in parts]),
    )
