"""The data of a sweep as a value: features in one of three forms, targets, weights and folds.

Knows nothing of where it comes from (`data` checks it, `storage` keeps it on disk).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mlflow_automl_remote.config import Task

FloatArray = NDArray[np.float64]
Labels = NDArray[np.generic]
Indices = NDArray[np.intp]
Features: TypeAlias = FloatArray | sparse.csr_matrix | pd.DataFrame
"""Numbers without gaps or with NaN, a sparse matrix of numbers, or a table of mixed columns."""

ColumnKind = Literal["number", "boolean", "category", "date", "text"]
Given = Literal["", "number", "whole", "truth", "text"]
KINDS: Final[tuple[ColumnKind, ...]] = ("number", "boolean", "category", "date", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSchema:
    """What a column of the data is.

    Attributes:
        name: As the user gave it, or `x3` for the column 3 of an array.
        kind: How it is read: numbers, true or false, categories, points in time, free text.
        n_missing: Rows without a value.
        n_unique: Different values, missing ones not counted; of numbers in large tables, those in
            a sample.
        dropped_reason: Why no model sees it; None if models see it.
        given: How the user gave it, where a model takes that but its kind is kept as something
            else; callers of a model send it so.
    """

    name: str
    kind: ColumnKind
    n_missing: int
    n_unique: int
    dropped_reason: str | None = None
    given: Given = ""


class TableRows:
    """Some rows of a table, of which no copy is made but column by column.

    Args:
        table: Of any columns.
        indices: Positions of the rows.
        let_go: Called when a column has been copied: no page of the table is needed then.
    """

    rows_of_table = True
    """By which `TablePreprocessor`, which knows nothing of this package, knows it."""

    def __init__(
        self, table: pd.DataFrame, indices: Indices, let_go: Callable[[], None] | None = None
    ) -> None:
        self._table = table
        self._let_go = let_go
        self._indices = indices
        self.columns = table.columns
        self.shape = (len(indices), table.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def piece(self, begin: int, end: int) -> TableRows:
        """Give the rows from one position to before another."""
        return TableRows(self._table, self._indices[begin:end])

    def __getitem__(self, name: object) -> pd.Series[Any]:
        column = self._table[name].iloc[self._indices]
        if self._let_go is not None:
            self._let_go()
        return column


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Features and targets that have passed every check.

    The columns of a table have one of these types: float64 (number, boolean; NaN is missing),
    category with text as categories (category), datetime64 in UTC (date), str (text).

    Attributes:
        X: Features, of shape (n_rows, n_features); finite, or NaN where a value is missing.
        y: Targets, of shape (n_rows,): labels as the user gave them, or float64 numbers.
        feature_names: One name per column of X, or None when X came without names.
        task: The kind of problem.
        digest: 32 hexadecimal digits that change with any value, label or name.
        sample_weight: Weights of the rows, of shape (n_rows,), at least 0; None for equal ones.
        X_valid: Features to score on instead of folds, in the form of X; None for folds.
        y_valid: Targets of `X_valid`; only labels that y has too.
        sample_weight_valid: Weights of the rows of `X_valid`.
        cv_splits: Rows to fit on and rows to score, once per fold; None for folds of our own.
        columns: All columns that came in, in order, also those that are not in X because they were
            dropped. Empty for a sparse matrix.
    """

    X: Features
    y: Labels
    feature_names: tuple[str, ...] | None
    task: Task
    digest: str
    sample_weight: FloatArray | None = None
    X_valid: Features | None = None
    y_valid: Labels | None = None
    sample_weight_valid: FloatArray | None = None
    cv_splits: tuple[tuple[Indices, Indices], ...] | None = None
    columns: tuple[ColumnSchema, ...] = ()

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """How many columns X has."""
        return int(self.X.shape[1])

    @property
    def is_sparse(self) -> bool:
        """Whether X is a sparse matrix."""
        return sparse.issparse(self.X)  # type: ignore[no-any-return]

    @property
    def is_table(self) -> bool:
        """Whether X is a table, whose columns may be of any kind."""
        return isinstance(self.X, pd.DataFrame)

    @property
    def x_columns(self) -> tuple[ColumnSchema, ...]:
        """The schema of each column of X, in order; empty for a sparse matrix."""
        if len(self.columns) == self.n_features:
            return self.columns
        return tuple(column for column in self.columns if column.dropped_reason is None)

    @property
    def classes(self) -> Labels:
        """The labels that occur, sorted, of shape (n_classes,); classification only."""
        return cast("Labels", np.unique(self.y))

    @property
    def smallest_class(self) -> int:
        """How many rows the rarest class has; classification only."""
        return int(np.unique(self.y, return_counts=True)[1].min())

    def rows(self, indices: Indices | slice) -> Features | TableRows:
        """Give rows of X in the form that a pipeline is fitted on, without names added.

        A copy of an array or sparse matrix. Columns of a table are taken when they are asked for:
        a pipeline over a table begins with a step that asks for one at a time.
        """
        if isinstance(self.X, pd.DataFrame) and not isinstance(indices, slice):
            return TableRows(self.X, indices)
        return take_rows(self.X, indices)

    def features(self) -> Features:
        """Give X as a table with names where names are known, else as it is."""
        if self.feature_names is None or not isinstance(self.X, np.ndarray):
            return self.X
        return pd.DataFrame(self.X, columns=list(self.feature_names))

    def example(self, n_rows: int) -> Features:
        """Give the first rows as the user gave them: whole numbers, text, truth values."""
        first = take_rows(self.features(), slice(0, n_rows))
        if not isinstance(first, pd.DataFrame):
            return first
        categories = first.select_dtypes("category").columns
        first = first.astype(dict.fromkeys(categories, "object"))
        for column in self.columns:
            if column.given and column.name in first:
                first[column.name] = _as_given(first[column.name], column.given)
        return first


def _as_given(values: pd.Series[Any], given: Given) -> pd.Series[Any]:
    if given == "text":
        text = values.map("{:.15g}".format) if values.dtype.kind == "f" else values.astype(str)
        return text.astype("object").where(values.notna(), None)
    numbers = pd.to_numeric(values)
    return (
        numbers if given == "number" else numbers.astype("bool" if given == "truth" else "int64")
    )


def take_rows(X: Features, indices: Indices | slice) -> Features:
    """Give rows of features in any form, in the same form."""
    if isinstance(X, pd.DataFrame):
        return X.iloc[indices]
    return X[indices]
