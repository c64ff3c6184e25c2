"""The first step of a pipeline over a table: mixed columns in, numbers out.

Travels with the models that use it: imports nothing of this package but the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from mlflow_automl_remote.automl.featurization.blocks import (
    Block,
    Columns,
    Dates,
    Numbers,
    Target,
    Text,
)
from mlflow_automl_remote.automl.featurization.categories import Codes, OneHot, TargetMeans
from mlflow_automl_remote.automl.featurization.pairs import PairMeans

Mode = Literal["dense", "native", "coded"]
Kind = Literal["number", "boolean", "category", "many", "date", "text", "dropped"]

MAX_ONE_HOT: Final = 25  # categories with a column of their own; the rest shares one
MAX_CODES: Final = 250  # categories with a code of their own: models count in one byte
MOST_ROWS: Final = 20_000  # written at a time
MOST_CELLS: Final = 16_000_000  # numbers written at a time, of wide tables


class TablePreprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns the columns of a table into numbers.

    What it learns, it learns from the rows it is fitted on. A category never seen before, a column
    without values and a text where a number was are all understood at predict time.

    Args:
        columns: Name and kind of each column of X, in order. `many` is a category column that
            becomes mean targets; `dropped` ones are passed over.
        mode: `dense` gives no gaps; `native` keeps NaN and begins with codes of categories: whole
            numbers, never missing, where 0 stands for a missing value. `coded` does so too, and
            makes codes of all categories, `many` included, each with a code of its own.
        task: The kind of problem.
        dtype: Of the numbers that come out.
        pairs: Whether pairs of `many` columns become mean targets too.
        fill_gaps: Whether gaps are filled and marked in all modes.
        n_text_components: Numbers that a column of free text becomes.
        random_state: Of cross-fitting and of the SVD.

    Attributes:
        blocks_: What was made of the columns, after fitting.
    """

    def __init__(  # noqa: PLR0913 - parameters of an estimator
        self,
        columns: tuple[tuple[str, Kind], ...] = (),
        *,
        mode: Mode = "dense",
        task: Literal["classification", "regression"] = "classification",
        dtype: Literal["float64", "float32"] = "float64",
        pairs: bool = False,
        fill_gaps: bool = False,
        n_text_components: int = 30,
        random_state: int = 0,
    ) -> None:
        self.columns = columns
        self.mode = mode
        self.task = task
        self.dtype = dtype
        self.pairs = pairs
        self.fill_gaps = fill_gaps
        self.n_text_components = n_text_components
        self.random_state = random_state

    @property
    def n_codes(self) -> int:
        """How many of the columns that come out are codes of categories; they are the first."""
        return {
            "dense": 0,
            "native": len(self._of("category")),
            "coded": len(self._of("category", "many")),
        }[self.mode]

    def fit(self, X: Any, y: Target) -> Self:
        """Learn from rows and targets."""
        return self.learn(X, y).forget_rows()

    def fit_transform(self, X: Any, y: Target) -> Any:
        """Learn from rows and targets, and give the rows as a model is to be fitted on them.

        Not the same as `fit` and then `transform`: a row's own target is left out of its numbers.
        """
        made = self._joined(self.learn(X, y).pieces(X, fitted=True), len(X))
        self.forget_rows()
        return made

    def transform(self, X: Any) -> Any:
        """Give rows as numbers."""
        return self._joined(self.pieces(X, fitted=False), len(X))

    def learn(self, X: Any, y: Target) -> Self:
        """Learn from rows and targets; `pieces` may then be asked for these rows."""
        self.n_features_in_ = len(self.columns)
        if _is_named(X):
            self.feature_names_in_ = np.array([name for name, _ in self.columns], dtype=object)
        columns, y = self._columns(X), np.asarray(y)
        n_classes = len(np.unique(y)) if self.task == "classification" else 0
        self.blocks_ = self._blocks(n_classes)
        for block in self.blocks_:
            block.fit(columns, y)
        return self

    def pieces(self, X: Any, *, fitted: bool) -> Iterator[NDArray[Any]]:
        """Give rows as numbers, some at a time, so that all of them are never in memory.

        Args:
            X: Rows.
            fitted: Whether they are all the rows that were just learnt from.
        """
        n_out = self.n_features_out
        n_rows = max(1, min(MOST_ROWS, MOST_CELLS // max(n_out, 1)))
        for begin in range(0, len(X), n_rows):
            piece = _rows(X, begin, min(begin + n_rows, len(X)))
            columns, out = self._columns(piece), np.empty((len(piece), n_out), self.dtype)
            at = 0
            for block in self.blocks_:
                part = out[:, at : at + len(block.names)]
                if fitted:
                    block.write_fitted(columns, part, begin)
                else:
                    block.write(columns, part)
                at += len(block.names)
            yield out

    def forget_rows(self) -> Self:
        """Drop what only the rows that were learnt from need."""
        for block in self.blocks_:
            block.forget_rows()
        return self

    @property
    def n_features_out(self) -> int:
        """How many numbers a row becomes."""
        return sum(len(block.names) for block in self.blocks_)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Give the name of each number that comes out."""
        del input_features  # the names are those of `columns`
        return np.array(_unique([name for block in self.blocks_ for name in block.names]), object)

    def _of(self, *kinds: Kind) -> list[str]:
        return [name for name, kind in self.columns if kind in kinds]

    def _blocks(self, n_classes: int) -> list[Block]:
        few, many = self._of("category"), self._of("many")
        if self.mode == "coded":
            few, many = self._of("category", "many"), []
        fill = self.mode == "dense" or self.fill_gaps
        seed = self.random_state
        blocks: list[Block] = []
        if few and self.mode != "dense":
            blocks.append(Codes(few, max_levels=MAX_CODES if self.mode == "native" else None))
        if numbers := self._of("number", "boolean"):
            blocks.append(Numbers(numbers, fill=fill))
        if dates := self._of("date"):
            blocks.append(Dates(dates, fill=fill))
        if few and self.mode == "dense":
            blocks.append(OneHot(few, max_levels=MAX_ONE_HOT))
        if many:
            blocks.append(TargetMeans(many, n_classes=n_classes, seed=seed))
        if self.pairs and len(many) > 1:
            blocks.append(PairMeans(many, n_classes=n_classes, seed=seed))
        n_components = self.n_text_components
        return blocks + [
            Text(name, n_components=n_components, seed=seed) for name in self._of("text")
        ]

    def _columns(self, X: Any) -> Columns:
        names = [name for name, _ in self.columns]
        if _is_named(X):
            for name in self._of("number", "boolean", "date", "category", "many", "text"):
                if name not in X.columns:
                    raise ValueError(f"X lacks the column '{name}' that the model was fitted on.")
            return cast("Columns", X)
        array = np.asarray(X)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise ValueError(
                f"X must have {len(names)} columns, as when the model was fitted. "
                f"Got the shape {array.shape} instead."
            )
        return {name: pd.Series(array[:, at]) for at, name in enumerate(names)}

    def _joined(self, pieces: Iterator[NDArray[Any]], n_rows: int) -> NDArray[Any]:
        out = np.empty((n_rows, self.n_features_out), self.dtype)
        at = 0
        for piece in pieces:
            if len(piece) == n_rows:
                return piece
            out[at : at + len(piece)] = piece
            at += len(piece)
        return out


def _is_named(X: Any) -> bool:
    """Whether X is a table, or rows of one whose columns are taken when they are needed."""
    return isinstance(X, pd.DataFrame) or hasattr(X, "rows_of_table")


def _rows(X: Any, begin: int, end: int) -> Any:
    if isinstance(X, pd.DataFrame):
        return X.iloc[begin:end]
    return X.piece(begin, end) if _is_named(X) else X[begin:end]


def _unique(names: list[str]) -> list[str]:
    """Number the names that are there twice: a column `age_missing` may have been there before."""
    taken: set[str] = set()
    found = []
    for name in names:
        number, free = 2, name
        while free in taken:
            number, free = number + 1, f"{name}_{number}"
        taken.add(free)
        found.append(free)
    return found
