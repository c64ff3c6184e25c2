"""What the steps before a model make of rows: once for all iterations of a sweep that need it.

Each set of rows, way of preprocessing and scaler has files of its own in the store of a sweep: the
fitted step, and the numbers, which all iterations map. The rows to fit on come first in them, then
the others, so that a model can be fitted on all of them too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.dataset import Features, Indices, Labels, TableRows, take_rows
from mlflow_automl_remote.automl.feature_store import FeatureStore
from mlflow_automl_remote.automl.featurization import LARGE_CELLS
from mlflow_automl_remote.automl.featurization.preprocessor import (
    MOST_CELLS,
    MOST_ROWS,
    TablePreprocessor,
)

_SCALERS: Final = (MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler)
"""What these make is as large as what they get, so it is shared too where that is large."""
Step = tuple[str, Any]
Pieces = Callable[[], Iterable[NDArray[Any]]]
"""Gives rows from the first to the last, some at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowSet:
    """Rows that a pipeline is fitted on, and others that take the same steps.

    Attributes:
        name: Equal where the rows are equal, in all iterations of a sweep.
        X: Features of the data.
        y: Targets of the rows to fit on, of shape (n_fit,).
        fit: Rows of X to fit on; None for all.
        others: Features, and rows of them.
        names: Of the columns of an array, where the pipeline is to know them.
    """

    name: str
    X: Features
    y: Labels
    fit: Indices | None
    others: tuple[tuple[Features, Indices], ...] = ()
    names: tuple[str, ...] | None = None

    def named(self, X: Any) -> Any:
        """Give numbers as a table with names where the pipeline is to know them."""
        return X if self.names is None else pd.DataFrame(X, columns=list(self.names))

    @property
    def order(self) -> Indices:
        """The rows of X that it holds, those to fit on first; all of `others` are of X."""
        fit = np.arange(self.X.shape[0]) if self.fit is None else self.fit
        return np.concatenate([fit, *(rows for _, rows in self.others)])

    def taken(self, let_go: Callable[[], None] | None = None) -> list[Any]:
        """Give the rows to fit on, then the others; of a table column by column when asked.

        Args:
            let_go: Called when a column of a table has been copied.
        """
        fit = self.fit
        if fit is None and isinstance(self.X, pd.DataFrame) and let_go is not None:
            fit = np.arange(len(self.X))
        parts = ((self.X, rows) for rows in (fit,) if rows is not None)
        whole = [self.X] if fit is None else []
        return whole + [
            TableRows(X, rows, let_go) if isinstance(X, pd.DataFrame) else take_rows(X, rows)
            for X, rows in (*parts, *self.others)
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Behind:
    """Rows as a model gets them.

    Attributes:
        steps: The fitted steps that they have passed, by name.
        fit: The rows to fit on.
        others: The other rows.
        whole: All of them, in the order of `RowSet.order`; None where they are not in one piece.
    """

    steps: tuple[Step, ...]
    fit: Any
    others: tuple[Any, ...]
    whole: Any = None


def pass_on(pipeline: Estimator, rows: RowSet, store: FeatureStore | None) -> Behind:
    """Fit the steps before the model on rows, and give the rows behind them.

    Args:
        pipeline: Is not changed.
        rows: The rows.
        store: Where they may have been made before, or are kept; None to make them here.
    """
    steps: list[Step] = clone(cast("Pipeline", pipeline)).steps[:-1]
    if store is not None and _is_shared(steps, rows):
        made = _shared(steps, rows, store)
        if made is not None:
            return made
    front = Pipeline(steps)
    fit, *others = rows.taken()
    fit = front.fit_transform(rows.named(fit), rows.y)
    return Behind(
        steps=tuple(steps),
        fit=fit,
        others=tuple(front.transform(rows.named(each)) for each in others),
    )


def _is_shared(steps: Sequence[Step], rows: RowSet) -> bool:
    """Whether rows are worth a file: those of tables are, and arrays that are large."""
    if isinstance(steps[0][1], TablePreprocessor):
        return True
    large = isinstance(rows.X, np.ndarray) and len(rows.y) * rows.X.shape[1] > LARGE_CELLS
    return large and (_is_nothing(steps[-1][1]) or isinstance(steps[-1][1], _SCALERS))


def _shared(steps: Sequence[Step], rows: RowSet, store: FeatureStore) -> Behind | None:
    """Take rows through preprocessing and scaler; None where the disk has no room."""
    fitted: list[Step] = []
    every = np.arange(rows.X.shape[0]) if rows.fit is None else rows.fit
    key, whole = rows.name, None
    parts: list[Any] = [_Lazy(X, each) for X, each in ((rows.X, every), *rows.others)]
    for name, step in steps:
        found: tuple[Any, Any] | None
        if isinstance(step, TablePreprocessor):
            key = f"{rows.name} {_named_by(step)}"
            found = store.get(key, partial(_preprocess, step, rows, store))
        elif _is_nothing(step) and not isinstance(parts[0], _Lazy):
            fitted.append((name, step))
            continue
        elif _is_nothing(step) or (isinstance(step, _SCALERS) and _is_large(parts[0])):
            key += f" {_named_by(step)}"
            found = store.get(key, partial(_scale, step, parts, rows, store))
            store.let_go()
        else:
            parts, whole = _privately(step, parts, rows.y), None
            fitted.append((name, step))
            continue
        if found is None:
            return None
        fitted.append((name, found[0]))
        whole = found[1]
        parts = np.split(whole, np.cumsum([len(part) for part in parts])[:-1])
    fit, *others = parts
    is_plain = all(_is_nothing(step) for _, step in fitted)
    return Behind(
        steps=tuple(fitted),
        fit=rows.named(fit) if is_plain else fit,
        others=tuple(others),
        whole=rows.named(whole) if is_plain and whole is not None else whole,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Lazy:
    """Rows of a large array, of which no copy is made but piece by piece."""

    X: Any
    rows: Indices

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.X.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, piece: slice) -> NDArray[Any]:
        found: NDArray[Any] = self.X[self.rows[piece]]
        return found


def _preprocess(
    step: TablePreprocessor, rows: RowSet, store: FeatureStore, path: Path
) -> TablePreprocessor:
    fit, *others = rows.taken(store.let_go if _is_large(rows.X) else None)
    step.learn(fit, rows.y)

    def pieces() -> Iterator[NDArray[Any]]:
        yield from step.pieces(fit, fitted=True)
        step.forget_rows()
        for each in others:
            yield from step.pieces(each, fitted=False)

    store.write(path, (len(fit) + sum(map(len, others)), step.n_features_out), pieces())
    return step


def _scale(step: Any, parts: Sequence[Any], rows: RowSet, store: FeatureStore, path: Path) -> Any:
    """Fit a scaler on the first part of some rows, and write all of them scaled."""
    named = rows.named if isinstance(parts[0], _Lazy) else _as_is
    if hasattr(step, "partial_fit"):
        for piece in _pieces(parts[0]):
            step.partial_fit(named(piece))
            store.let_go()
    elif not _is_nothing(step):
        first = parts[0]
        step.fit(named(first[:] if isinstance(first, _Lazy) else first))
    n_rows, n_columns = sum(map(len, parts)), parts[0].shape[1]
    pieces = (
        piece if _is_nothing(step) else step.transform(named(piece))
        for part in parts
        for piece in _pieces(part)
    )
    store.write(path, (n_rows, n_columns), pieces)
    return step


def _privately(step: Any, parts: Sequence[Any], y: Labels) -> list[Any]:
    """Fit a step on the first part of some rows, and give what it makes of all of them."""
    in_place = getattr(step, "copy", True) is False
    fit, *others = [np.array(each) if in_place else each for each in parts]
    return [step.fit_transform(fit, y), *(step.transform(each) for each in others)]


def _pieces(array: Any) -> Iterator[NDArray[Any]]:
    """Give copies of the rows of an array, some at a time."""
    n_rows = max(1, min(MOST_ROWS, MOST_CELLS // max(array.shape[1], 1)))
    for begin in range(0, len(array), n_rows):
        yield np.array(array[begin : begin + n_rows])


def _as_is(X: Any) -> Any:
    return X


def _is_nothing(step: object) -> bool:
    return step is None or isinstance(step, str)


def _is_large(array: Any) -> bool:
    return bool(np.prod(array.shape) > LARGE_CELLS)


def _named_by(step: Any) -> str:
    """Say what makes a step different from others."""
    if _is_nothing(step):
        return "nothing"
    params = json.dumps(step.get_params(deep=False), sort_keys=True, default=str)
    return f"{type(step).__name__} {params}"
