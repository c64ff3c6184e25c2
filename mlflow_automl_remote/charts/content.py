"""Charts as plain values, as `charts.json` holds them and the page reads them."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlflow_automl_remote.charts.classification import ClassificationCharts
from mlflow_automl_remote.charts.curves import GRID, Calibration, Curve, Floats, MacroCurve
from mlflow_automl_remote.charts.regression import RegressionCharts

DECIMALS: Final = 5
DIGITS: Final = 6


def content_of(charts: ClassificationCharts | RegressionCharts) -> dict[str, object]:
    """Give numbers, names and lists of them; shares rounded to five decimals."""
    if isinstance(charts, ClassificationCharts):
        return _classification(charts)
    return _regression(charts)


def _classification(charts: ClassificationCharts) -> dict[str, object]:
    return {
        "task": "classification",
        "n_rows": charts.n_rows,
        "n_drawn": charts.n_drawn,
        "n_hidden": charts.hidden,
        "confusion": {
            "labels": list(charts.labels),
            "counts": [_significant(row) for row in charts.confusion],
        },
        "macro": None if charts.macro is None else _macro(charts.macro),
        "micro": None if charts.micro is None else _curve(charts.micro),
        "classes": [{"name": name, **_curve(one)} for name, one in charts.curves.items()],
        "calibration": {
            "micro": _calibration(charts.micro_calibration),
            "classes": [
                {"name": name, **_calibration(one)} for name, one in charts.calibrations.items()
            ],
        },
    }


def _curve(one: Curve) -> dict[str, object]:
    return {
        "positives": round(one.positives, 2 * DECIMALS),
        "threshold": _shares(one.threshold),
        "fpr": _shares(one.fpr),
        "tpr": _shares(one.tpr),
    }


def _macro(one: MacroCurve) -> dict[str, object]:
    return {
        "grid": _shares(GRID),
        "roc": _shares(one.roc),
        "precision": _shares(one.precision),
        "gains": _shares(one.gains),
        "lift": _significant(one.lift),
    }


def _calibration(one: Calibration) -> dict[str, object]:
    return {
        "predicted": _shares(one.predicted),
        "observed": _shares(one.observed),
        "weight": _shares(one.weight),
    }


def _regression(charts: RegressionCharts) -> dict[str, object]:
    return {
        "task": "regression",
        "n_rows": charts.n_rows,
        "true": _significant(charts.true),
        "predicted": _significant(charts.predicted),
        "bins": {
            "true": _significant(charts.bins.true),
            "predicted": _significant(charts.bins.predicted),
            "spread": _significant(charts.bins.spread),
        },
        "residuals": {
            "edges": _significant(charts.edges),
            "weights": _significant(charts.bars),
            "mean": float(f"{charts.mean:.{DIGITS}g}"),
            "deviation": float(f"{charts.deviation:.{DIGITS}g}"),
        },
    }


def _shares(values: Floats) -> list[float]:
    shares: list[float] = np.round(values, DECIMALS).tolist()
    return shares


def _significant(values: Floats) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
