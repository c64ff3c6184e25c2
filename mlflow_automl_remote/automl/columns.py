"""Turns features of any form into those of a dataset, with a schema of every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from mlflow_automl_remote.automl.contract import require_column
from mlflow_automl_remote.automl.dataset import ColumnSchema, Features, FloatArray
from mlflow_automl_remote.automl.inference import TypedColumn, read_column, typed
from mlflow_automl_remote.errors import DataError

Featurization = Literal["auto", "off"] | Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadFeatures:
    """Features in the form of a dataset.

    Attributes:
        X: As in `Dataset`.
        names: As `Dataset.feature_names`.
        columns: As `Dataset.columns`.
    """

    X: Features
    names: tuple[str, ...] | None
    columns: tuple[ColumnSchema, ...] = ()


def read_features(X: Features, featurization: Featurization) -> ReadFeatures:
    """Find out what each column is, and store it accordingly; leave out what is of no use.

    Arrays keep all of their columns, because rows to predict come as arrays like them.

    Raises:
        DataError: A value is infinite; or one is missing or no number though featurization is off;
            or no column is left.
    """
    kinds = featurization if isinstance(featurization, Mapping) else {}
    if isinstance(X, np.ndarray) and kinds:
        X = pd.DataFrame(X)
    if isinstance(X, pd.DataFrame):
        return _read_table(X, kinds, off=featurization == "off")
    if isinstance(X, np.ndarray):
        return _read_array(X, off=featurization == "off")
    _check_sparse(X, kinds)
    return ReadFeatures(X=X, names=None)


def read_valid(X_valid: Features, like: ReadFeatures) -> Features:
    """Store the features of a validation set as those of the training set are.

    Raises:
        DataError: It has other columns, or another form.
    """
    if isinstance(X_valid, pd.DataFrame) and not like.columns:
        raise DataError("X_valid must be a sparse matrix like X. Got a table instead.")
    if isinstance(X_valid, np.ndarray) and isinstance(like.X, np.ndarray):
        return _same_width(X_valid, like)
    if not isinstance(X_valid, pd.DataFrame):
        if like.columns or isinstance(X_valid, np.ndarray):
            raise DataError("X_valid must have the form of X: a table, an array or sparse.")
        return _same_width(X_valid, like)
    kept = [each for each in like.columns if like.names is None or each.name in like.names]
    table = X_valid if like.names is not None else _numbered(X_valid, like)
    for column in kept:
        require_column(table, column.name, "X_valid")
    found = {
        column.name: typed(table[column.name], column.name, column.kind, chosen=False).values
        for column in kept
    }
    if isinstance(like.X, np.ndarray):
        return np.column_stack([values.to_numpy() for values in found.values()])
    valid = pd.DataFrame(found, copy=False)
    valid.columns = like.X.columns
    return valid


def _numbered(X_valid: pd.DataFrame, like: ReadFeatures) -> pd.DataFrame:
    return X_valid.set_axis([each.name for each in like.columns], axis=1)


def _same_width(X_valid: Features, like: ReadFeatures) -> Features:
    if X_valid.shape[1] != like.X.shape[1]:
        raise DataError(
            f"X_valid has {X_valid.shape[1]} columns and X has {like.X.shape[1]}; they must have "
            "the same columns."
        )
    return X_valid


def _read_table(table: pd.DataFrame, kinds: Mapping[str, str], *, off: bool) -> ReadFeatures:
    named = not isinstance(table.columns, pd.RangeIndex)
    names = [str(name) if named else f"x{name}" for name in table.columns]
    table = table.set_axis(names, axis=1)
    for name in kinds:
        require_column(table, name, "X, for which 'featurization' has a kind,")
    if off:
        _check_numeric(table, names)
    found = [read_column(table[name], name=name, purpose=kinds.get(name)) for name in names]
    kept = [each for each in found if each.schema.dropped_reason != "on request"]
    if all(each.schema.kind in ("number", "boolean") for each in kept) and kept:
        gaps = any(each.schema.n_missing for each in kept)
        if off or not gaps:
            found = [_undropped(each) for each in found]
    return _assembled(found, named=named, off=off)


def _undropped(column: TypedColumn) -> TypedColumn:
    """Keep a constant column among numbers: they are not preprocessed."""
    if column.schema.dropped_reason == "on request":
        return column
    return replace(column, schema=replace(column.schema, dropped_reason=None))


def _assembled(found: Sequence[TypedColumn], *, named: bool, off: bool) -> ReadFeatures:
    kept = [each for each in found if each.schema.dropped_reason is None]
    if not kept:
        raise DataError(
            "No column of X is left to learn from: in each of them every value is missing, the "
            "same, or different."
        )
    in_X = kept if named else list(found)
    names = tuple(each.schema.name for each in in_X)
    if all(each.schema.kind in ("number", "boolean") for each in in_X):
        numbers = np.column_stack([each.values.to_numpy(dtype=np.float64) for each in in_X])
        _check_gaps(numbers, names, off=off)
        X: Features = numbers
    else:
        X = pd.DataFrame({each.schema.name: each.values for each in in_X}, copy=False)
        if not named:
            X.columns = pd.RangeIndex(X.shape[1])
    return ReadFeatures(
        X=X, names=names if named else None, columns=tuple(each.schema for each in found)
    )


def _read_array(X: FloatArray, *, off: bool) -> ReadFeatures:
    infinite = np.isinf(X)
    if infinite.any():
        row, at = (int(each) for each in np.argwhere(infinite)[0])
        raise DataError(f"Column {at} of X has an infinite value in row {row}; replace it.")
    gaps = np.isnan(X).any()
    _check_gaps(X, tuple(f"x{at}" for at in range(X.shape[1])), off=off)
    columns = (read_column(pd.Series(X[:, at]), name=f"x{at}").schema for at in range(X.shape[1]))
    schema = tuple(each if gaps else replace(each, dropped_reason=None) for each in columns)
    if all(each.dropped_reason is not None for each in schema):
        raise DataError(
            "No column of X is left to learn from: every value is missing or the same."
        )
    return ReadFeatures(X=X, names=None, columns=schema)


def _check_gaps(X: FloatArray, names: Sequence[str], *, off: bool) -> None:
    if not off:
        return
    missing = np.isnan(X)
    if missing.any():
        row, at = (int(each) for each in np.argwhere(missing)[0])
        raise DataError(
            f"Column '{names[at]}' of X has {int(missing[:, at].sum())} missing values (first in "
            f"row {row}); set featurization to 'auto', or fill them in get_data()."
        )


def _check_numeric(table: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        kind = table[name].dtype
        if not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)):
            raise DataError(
                f"Column '{name}' of X is not numeric ({kind}); set featurization to 'auto', or "
                "encode or drop it in get_data()."
            )


def _check_sparse(X: Features, kinds: Mapping[str, str]) -> None:
    if kinds:
        raise DataError(
            "The 'featurization' setting has kinds of columns, but X is a sparse matrix, which is "
            "taken as it is. Remove the setting."
        )
    if not np.isfinite(X.data).all():
        raise DataError("The sparse matrix X has values that are missing or infinite; fill them.")
