"""Reads one column of whatever a person hands over as numbers, category codes, times or text.

Travels with the models that use it: imports nothing else of this package.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BOOLEAN_WORDS: Final = {"true": 1.0, "false": 0.0}
MISSING_WORDS: Final = frozenset(
    ("", "na", "n/a", "#n/a", "nan", "none", "null", "nil", "?", "-", "--", ".")
)
"""What people write for "no value" among numbers and dates; compared in lower case."""


def as_numbers(column: pd.Series[Any]) -> FloatArray:
    """Give a column as float64, of shape (n_rows,); what is no finite number becomes NaN."""
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        lower = column.astype("object").map(_without_booleans, na_action="ignore")
        values = pd.to_numeric(lower, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values) if infinite.any() else values


def _without_booleans(value: object) -> object:
    if isinstance(value, bool | np.bool_):
        return float(value)
    text = str(value).strip()
    return BOOLEAN_WORDS.get(text.lower(), text)


def as_times(column: pd.Series[Any]) -> pd.DatetimeIndex:
    """Give a column as points in time without a zone (UTC); what is none becomes NaT."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        times = pd.DatetimeIndex(column)
    else:
        with warnings.catch_warnings():  # a column of mixed formats is parsed one by one, slower
            warnings.simplefilter("ignore")
            parsed = pd.to_datetime(
                column.astype("object"), errors="coerce", utc=True, format="mixed"
            )
        times = pd.DatetimeIndex(parsed)
    return times if times.tz is None else times.tz_convert(None)


def as_text(column: pd.Series[Any]) -> list[str]:
    """Give a column as text, one entry per row; a missing value is empty."""
    return ["" if text is None else text for text in _texts(column.astype("object"))]


def factorize(column: pd.Series[Any]) -> tuple[NDArray[np.intp], pd.Index[Any]]:
    """Give a column as codes of shape (n_rows,), -1 where missing, and the text of each code.

    Equal categories have equal text however they are typed: 1, 1.0 and "1" are one.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy().astype(np.intp)
        values = column.cat.categories
    else:
        codes, values = pd.factorize(column)
    if pd.api.types.is_string_dtype(values.dtype) and values.dtype != object:
        return codes, pd.Index(values.astype("object"))
    merged, texts = pd.factorize(pd.Index(_texts(values), dtype="object"))
    return np.append(merged, -1)[codes], texts


def _texts(values: pd.Series[Any] | pd.Index[Any]) -> list[str | None]:
    return [None if _is_missing(value) else _text(value) for value in values]


def _text(value: object) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or value != value
