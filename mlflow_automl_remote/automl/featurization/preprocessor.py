"""The first step of a pipeline over a table: mixed columns in, numbers out.

Travels with the models that use it: imports nothing of this package but the blocks.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, Self

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
from mlflow_automl_remote.automl.featurization.values import FloatArray

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
        if isinstance(X, pd.DataFrame):
            self.feature_names_in_ = np.array([name for name, _ in self.columns], dtype=object)
        columns, y = self._columns(X), np.asarray(y)
        n_classes = len(np.unique(y)) if self.task == "classification" else 0
        self.blocks_ = self._blocks(n_classes)
        parts = [self._typed(block.fit_transform(columns, y)) for block in self.blocks_]
        self.categorical_features_ = self._positions()
        return self._joined(parts, len(X))

    def transform(self, X: Any) -> Any:
        """Give rows as numbers."""
        columns = self._columns(X)
        parts = [self._typed(block.transform(columns)) for block in self.blocks_]
        return self._joined(parts, len(X))

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
        if isinstance(X, pd.DataFrame):
            for name in self._of("number", "boolean", "date", "category", "many", "text"):
                if name not in X.columns:
                    raise ValueError(f"X lacks the column '{name}' that the model was fitted on.")
            return {name: X[name] for name in names if name in X.columns}
        array = np.asarray(X)
        if array.ndim != 2 or array.shape[1] != len(names):
            raise ValueError(
                f"X must have {len(names)} columns, as when the model was fitted. "
                f"Got the shape {array.shape} instead."
            )
        return {name: pd.Series(array[:, at]) for at, name in enumerate(names)}

    def _typed(self, part: FloatArray) -> NDArray[Any]:
        """Give what a block made in the output's type at once: it may be half the memory."""
        return part.astype(self.dtype, copy=False)

    def _positions(self) -> list[int]:
        flags = [block.is_category for block in self.blocks_ for _ in block.names]
        return [at for at, flag in enumerate(flags) if flag]

    def _joined(self, parts: list[NDArray[Any]], n_rows: int) -> Any:
        if self.mode == "native":
            return self._framed(parts, n_rows)
        if not parts:
            return np.zeros((n_rows, 0), dtype=self.dtype)
        return np.concatenate(parts, axis=1)

    def _framed(self, parts: list[NDArray[Any]], n_rows: int) -> pd.DataFrame:
        names = iter(_unique([_safe(name) for name in self.get_feature_names_out()]))
        columns: dict[str, Any] = {}
        for block, part in zip(self.blocks_, parts, strict=True):
            for at, name in enumerate(block.names):
                if isinstance(block, Codes):
                    values = part[:, at].astype(np.int16)
                    codes = pd.RangeIndex(block.levels[name].n_codes)
                    columns[next(names)] = pd.Categorical.from_codes(values, codes)
                else:
                    columns[next(names)] = part[:, at]
        return pd.DataFrame(columns, index=range(n_rows), copy=False)


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
