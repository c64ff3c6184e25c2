"""The first step of a pipeline over a table: mixed columns in, numbers out.

Travels with the models that use it: imports nothing of this package but the blocks.
"""

from __future__ import annotations

import re
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

Mode = Literal["dense", "native"]
Kind = Literal["number", "boolean", "category", "many", "date", "text", "dropped"]

MAX_ONE_HOT: Final = 25  # categories with a column of their own; the rest shares one
MAX_CODES: Final = 250  # categories with a code of their own: models count in one byte
MAX_CLASSES_FOR_MEANS: Final = 10  # each of them would add a column per column


class TablePreprocessor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns the columns of a table into numbers.

    What it learns, it learns from the rows it is fitted on. A category never seen before, a column
    without values and a text where a number was are all understood at predict time.

    Args:
        columns: Name and kind of each column of X, in order. `many` is a category column with more
            different values than one-hot columns can hold; `dropped` ones are passed over.
        mode: `dense` gives an array without gaps; `native` a DataFrame that keeps NaN and has
            category columns with whole numbers as categories, never missing, where 0 stands for a
            missing value.
        task: The kind of problem.
        dtype: Of the numbers that come out.
        n_text_components: Numbers that a column of free text becomes.
        random_state: Of cross-fitting and of the SVD.

    Attributes:
        blocks_: What was made of the columns, after fitting.
        categorical_features_: Positions of category codes in the output.
    """

    def __init__(
        self,
        columns: tuple[tuple[str, Kind], ...] = (),
        *,
        mode: Mode = "dense",
        task: Literal["classification", "regression"] = "classification",
        dtype: Literal["float64", "float32"] = "float64",
        n_text_components: int = 30,
        random_state: int = 0,
    ) -> None:
        self.columns = columns
        self.mode = mode
        self.task = task
        self.dtype = dtype
        self.n_text_components = n_text_components
        self.random_state = random_state

    def fit(self, X: Any, y: Target) -> Self:
        """Learn from rows and targets."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Target) -> Any:
        """Learn from rows and targets, and give the rows as a model is to be fitted on them.

        Not the same as `fit` and then `transform`: a row's own target is left out of its numbers.
        """
        self.n_features_in_ = len(self.columns)
        if _is_named(X):
            self.feature_names_in_ = np.array([name for name, _ in self.columns], dtype=object)
        columns, y = self._columns(X), np.asarray(y)
        n_classes = len(np.unique(y)) if self.task == "classification" else 0
        self.blocks_ = self._blocks(n_classes)
        for block in self.blocks_:
            block.fit(columns, y)
        self.categorical_features_ = self._positions()
        return self._written(columns, len(X), fitted=True)

    def transform(self, X: Any) -> Any:
        """Give rows as numbers."""
        return self._written(self._columns(X), len(X), fitted=False)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Give the name of each number that comes out."""
        del input_features  # the names are those of `columns`
        return np.array(_unique([name for block in self.blocks_ for name in block.names]), object)

    def _of(self, *kinds: Kind) -> list[str]:
        return [name for name, kind in self.columns if kind in kinds]

    def _blocks(self, n_classes: int) -> list[Block]:
        few, many = self._of("category"), self._of("many")
        if n_classes > MAX_CLASSES_FOR_MEANS:
            few, many = self._of("category", "many"), []
        fill = self.mode == "dense"
        seed = self.random_state
        blocks: list[Block] = []
        if numbers := self._of("number", "boolean"):
            blocks.append(Numbers(numbers, fill=fill))
        if dates := self._of("date"):
            blocks.append(Dates(dates, fill=fill))
        if few and fill:
            blocks.append(OneHot(few, max_levels=MAX_ONE_HOT))
        elif few:
            blocks.append(Codes(few, max_levels=MAX_CODES))
        if many:
            blocks.append(TargetMeans(many, n_classes=n_classes, seed=seed))
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

    def _positions(self) -> list[int]:
        flags = [block.is_category for block in self.blocks_ for _ in block.names]
        return [at for at, flag in enumerate(flags) if flag]

    def _written(self, columns: Columns, n_rows: int, *, fitted: bool) -> Any:
        """Have the blocks write into what comes out: nothing is there twice."""
        if self.mode == "native":
            return self._framed(columns, n_rows, fitted=fitted)
        out = np.empty((n_rows, sum(len(block.names) for block in self.blocks_)), self.dtype)
        at = 0
        for block in self.blocks_:
            part = out[:, at : at + len(block.names)]
            (block.write_fitted if fitted else block.write)(columns, part)
            at += len(block.names)
        return out

    def _framed(self, columns: Columns, n_rows: int, *, fitted: bool) -> pd.DataFrame:
        names = iter(_unique([_safe(name) for name in self.get_feature_names_out()]))
        made: dict[str, Any] = {}
        for block in self.blocks_:
            if isinstance(block, Codes):
                for source, codes in zip(block.wanted, block.codes(columns), strict=True):
                    kinds = pd.RangeIndex(block.levels[source].n_codes)
                    made[next(names)] = pd.Categorical.from_codes(codes.astype(np.int16), kinds)
                continue
            part = np.empty((n_rows, len(block.names)), self.dtype, order="F")
            (block.write_fitted if fitted else block.write)(columns, part)
            made |= {next(names): part[:, at] for at in range(len(block.names))}
        return pd.DataFrame(made, index=range(n_rows), copy=False)


def _is_named(X: Any) -> bool:
    """Whether X is a table, or rows of one whose columns are taken when they are needed."""
    return isinstance(X, pd.DataFrame) or hasattr(X, "rows_of_table")


def _safe(name: str) -> str:
    """Replace what LightGBM and XGBoost refuse in a name."""
    return re.sub(r'[\[\]{}<>",:]', "_", name)


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
