"""Accepts features in whatever container a person has them, and gives one of three forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mlflow_automl_remote.automl.dataset import Features, FloatArray
from mlflow_automl_remote.errors import DataError


def to_features(value: object, key: str = "X") -> Features:
    """Give features as finite or NaN numbers, a sparse matrix, or a DataFrame.

    Args:
        value: A NumPy array or nested list, a pandas, polars or pyarrow table or column, or a
            scipy sparse matrix.
        key: How it is called in messages.

    Raises:
        DataError: It is none of these, or it is empty or has column names twice.
    """
    value = to_pandas(value)
    if isinstance(value, pd.Series):
        value = value.to_frame("x0" if value.name is None else value.name)
    if sparse.issparse(value):
        X: Features = _to_csr(value)
    elif isinstance(value, pd.DataFrame):
        X = _with_text_names(value, key)
    else:
        X = _to_array(value, key)
    if 0 in X.shape:
        raise DataError(f"{key} is empty: it has {X.shape[0]} rows and {X.shape[1]} columns.")
    return X


def to_pandas(value: object) -> Any:
    """Turn what polars and pyarrow have into pandas; anything else is given back."""
    library = type(value).__module__.partition(".")[0]
    if library == "polars":
        frame: Any = value
        if hasattr(frame, "collect"):
            frame = frame.collect()
        if not hasattr(frame, "columns"):
            return frame.to_frame().to_arrow().to_pandas().iloc[:, 0]
        return frame.to_arrow().to_pandas()
    if library == "pyarrow" and hasattr(value, "to_pandas"):
        return value.to_pandas()
    return value


def _to_csr(value: Any) -> sparse.csr_matrix:
    if value.dtype.kind not in "biuf":
        raise DataError(f"A sparse X must hold numbers. Got {value.dtype} instead.")
    matrix = sparse.csr_matrix(value, dtype=np.float64)
    matrix.sum_duplicates()
    return matrix


def _with_text_names(table: pd.DataFrame, key: str) -> pd.DataFrame:
    names = [str(name) for name in table.columns]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            f"{key} has more than one column named '{twice[0]}'; names must be unique."
        )
    named = table.reset_index(drop=True)
    if not isinstance(table.columns, pd.RangeIndex):
        named.columns = pd.Index(names, dtype="object")
    return named


def _to_array(value: object, key: str) -> FloatArray | pd.DataFrame:
    try:
        array = np.asarray(value)
        if array.dtype.kind in "USM" and isinstance(value, list | tuple):
            array = np.asarray(value, dtype=object)  # numpy made text of rows with numbers in them
    except ValueError as error:
        raise DataError(
            f"{key} must be a table or an array of rows of equal length. Got a "
            f"{type(value).__name__} that is neither ({error})."
        ) from error
    if array.ndim == 1 and (array.dtype != object or _holds_values(array)):
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise DataError(
            f"{key} must have two dimensions (rows, columns). Got a {type(value).__name__} of "
            f"shape {array.shape}."
        )
    if array.dtype.kind in "biuf":
        return np.ascontiguousarray(array, dtype=np.float64)
    if array.dtype.kind == "c":
        raise DataError(f"{key} holds complex numbers; split them into parts in get_data().")
    return pd.DataFrame(array)


def _holds_values(array: np.ndarray[Any, Any]) -> bool:
    return all(np.ndim(value) == 0 for value in array[:10])
