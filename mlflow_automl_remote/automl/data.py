"""The data of a sweep: checked once, then shared by all iterations as memory maps.

Knows nothing of where the data comes from (`data_script` does) or what is fitted on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast, get_args

import numpy as np
import pandas as pd

from mlflow_automl_remote.automl.dataset import ColumnSchema as ColumnSchema
from mlflow_automl_remote.automl.dataset import Dataset as Dataset
from mlflow_automl_remote.automl.dataset import FloatArray as FloatArray
from mlflow_automl_remote.automl.dataset import Indices as Indices
from mlflow_automl_remote.automl.dataset import Labels as Labels
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError

KNOWN_KEYS: Final = ("X", "y")
DIGEST_LENGTH: Final = 32
_MAX_NAMES_SHOWN: Final = 10


def check(raw: object, task: Task, *, n_folds: int = 2) -> Dataset:
    """Turn what `get_data()` returned into a dataset.

    Args:
        raw: A dict with `X` and `y`.
        task: The kind of problem.
        n_folds: The folds of the cross-validation; each class needs as many rows.

    Raises:
        DataError: Something about it cannot be trained on; the message is one line that says what
            was found and what to do.
    """
    mapping = _check_keys(raw)
    X, names = _check_features(mapping["X"])
    y = _flatten(mapping["y"])
    if len(X) != len(y):
        raise DataError(
            f"X has {len(X)} rows and y has {len(y)}; they must have the same number of rows."
        )
    if len(y) < n_folds:
        raise DataError(
            f"The data has {len(y)} rows, fewer than the {n_folds} folds of n_cross_validations."
        )
    targets = _check_labels(y, n_folds) if task == "classification" else _check_numbers(y)
    return Dataset(
        X=X, y=targets, feature_names=names, task=task, digest=_digest(X, targets, names)
    )


def save(dataset: Dataset, folder: Path) -> None:
    """Write a dataset into `folder`, made if need be, for `open_dataset`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "X.npy", dataset.X, allow_pickle=False)
    np.save(folder / "y.npy", dataset.y, allow_pickle=False)
    about = {
        "task": dataset.task,
        "digest": dataset.digest,
        "feature_names": dataset.feature_names,
    }
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def open_dataset(folder: Path) -> Dataset:
    """Open what `save` wrote; the arrays are read-only memory maps, shared between processes.

    Raises:
        DataError: The folder holds no dataset.
    """
    try:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        # asarray: a plain ndarray over the mapped pages; some estimators reject the subclass.
        X = np.asarray(np.load(folder / "X.npy", mmap_mode="r", allow_pickle=False))
        y = np.asarray(np.load(folder / "y.npy", mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"'{folder}' holds no dataset that can be opened: {error}.") from error
    if about["task"] not in get_args(Task):
        raise DataError(f"'{folder}' holds a dataset of the unknown task '{about['task']}'.")
    names = about["feature_names"]
    return Dataset(
        X=X,
        y=y,
        feature_names=None if names is None else tuple(names),
        task=about["task"],
        digest=about["digest"],
    )


def _check_keys(raw: object) -> Mapping[object, object]:
    if not isinstance(raw, Mapping):
        raise DataError(
            f"get_data() must return a dict with 'X' and 'y'. Got {_kind(raw)} instead."
        )
    unknown = sorted(str(key) for key in raw if key not in KNOWN_KEYS)
    if unknown:
        raise DataError(
            f"get_data() returned unknown keys: {_shown(unknown)}. "
            f"Known keys are {', '.join(KNOWN_KEYS)}."
        )
    for key in KNOWN_KEYS:
        if key not in raw:
            raise DataError(f"get_data() must return a dict with 'X' and 'y'. '{key}' is missing.")
        if raw[key] is None:
            raise DataError(f"get_data() returned None for '{key}'; it must be an array or table.")
    return raw


def _check_features(value: object) -> tuple[FloatArray, tuple[str, ...] | None]:
    """Give X as float64 of shape (n_rows, n_features), and its column names if it has any."""
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, pd.DataFrame):
        names = tuple(str(name) for name in value.columns)
        X = _table_to_floats(value, names)
        kept = None if isinstance(value.columns, pd.RangeIndex) else names
    else:
        X, kept = _array_to_floats(value), None
    if 0 in X.shape:
        raise DataError(f"X is empty: it has {X.shape[0]} rows and {X.shape[1]} columns.")
    _check_finite(X, kept)
    return X, kept


def _table_to_floats(table: pd.DataFrame, names: tuple[str, ...]) -> FloatArray:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"X has more than one column named '{twice[0]}'; names must be unique.")
    for name, kind in zip(names, table.dtypes, strict=True):
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)):
            raise DataError(_not_numeric(f"Column '{name}'", str(kind)))
        if pd.api.types.is_complex_dtype(kind):
            raise DataError(_not_numeric(f"Column '{name}'", str(kind)))
    return np.ascontiguousarray(table.to_numpy(dtype=np.float64, na_value=np.nan))


def _array_to_floats(value: object) -> FloatArray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"X must be a table or an array of rows of equal length. Got {_kind(value)} "
            f"that is neither ({error})."
        ) from error
    if array.ndim == 1 and array.dtype != object:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise DataError(
            f"X must have two dimensions (rows, columns). Got {_kind(value)} of shape "
            f"{array.shape}."
        )
    if array.dtype.kind in "biuf":
        return np.ascontiguousarray(array, dtype=np.float64)
    for index in range(array.shape[1]):
        column = array[:, index]
        try:
            column.astype(np.float64) if column.dtype.kind == "O" else _refuse(column)
        except (TypeError, ValueError) as error:
            kind = type(column[0]).__name__
            raise DataError(_not_numeric(f"Column {index}", kind)) from error
    return np.ascontiguousarray(array, dtype=np.float64)


def _refuse(column: Labels) -> None:
    """Text, dates and complex numbers are not features, even where numpy could convert them."""
    raise TypeError(column.dtype)


def _check_finite(X: FloatArray, names: tuple[str, ...] | None) -> None:
    bad = ~np.isfinite(X)
    if not bad.any():
        return
    row, index = (int(at) for at in np.argwhere(bad)[0])
    name = f"'{names[index]}'" if names is not None else str(index)
    if np.isnan(X[row, index]):
        raise DataError(
            f"Column {name} of X has {int(np.isnan(X[:, index]).sum())} missing values (first in "
            f"row {row}); missing values are not supported yet: fill them in get_data()."
        )
    raise DataError(
        f"Column {name} of X has an infinite value in row {row}; replace it in get_data()."
    )


def _flatten(value: object) -> Labels:
    """Give y as an array of shape (n_rows,)."""
    try:
        y = np.asarray(value)
    except ValueError as error:
        raise DataError(f"y must be a list or an array of one value per row ({error}).") from error
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"y must have one value per row. Got an array of shape {y.shape}.")
    missing = np.asarray(pd.isna(y))
    if missing.any():
        raise DataError(
            f"y has {int(missing.sum())} missing values (first in row {int(missing.argmax())}); "
            "drop these rows in get_data()."
        )
    return y


def _check_labels(y: Labels, n_folds: int) -> Labels:
    y = _as_labels(y)
    if y.dtype.kind == "f":
        _check_whole(cast("FloatArray", y))
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"y has only one class ({classes[0]}); classification needs at least two.")
    if counts.min() < n_folds:
        rarest = classes[counts.argmin()]
        raise DataError(
            f"Class {rarest} of y has {counts.min()} rows, fewer than the {n_folds} folds of "
            "n_cross_validations; lower n_cross_validations or drop the class."
        )
    return y


def _as_labels(y: Labels) -> Labels:
    """Give labels a dtype that needs no pickle: text, whole numbers, bool or float."""
    if y.dtype.kind == "O":
        kinds = {str if isinstance(label, str) else type(label) for label in y.tolist()}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(
                f"y mixes labels of the types {names}; convert them to one type in get_data()."
            )
        y = np.asarray(y.tolist())
    if y.dtype.kind not in "biufU":
        raise DataError(
            f"y must hold whole numbers, text or bool as labels. Got {y.dtype} instead."
        )
    return y


def _check_whole(y: FloatArray) -> None:
    infinite = ~np.isfinite(y)
    if infinite.any():
        raise DataError(f"y has an infinite value in row {int(infinite.argmax())}.")
    broken = y != np.floor(y)
    if broken.any():
        raise DataError(
            f"y has the label {y[broken][0]}, which is not a whole number; "
            "set task to 'regression', or convert the labels in get_data()."
        )


def _check_numbers(y: Labels) -> FloatArray:
    if y.dtype.kind not in "biufO":
        raise DataError(f"y must be numeric for regression. Got {y.dtype} values instead.")
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y must be numeric for regression: {error}.") from error
    infinite = ~np.isfinite(numbers)
    if infinite.any():
        raise DataError(f"y has an infinite value in row {int(infinite.argmax())}.")
    if numbers.min() == numbers.max():
        raise DataError(f"y is {numbers[0]} in every row; there is nothing to learn.")
    return numbers


def _digest(X: FloatArray, y: Labels, names: tuple[str, ...] | None) -> str:
    digest = hashlib.sha256(f"{X.shape} {y.dtype.str} {names}".encode())
    digest.update(X.data)
    digest.update(np.ascontiguousarray(y).tobytes())
    return digest.hexdigest()[:DIGEST_LENGTH]


def _not_numeric(column: str, kind: str) -> str:
    return (
        f"{column} of X is not numeric ({kind}); only numbers and bool are supported yet: "
        "encode or drop it in get_data()."
    )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _shown(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
