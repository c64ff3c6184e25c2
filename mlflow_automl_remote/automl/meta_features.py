"""What a dataset is like, in a few numbers, and how far apart two datasets are by them.

The numbers are among those that auto-sklearn compares datasets by (Feurer et al., "Efficient and
robust automated machine learning", NeurIPS 2015) and that STATLOG introduced (Michie,
Spiegelhalter and Taylor, "Machine learning, neural and statistical classification", 1994).
Landmarks, the scores of quick models, are left out: they would cost each sweep time, and what is
looked for is the same table again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices

MAX_ROWS: Final = 5_000
"""Rows that skewness is taken from, drawn at random; more would cost time on every sweep."""
MAX_COLUMNS: Final = 200
MOST_DIFFERENCE: Final = 2.0
"""One number counts no more than this, in its units, however far apart it is."""


def _as_it_is(value: float) -> float:
    return value


def _log10(value: float) -> float:
    return math.log10(1.0 + max(value, 0.0))


_COMPARED: Final[Mapping[str, tuple[Callable[[float], float], float]]] = {
    "n_rows": (_log10, 0.5),
    "n_columns": (_log10, 0.3),
    "share_numbers": (_as_it_is, 0.3),
    "share_categories": (_as_it_is, 0.3),
    "share_texts": (_as_it_is, 0.3),
    "share_missing": (_as_it_is, 0.1),
    "density": (_as_it_is, 0.3),
    "n_categories": (_log10, 0.5),
    "n_classes": (_log10, 0.2),
    "class_entropy": (_as_it_is, 0.2),
    "skewness": (_log10, 0.3),
    "target_skewness": (_log10, 0.3),
}
"""How each number is compared, and which difference counts as one unit."""


def meta_features(dataset: Dataset) -> dict[str, float]:
    """Describe a dataset.

    Returns:
        By name: `n_rows`; `n_columns` that models see; `share_numbers`, `share_categories` (truth
        values too), `share_texts` of these columns; `share_missing` of their values; `density`,
        the share of values of a sparse matrix that are not 0, else 1; `n_categories`, the
        geometric mean of the different values of category columns, else 0; `n_classes`, 0 for
        regression; `class_entropy`, 1 where classes are alike, 0 for regression; `skewness`, the
        median of its absolute value over the columns of numbers; `target_skewness`, 0 for
        classification.
    """
    kinds = [column.kind for column in dataset.x_columns if column.dropped_reason is None]
    n_kinds = max(len(kinds), 1)
    rows = np.random.default_rng(0).permutation(dataset.n_rows)[:MAX_ROWS]
    is_regression = dataset.task == "regression"
    found = {
        "n_rows": dataset.n_rows,
        "n_columns": dataset.n_features,
        "share_numbers": kinds.count("number") / n_kinds if kinds else 1.0,
        "share_categories": (kinds.count("category") + kinds.count("boolean")) / n_kinds,
        "share_texts": kinds.count("text") / n_kinds,
        "share_missing": _share_missing(dataset),
        "density": _density(dataset),
        "n_categories": _n_categories(dataset),
        "n_classes": 0 if is_regression else len(dataset.classes),
        "class_entropy": 0.0 if is_regression else _class_entropy(dataset),
        "skewness": _skewness_of_columns(dataset, rows),
        "target_skewness": _skewness(np.asarray(dataset.y[rows], float)) if is_regression else 0.0,
    }
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Say how far apart two datasets are: 0 for the same, above 1 for those of another kind.

    It is the mean difference of the numbers that both have, each in units of its own; infinite if
    there are none.
    """
    differences = [
        min(abs(scale(one[name]) - scale(other[name])) / unit, MOST_DIFFERENCE)
        for name, (scale, unit) in _COMPARED.items()
        if name in one and name in other
    ]
    return float(np.mean(differences)) if differences else math.inf


def _share_missing(dataset: Dataset) -> float:
    seen = [column for column in dataset.x_columns if column.dropped_reason is None]
    cells = len(seen) * dataset.n_rows
    return sum(column.n_missing for column in seen) / cells if cells else 0.0


def _density(dataset: Dataset) -> float:
    X: Any = dataset.X
    return float(X.nnz / max(X.shape[0] * X.shape[1], 1)) if dataset.is_sparse else 1.0


def _n_categories(dataset: Dataset) -> float:
    counts = [column.n_unique for column in dataset.x_columns if column.kind == "category"]
    return float(np.exp(np.mean(np.log(np.maximum(counts, 1))))) if counts else 0.0


def _class_entropy(dataset: Dataset) -> float:
    counts = np.unique(dataset.y, return_counts=True)[1]
    shares = counts / counts.sum()
    most = math.log(len(shares)) if len(shares) > 1 else 1.0
    return float(-(shares * np.log(shares)).sum() / most)


def _skewness_of_columns(dataset: Dataset, rows: Indices) -> float:
    if dataset.is_sparse:
        return 0.0
    found = []
    for at, column in enumerate(dataset.x_columns):
        if column.kind != "number" or column.dropped_reason is not None:
            continue
        X: Any = dataset.X
        values = X.iloc[:, at].to_numpy()[rows] if dataset.is_table else X[rows, at]
        found.append(_skewness(np.asarray(values, float)))
        if len(found) == MAX_COLUMNS:
            break
    return float(np.median(found)) if found else 0.0


def _skewness(values: FloatArray) -> float:
    """Give the absolute value of the third standardized moment; 0 for a constant."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    centred = known - known.mean()
    spread = centred.std()
    return float(abs((centred**3).mean()) / spread**3) if spread > 0 else 0.0
