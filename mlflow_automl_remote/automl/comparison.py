"""Compares two models' predictions for the same rows: metrics, gain, its error, groups of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from mlflow_automl_remote.automl import metrics
from mlflow_automl_remote.automl.dataset import (
    Dataset,
    Features,
    FloatArray,
    Indices,
    Labels,
    take_rows,
)
from mlflow_automl_remote.automl.evaluation import Scoring, score
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.config.catalogue import LOWER_IS_BETTER
from mlflow_automl_remote.errors import DataError

MOST_RESAMPLES: Final = 1000
FEWEST_RESAMPLES: Final = 100
RESAMPLED_CELLS: Final = 10_000_000
"""Rows times classes that are drawn in all: the time of a comparison, whatever the data's size."""
MAX_GROUPS: Final = 20
MAX_VALUES: Final = 12
"""Different numbers of a column that are groups each; of more, quarters of the rows are."""
FEWEST_ROWS: Final = 20
"""Of a group; a metric of fewer rows says little."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows that the challenger was not fitted on.

    Attributes:
        kind: `test`, `validation` or `out-of-fold`.
        parts: Positions of the rows of each part; metrics are means over the parts.
        X: Of all rows that positions refer to, with names where they are known.
        y: Their targets.
        weight: Their weights, or None.
        used: The positions that occur, each once, in order.
        places: Of the rows of each part in `used`.
    """

    kind: str
    parts: tuple[Indices, ...]
    X: Features
    y: Labels
    weight: FloatArray | None
    used: Indices = field(init=False)
    places: tuple[Indices, ...] = field(init=False)

    def __post_init__(self) -> None:
        used = np.unique(np.concatenate(self.parts))
        object.__setattr__(self, "used", used)
        places = tuple(np.searchsorted(used, part) for part in self.parts)
        object.__setattr__(self, "places", places)


def rows_of(dataset: Dataset, splits: Splits) -> Rows:
    """Choose the rows to compare on: of `test_size` if there are any, else those that score."""
    if splits.on_valid and not len(splits.test):
        X, y = dataset.X_valid, dataset.y_valid
        # For the type checker: splits are on the validation set only where there is one.
        assert X is not None and y is not None  # noqa: S101, PT018
        names = dataset.feature_names
        if names is not None and isinstance(X, np.ndarray):
            X = pd.DataFrame(X, columns=list(names))
        parts = tuple(rows for _, rows in splits.folds)
        return Rows(kind="validation", parts=parts, X=X, y=y, weight=dataset.sample_weight_valid)
    has_test = len(splits.test) > 0
    return Rows(
        kind="test" if has_test else "out-of-fold",
        parts=(splits.test,) if has_test else tuple(rows for _, rows in splits.folds),
        X=dataset.features(),
        y=dataset.y,
        weight=dataset.sample_weight,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Gives metrics of predictions for some rows of a dataset.

    Args:
        dataset: Of which the rows are.
        scoring: What metrics depend on.
        rows: The rows.
    """

    dataset: Dataset
    scoring: Scoring
    rows: Rows

    def means(
        self, predicted: Sequence[FloatArray], counts: Indices | None = None, only: str = ""
    ) -> dict[str, float]:
        """Give means over the parts.

        Args:
            predicted: One array per part.
            counts: How often each row that occurs is drawn; None for once each.
            only: Name of a metric; give just those that come with it, in less time.
        """
        parts = [self._part(number, each, counts, only) for number, each in enumerate(predicted)]
        return metrics.mean_over_folds(parts) if all(parts) else {}

    def _part(
        self, number: int, predicted: FloatArray, counts: Indices | None, only: str
    ) -> dict[str, float]:
        rows = self.rows.parts[number]
        weight = None if self.rows.weight is None else self.rows.weight[rows]
        if counts is not None:
            times = counts[self.rows.places[number]].astype(np.float64)
            drawn = times > 0
            weight = times if weight is None else times * weight
            rows, predicted, weight = rows[drawn], predicted[drawn], weight[drawn]
        if not len(rows) or (weight is not None and not weight.any()):
            return {}
        return score(
            self.dataset, self.rows.y[rows], predicted, weight, self.scoring, only=only or None
        )

    def of_some(self, chosen: Any, predicted: Sequence[FloatArray], metric: str) -> float | None:
        """Give a metric of some of all rows together; None where it is not defined.

        Args:
            chosen: Says of each row whether it is meant, of shape (n_rows,).
            predicted: One array per part.
            metric: Its name.
        """
        rows = np.concatenate(self.rows.parts)
        kept = chosen[rows]
        weight = None if self.rows.weight is None else self.rows.weight[rows[kept]]
        together = np.concatenate(list(predicted))[kept]
        if weight is not None and not weight.any():
            return None
        found = score(
            self.dataset, self.rows.y[rows[kept]], together, weight, self.scoring, only=metric
        )
        return finite(found.get(metric))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedGain:
    """By how much the first is better than the second; see `promotion.evidence.Gain`."""

    value: float
    standard_error: float
    n_resamples: int
    seed: int


def gain(
    scorer: Scorer,
    first: Sequence[FloatArray],
    second: Sequence[FloatArray],
    *,
    metric: str,
    seed: int,
) -> PairedGain | None:
    """Give the gain of the first over the second, with its standard error by a paired bootstrap.

    Rows are drawn with replacement, and both are scored on the same draws (Efron and Tibshirani
    1993, chapter 6 and 10.3): what both find hard or easy cancels out. A row that is scored in
    several folds is drawn in all of them at once.

    Returns:
        None if the metric is not defined for either.
    """
    sign = -1 if metric in LOWER_IS_BETTER else 1

    def difference(counts: Indices | None) -> float:
        return sign * (
            scorer.means(first, counts, metric).get(metric, math.nan)
            - scorer.means(second, counts, metric).get(metric, math.nan)
        )

    value = difference(None)
    if not math.isfinite(value):
        return None
    n_rows = len(scorer.rows.used)
    n_cells = sum(part.size for part in first)
    n_resamples = int(np.clip(RESAMPLED_CELLS // n_cells, FEWEST_RESAMPLES, MOST_RESAMPLES))
    rng = np.random.default_rng(seed)
    drawn = [
        difference(np.bincount(rng.integers(0, n_rows, n_rows), minlength=n_rows))
        for _ in range(n_resamples)
    ]
    defined = np.array([each for each in drawn if math.isfinite(each)])
    if len(defined) < FEWEST_RESAMPLES / 2:
        return None
    return PairedGain(
        value=value,
        standard_error=float(defined.std(ddof=1)),
        n_resamples=len(defined),
        seed=seed,
    )


def groups(rows: Rows, column: str) -> dict[str, Any]:
    """Divide rows by the values of a column; give masks of shape (n_rows,), the largest first.

    Text and categories are divided by value, numbers of many values and dates into quarters.
    Groups of fewer than 20 of the rows to score are left out.

    Raises:
        DataError: There is no such column, or no group is large enough.
    """
    if not isinstance(rows.X, pd.DataFrame) or column not in rows.X.columns:
        known = list(rows.X.columns[:10]) if isinstance(rows.X, pd.DataFrame) else "no names"
        raise DataError(f"the data that models see has no column '{column}'; it has {known}")
    values = rows.X[column]
    if values.dtype.kind in "fiuM" and values.nunique() > MAX_VALUES:
        values = pd.qcut(values, 4, duplicates="drop")
    labels = values.astype("object").where(values.notna(), "missing").map(str).to_numpy()
    n_of = pd.Series(labels[rows.used]).value_counts()
    names = [name for name, n_rows in n_of.items() if n_rows >= FEWEST_ROWS][:MAX_GROUPS]
    if not names:
        raise DataError(f"no value of '{column}' has {FEWEST_ROWS} rows to score")
    return {str(name): labels == name for name in names}


def per_part(rows: Rows, predicted: FloatArray) -> tuple[FloatArray, ...]:
    """Give predictions for the rows of each part, given those for `rows.used`."""
    return tuple(predicted[places] for places in rows.places)


def cut(rows: Rows, stacked: FloatArray) -> tuple[FloatArray, ...]:
    """Cut predictions of all parts, one after the other, at the ends of the parts."""
    ends = np.cumsum([len(part) for part in rows.parts])[:-1]
    return tuple(cast("list[FloatArray]", np.split(stacked, ends)))


def features(rows: Rows) -> Features:
    """Give the features of `rows.used`, as a person would write them: categories as text."""
    X = take_rows(rows.X, rows.used)
    if not isinstance(X, pd.DataFrame):
        return X
    categories = X.select_dtypes("category").columns
    return X.astype(dict.fromkeys(categories, "object"))


def finite(value: float | None) -> float | None:
    """Give a number, or None for one that JSON has no word for."""
    return float(value) if value is not None and math.isfinite(value) else None
