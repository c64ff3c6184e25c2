"""Blocks of categories: columns of 0 and 1, codes, or mean targets, fitted inside a fold.

Travels with the models that use it: imports nothing of this package but `blocks` and `values`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_automl_remote.automl.featurization.blocks import Columns, Out, Plain, Target
from mlflow_automl_remote.automl.featurization.values import FloatArray, factorize

N_CROSS_FIT: Final = 5  # parts of the rows; each is encoded by the targets of the others
PRIOR_ROWS: Final = 10.0  # a category with so many rows is half its own mean, half that of all


class Levels:
    """The categories of one column, the most frequent first, and the code of each value.

    Code 0 is a missing value, 1 to n the categories that are kept, n + 1 all others, of which a
    category never seen before is one.
    """

    def __init__(self, max_levels: int | None) -> None:
        self.max_levels = max_levels

    def fit(self, column: pd.Series) -> NDArray[np.intp]:
        """Learn the categories, and give the code of each row."""
        codes, texts = factorize(column)
        counts = np.bincount(codes + 1, minlength=len(texts) + 1)
        self.has_missing = bool(counts[0])
        seen = np.flatnonzero(counts[1:])
        seen = seen[np.argsort(texts[seen].to_numpy(), kind="stable")]  # however they came in
        order = seen[np.argsort(-counts[1:][seen], kind="stable")]
        kept = order if self.max_levels is None else order[: self.max_levels]
        self.texts = texts[kept]
        self.has_others = len(kept) < len(order)
        return self._look_up(codes, texts)

    def codes(self, column: pd.Series) -> NDArray[np.intp]:
        """Give the code of each row."""
        return self._look_up(*factorize(column))

    def _look_up(self, codes: NDArray[np.intp], texts: pd.Index) -> NDArray[np.intp]:
        found = self.texts.get_indexer(texts) + 1
        return np.append(np.where(found == 0, len(self.texts) + 1, found), 0)[codes]

    @property
    def n_codes(self) -> int:
        """How many codes there can be."""
        return len(self.texts) + 2

    def names(self) -> list[str]:
        """Give a name for each code."""
        return ["missing", *map(str, self.texts), "others"]


class _Categories(Plain):
    """What blocks of categories have in common."""

    def __init__(self, wanted: Sequence[str], *, max_levels: int | None) -> None:
        self.wanted = tuple(wanted)
        self.levels = {name: Levels(max_levels) for name in wanted}

    def codes(self, columns: Columns) -> Iterator[NDArray[np.intp]]:
        """Give the codes of one column after the other."""
        for name in self.wanted:
            yield self.levels[name].codes(columns[name])


class OneHot(_Categories):
    """A column of 0 and 1 for each frequent category; one in all where there are only two."""

    is_category = False
    steps: tuple[str, ...] = ("one-hot",)

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn which categories get a column."""
        del y
        for name in self.wanted:
            self.levels[name].fit(columns[name])
        self.kept = [_one_hot_codes(level) for level in self.levels.values()]
        pairs = [
            (f"{name}_{level.names()[code]}", name)
            for (name, level), kept in zip(self.levels.items(), self.kept, strict=True)
            for code in kept
        ]
        self.names = [name for name, _ in pairs]
        self.sources = [source for _, source in pairs]

    def write(self, columns: Columns, out: Out) -> None:
        """Mark the category of each row; none for one that was never seen."""
        at = 0
        for codes, kept in zip(self.codes(columns), self.kept, strict=True):
            for code in kept:
                out[:, at] = codes == code
                at += 1


def _one_hot_codes(level: Levels) -> list[int]:
    """Give the codes that there were while fitting; of two the second says all."""
    first = 0 if level.has_missing else 1
    codes = list(range(first, level.n_codes - (not level.has_others)))
    return codes[1:] if len(codes) == 2 else codes


class Codes(_Categories):
    """Categories as codes, for models that split sets of them by themselves."""

    is_category = True
    steps: tuple[str, ...] = ("category codes",)

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn the codes."""
        del y
        for name in self.wanted:
            self.levels[name].fit(columns[name])
        self.names = list(self.wanted)
        self.sources = list(self.wanted)

    def write(self, columns: Columns, out: Out) -> None:
        """Write the codes."""
        for at, codes in enumerate(self.codes(columns)):
            out[:, at] = codes


class TargetMeans(_Categories):
    """Categories as the mean target of their rows, drawn to the mean of all, and as their count.

    While fitting, a row's own target never enters its number: each part of the rows is encoded by
    the targets of the other parts (Micci-Barreca 2001, cross-fitted).
    """

    is_category = False
    steps: tuple[str, ...] = ("mean target, cross-fitted", "count")

    def __init__(self, wanted: Sequence[str], *, n_classes: int, seed: int) -> None:
        super().__init__(wanted, max_levels=None)
        self.n_classes = n_classes
        self.seed = seed

    def fit(self, columns: Columns, y: Target) -> None:
        """Learn the means of all rows."""
        targets, shown = self._targets(y)
        prior = targets.mean(axis=0)
        parts = np.random.default_rng(self.seed).permutation(len(targets)) % N_CROSS_FIT
        self.means: list[FloatArray] = []
        self.counts: list[NDArray[np.float32]] = []
        self._of_others: list[FloatArray] = []
        for codes, size in self.fit_codes(columns):
            self.means.append(_means(*_sums(codes, targets, size), prior))
            self._of_others.append(_means_of_others(codes, targets, size, parts))
            self.counts.append(np.log1p(np.bincount(codes, minlength=size)).astype(np.float32))
        keys = self.keys()
        self.names = [f"{'_'.join(key)}_mean{each}" for key in keys for each in shown]
        self.names += [f"{'_'.join(key)}_count" for key in keys]
        self.sources = [key[0] for key in keys for _ in shown] + [key[0] for key in keys]
        self.partners = [name for key in keys for name in key[1:] for _ in (*shown, "count")]
        self._part_of: NDArray[np.int8] = parts.astype(np.int8)

    def fit_codes(self, columns: Columns) -> Iterator[tuple[NDArray[np.intp], int]]:
        """Learn the categories; give the codes of one column after the other, and their number."""
        for name, level in self.levels.items():
            yield level.fit(columns[name]), level.n_codes

    def keys(self) -> list[tuple[str, ...]]:
        """Give the columns that are encoded together, one entry per code."""
        return [(name,) for name in self.wanted]

    def write(self, columns: Columns, out: Out) -> None:
        """Write means and counts; the mean of all for a category that was never seen."""
        for number, codes in enumerate(self.codes(columns)):
            self._write(number, self.means[number][codes], codes, out)

    def write_fitted(self, columns: Columns, out: Out, begin: int) -> None:
        """Write means that leave each row's own part out."""
        parts = self._part_of[begin : begin + len(out)].astype(np.intp)
        for number, codes in enumerate(self.codes(columns)):
            places = parts * len(self.means[number]) + codes
            self._write(number, self._of_others[number][places], codes, out)

    def forget_rows(self) -> None:
        """Drop what only the rows that it was fitted on need."""
        self._of_others = []
        self._part_of = self._part_of[:0]

    def _write(self, number: int, means: FloatArray, codes: NDArray[np.intp], out: Out) -> None:
        """Write what comes out of one column: its means, and its count after all means."""
        width = means.shape[1]
        out[:, number * width : (number + 1) * width] = means
        out[:, len(self.means) * width + number] = self.counts[number][codes]

    def _targets(self, y: Target) -> tuple[FloatArray, list[str]]:
        """Give what is averaged, of shape (n_rows, n_means), and how each mean is named."""
        if not self.n_classes:
            return y.astype(np.float64)[:, None], [""]
        classes, at = np.unique(y, return_inverse=True)
        if self.n_classes == 2:
            return at.astype(np.float64)[:, None], [""]
        return np.eye(len(classes))[at], [f"_{label}" for label in classes]


def _sums(
    codes: NDArray[np.intp], targets: FloatArray, n_codes: int
) -> tuple[FloatArray, FloatArray]:
    """Give, for each code, the sum of its targets (n_codes, n_means) and its rows (n_codes, 1)."""
    sums = [np.bincount(codes, weights=target, minlength=n_codes) for target in targets.T]
    counts = np.bincount(codes, minlength=n_codes).astype(np.float64)
    return np.column_stack(sums), counts[:, None]


def _means(sums: FloatArray, counts: FloatArray, prior: FloatArray) -> FloatArray:
    return (sums + PRIOR_ROWS * prior) / (counts + PRIOR_ROWS)


def _means_of_others(
    codes: NDArray[np.intp], targets: FloatArray, n_codes: int, parts: NDArray[np.intp]
) -> FloatArray:
    """Give, for each code in each part of the rows, the mean of its targets in the other parts.

    Returns:
        Of shape (N_CROSS_FIT * n_codes, n_means).
    """
    places = parts * n_codes + codes
    sums, counts = _sums(places, targets, N_CROSS_FIT * n_codes)
    sums = sums.reshape(N_CROSS_FIT, n_codes, -1)
    counts = counts.reshape(N_CROSS_FIT, n_codes, 1)
    others, n_others = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
    n_rows = np.maximum(n_others.sum(axis=1, keepdims=True), 1)
    prior = others.sum(axis=1, keepdims=True) / n_rows
    means: FloatArray = _means(others, n_others, prior).reshape(N_CROSS_FIT * n_codes, -1)
    return means
