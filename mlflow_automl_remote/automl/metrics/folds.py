"""What the metrics of several folds come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np


def mean_over_folds(per_fold: list[dict[str, float]]) -> dict[str, float]:
    """Give the mean of each metric; NaN where it is NaN in any fold."""
    return {
        name: float(np.mean([fold[name] for fold in per_fold])) for name in sorted(per_fold[0])
    }


def by_name(per_fold: list[dict[str, float]]) -> Mapping[str, list[float]]:
    """Turn one mapping per fold into one list, of length n_folds, per metric."""
    return {name: [fold[name] for fold in per_fold] for name in sorted(per_fold[0])}


def standard_error(values: Sequence[float]) -> float:
    """Give the standard error of the mean of one metric over folds; NaN for a single fold.

    Folds share most of the rows they are fitted on, so the true error is larger (Bengio and
    Grandvalet 2004): read it as a lower bound.
    """
    if len(values) < 2:
        return math.nan
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
