"""Blocks of numbers, dates or text, each turned into numbers in one way inside a fold.

Travels with the models that use it: imports nothing of this package but `values`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from mlflow_automl_remote.automl.featurization.values import (
    FloatArray,
    as_numbers,
    as_text,
    as_times,
)

Columns: TypeAlias = Mapping[str, pd.Series]
Target: TypeAlias = NDArray[np.generic]

MAX_WORDS: Final = 20_000
SMALLEST_DIRECTION: Final = 1e-6  # of the largest; smaller ones are rounding errors
DATE_PARTS: Final = ("year", "month", "day", "day_of_week", "hour")
_DAY_S: Final = 86_400.0


class Block(Protocol):
    """Some columns and what becomes of them.

    Attributes:
        names: Of the numbers that come out, after fitting.
        sources: The column that each of them comes from.
        steps: What is done, in a few words per step.
        is_category: Whether the numbers are codes of categories.
    """

    names: list[str]
    sources: list[str]
    steps: tuple[str, ...]
    is_category: bool

    def fit_transform(self, columns: Columns, y: Target) -> FloatArray:
        """Learn from columns and targets, and give numbers of shape (n_rows, n_names)."""
        ...

    def transform(self, columns: Columns) -> FloatArray:
        """Give numbers of shape (n_rows, n_names) for more rows."""
        ...


class Numbers:
    """Numbers and truth values; gaps are filled with the median and marked, or kept."""

    is_category = False

    def __init__(self, wanted: Sequence[str], *, fill: bool) -> None:
        self.wanted = tuple(wanted)
        self.fill = fill
        self.medians: FloatArray = np.zeros(0)
        self.steps: tuple[str, ...] = ()

    def read(self, columns: Columns) -> FloatArray:
        """Give the columns as numbers with NaN for gaps."""
        return np.column_stack([as_numbers(columns[name]) for name in self.wanted])

    def in_names(self) -> tuple[list[str], list[str]]:
        """Give names and sources of what `read` gives."""
        return list(self.wanted), list(self.wanted)

    def fit_transform(self, columns: Columns, y: Target) -> FloatArray:
        """Learn medians and which columns have gaps."""
        del y
        values = self.read(columns)
        self.names, self.sources = self.in_names()
        if not self.fill:
            return values
        self.gaps = np.flatnonzero(np.isnan(values).any(axis=0))
        self.medians = _medians(values)
        self.names += [f"{self.names[at]}_missing" for at in self.gaps]
        self.sources += [self.sources[at] for at in self.gaps]
        self.steps += ("median for gaps", "mark of gaps")
        return self._filled(values)

    def transform(self, columns: Columns) -> FloatArray:
        """Fill gaps with the medians that were learnt."""
        values = self.read(columns)
        return self._filled(values) if self.fill else values

    def _filled(self, values: FloatArray) -> FloatArray:
        missing = np.isnan(values)
        filled = np.where(missing, self.medians, values)
        if len(self.gaps) == 0:
            return filled
        return np.hstack([filled, missing[:, self.gaps].astype(np.float64)])


class Dates(Numbers):
    """Points in time as days since 1970 and as the parts of a calendar that differ."""

    def __init__(self, wanted: Sequence[str], *, fill: bool) -> None:
        super().__init__(wanted, fill=fill)
        self.steps = ("days since 1970", "parts of the calendar")
        self.parts: dict[str, tuple[str, ...]] = {}

    def read(self, columns: Columns) -> FloatArray:
        """Give days and parts; which parts is learnt the first time."""
        found: list[FloatArray] = []
        for name in self.wanted:
            times = as_times(columns[name])
            if name not in self.parts:
                self.parts[name] = _useful_parts(times)
            days = times.to_numpy().astype("datetime64[s]").astype(np.float64) / _DAY_S
            found.append(np.where(times.isna(), np.nan, days))
            found += [_part(times, part) for part in self.parts[name]]
        return np.column_stack(found)

    def in_names(self) -> tuple[list[str], list[str]]:
        """Name every part after its column."""
        pairs = [
            (f"{name}_{part}", name)
            for name in self.wanted
            for part in ("days", *self.parts[name])
        ]
        return [name for name, _ in pairs], [source for _, source in pairs]


def _useful_parts(times: pd.DatetimeIndex) -> tuple[str, ...]:
    known = times.dropna()
    return tuple(part for part in DATE_PARTS if len(np.unique(getattr(known, part))) > 1)


def _part(times: pd.DatetimeIndex, part: str) -> FloatArray:
    return np.asarray(getattr(times, part), dtype=np.float64)


def _medians(values: FloatArray) -> FloatArray:
    """Give the median of each column; 0 for a column without values."""
    empty = np.isnan(values).all(axis=0)
    medians: FloatArray = np.nanmedian(np.where(empty, 0.0, values), axis=0)
    return medians


class Text:
    """Free text as a few directions in the space of its words (TF-IDF, then truncated SVD)."""

    is_category = False
    steps: tuple[str, ...] = ("TF-IDF of words", "truncated SVD")

    def __init__(self, name: str, *, n_components: int, seed: int) -> None:
        self.name = name
        self.n_components = n_components
        self.seed = seed

    def fit_transform(self, columns: Columns, y: Target) -> FloatArray:
        """Learn words and directions."""
        del y
        texts = as_text(columns[self.name])
        self.words = TfidfVectorizer(max_features=MAX_WORDS, sublinear_tf=True)
        self.svd: Any = None
        try:
            weights = self.words.fit_transform(texts)
        except ValueError:  # not a single word in these rows
            self.names, self.sources = [], []
            return np.empty((len(texts), 0))
        n_components = min(self.n_components, weights.shape[0] - 1, weights.shape[1] - 1)
        if n_components >= 1:
            self.svd = TruncatedSVD(n_components, random_state=self.seed).fit(weights)
            sizes = self.svd.singular_values_
            self.n_kept = int((sizes > SMALLEST_DIRECTION * sizes.max()).sum())
        values = self._directions(weights)
        self.names = [f"{self.name}_text{number}" for number in range(values.shape[1])]
        self.sources = [self.name] * len(self.names)
        return values

    def transform(self, columns: Columns) -> FloatArray:
        """Give the directions."""
        texts = as_text(columns[self.name])
        if not self.names:
            return np.empty((len(texts), 0))
        return self._directions(self.words.transform(texts))

    def _directions(self, weights: Any) -> FloatArray:
        if self.svd is None:
            return np.asarray(weights.toarray(), dtype=np.float64)
        return np.asarray(self.svd.transform(weights)[:, : self.n_kept], dtype=np.float64)
