"""Blocks of numbers, dates or text, each turned into numbers in one way inside a fold.

Travels with the models that use it: imports nothing of this package but `values`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
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

Out: TypeAlias = NDArray[Any]
"""Where numbers are written: single or double precision."""

MAX_WORDS: Final = 20_000
MAX_TEXTS: Final = 50_000
SMALLEST_DIRECTION: Final = 1e-6  # of the largest; smaller ones are rounding errors
DATE_PARTS: Final = ("year", "month", "day", "day_of_week", "hour")
_DAY_S: Final = 86_400.0


class Block(Protocol):
    """Some columns and what becomes of them.

    Attributes:
        names: Of the numbers that come out, after fitting.
        sources: The column that each of them comes from, or the first of two.
        partners: The second columns, one entry for each number that comes from two.
        steps: What is done, in a few words per step.
        is_category: Whether the numbers are codes of categories.
    """

    names: list[str]
    sources: list[str]
    partners: Sequence[str]
    steps: tuple[str, ...]
    is_category: bool

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn from columns and targets."""
        ...

    def write(self, columns: Columns, out: Out) -> None:
        """Write numbers into `out`, of shape (n_rows, n_names)."""
        ...

    def write_fitted(self, columns: Columns, out: Out, begin: int) -> None:
        """Do the same for rows that it was fitted on, from row `begin` on.

        They are written as a model is to be fitted on them.
        """
        ...

    def forget_rows(self) -> None:
        """Drop what is kept for `write_fitted`."""
        ...


class Plain(ABC):
    """A block to which rows fitted on are like any other."""

    partners: Sequence[str] = ()

    @abstractmethod
    def write(self, columns: Columns, out: Out) -> None:
        """Write numbers into `out`."""

    def write_fitted(self, columns: Columns, out: Out, begin: int) -> None:
        """Do the same for rows that it was fitted on."""
        del begin
        self.write(columns, out)

    def forget_rows(self) -> None:  # noqa: B027 - no row is kept
        """Do nothing."""


class Numbers(Plain):
    """Numbers and truth values; gaps are filled with the median and marked, or kept."""

    is_category = False

    def __init__(self, wanted: Sequence[str], *, fill: bool) -> None:
        self.wanted = tuple(wanted)
        self.fill = fill
        self.medians: list[float] = []
        self.gaps: list[int] = []
        self.steps: tuple[str, ...] = ()

    def values(self, columns: Columns) -> Iterator[FloatArray]:
        """Give one array of numbers after the other, with NaN for gaps."""
        for name in self.wanted:
            yield as_numbers(columns[name])

    def in_names(self) -> tuple[list[str], list[str]]:
        """Give names and sources of what `values` gives."""
        return list(self.wanted), list(self.wanted)

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn medians and which columns have gaps."""
        del y
        if self.fill:
            for at, values in enumerate(self.values(columns)):
                missing = np.isnan(values)
                if missing.any():
                    self.gaps.append(at)
                self.medians.append(0.0 if missing.all() else float(np.nanmedian(values)))
            self.steps += ("median for gaps", "mark of gaps")
        self.names, self.sources = self.in_names()
        self.names += [f"{self.names[at]}_missing" for at in self.gaps]
        self.sources += [self.sources[at] for at in self.gaps]

    def write(self, columns: Columns, out: Out) -> None:
        """Write one column after the other; gaps are filled with the medians that were learnt."""
        marks = {at: len(self.names) - len(self.gaps) + n for n, at in enumerate(self.gaps)}
        for at, values in enumerate(self.values(columns)):
            if not self.fill:
                out[:, at] = values
                continue
            missing = np.isnan(values)
            out[:, at] = np.where(missing, self.medians[at], values)
            if at in marks:
                out[:, marks[at]] = missing


class Dates(Numbers):
    """Points in time as days since 1970 and as the parts of a calendar that differ."""

    def __init__(self, wanted: Sequence[str], *, fill: bool) -> None:
        super().__init__(wanted, fill=fill)
        self.steps = ("days since 1970", "parts of the calendar")
        self.parts: dict[str, tuple[str, ...]] = {}

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn which parts differ, medians and gaps."""
        self.parts = {name: _useful_parts(as_times(columns[name])) for name in self.wanted}
        super().fit(columns, y)

    def values(self, columns: Columns) -> Iterator[FloatArray]:
        """Give the days of a column, then its parts."""
        for name in self.wanted:
            times = as_times(columns[name])
            days = times.to_numpy().astype("datetime64[s]").astype(np.float64) / _DAY_S
            yield np.where(times.isna(), np.nan, days)
            for part in self.parts[name]:
                yield _part(times, part)

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


class Text(Plain):
    """Free text as a few directions in the space of its words (TF-IDF, then truncated SVD).

    Words and directions are learnt from at most `MAX_TEXTS` rows: more would not change them, and
    take memory many times that of what comes out.
    """

    is_category = False
    steps: tuple[str, ...] = ("TF-IDF of words", "truncated SVD")

    def __init__(self, name: str, *, n_components: int, seed: int) -> None:
        self.name = name
        self.n_components = n_components
        self.seed = seed

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn words and directions."""
        del y
        column = columns[self.name]
        if len(column) > MAX_TEXTS:
            rng = np.random.default_rng(self.seed)
            column = column.iloc[np.sort(rng.choice(len(column), MAX_TEXTS, replace=False))]
        self.words = TfidfVectorizer(max_features=MAX_WORDS, sublinear_tf=True)
        self.svd: Any = None
        try:
            weights = self.words.fit_transform(as_text(column))
        except ValueError:  # not a single word in these rows
            self.names, self.sources = [], []
            return
        n_kept = weights.shape[1]
        n_components = min(self.n_components, weights.shape[0] - 1, weights.shape[1] - 1)
        if n_components >= 1:
            self.svd = TruncatedSVD(n_components, random_state=self.seed).fit(weights)
            sizes = self.svd.singular_values_
            n_kept = int((sizes > SMALLEST_DIRECTION * sizes.max()).sum())
        self.names = [f"{self.name}_text{number}" for number in range(n_kept)]
        self.sources = [self.name] * n_kept

    def write(self, columns: Columns, out: Out) -> None:
        """Write the directions, some rows at a time."""
        column, n_kept = columns[self.name], len(self.names)
        for begin in range(0, len(column) if n_kept else 0, MAX_TEXTS):
            weights = self.words.transform(as_text(column.iloc[begin : begin + MAX_TEXTS]))
            found = weights.toarray() if self.svd is None else self.svd.transform(weights)
            out[begin : begin + MAX_TEXTS] = found[:, :n_kept]
