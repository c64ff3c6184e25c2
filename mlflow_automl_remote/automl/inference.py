"""Finds out what each column of a table is, and stores it in the type of its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from mlflow_automl_remote.automl.dataset import ColumnKind, ColumnSchema, Given
from mlflow_automl_remote.automl.featurization.values import (
    MISSING_WORDS,
    as_numbers,
    as_times,
    factorize,
)
from mlflow_automl_remote.errors import DataError

MIN_WORDS: Final = 3.0
"""Free text has as many words on average, and is seldom the same twice."""
MIN_TEXTS_SHARE: Final = 0.5
MIN_LETTERS: Final = 100.0
"""So long on average, it is text however often it repeats."""
MIN_ROWS_FOR_ID: Final = 20
MAX_COUNTED: Final = 100_000
_DATE: Final = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|"
    r"\d{1,2}[- ][A-Za-z]{3,9}[- ,]+\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})"
    r"([T ]\s*\d{1,2}:\d{2}.*)?\s*"
)

Column = "pd.Series[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedColumn:
    """A column in the type of its kind, and what it is.

    Attributes:
        values: float64, category with text, datetime64 or str: as `Dataset` says.
        schema: What it is.
    """

    values: pd.Series[Any]
    schema: ColumnSchema


def read_column(column: pd.Series[Any], *, name: str, purpose: str | None = None) -> TypedColumn:
    """Find out what a column is.

    Args:
        column: Any type.
        name: How it is called.
        purpose: A kind that the user chose, or `drop`; None to find out.

    Raises:
        DataError: It holds lists, dicts or other things that are no values; or numbers that are
            not finite.
    """
    if purpose == "drop":
        schema = ColumnSchema(
            name=name, kind="number", n_missing=0, n_unique=0, dropped_reason="on request"
        )
        return TypedColumn(values=column, schema=schema)
    kind = kind_of(column, name) if purpose is None else purpose
    return typed(column, name, kind, chosen=purpose is not None)


def typed(column: pd.Series[Any], name: str, kind: str, *, chosen: bool) -> TypedColumn:
    """Store a column as one of a kind."""
    values = _CONVERT[kind](column)
    if kind == "number":
        _check_finite(column, name)
    n_missing = int(values.isna().sum())
    if chosen and n_missing == len(values) and not column.isna().all():
        raise DataError(
            f"Column '{name}' holds no {kind}, though 'featurization' says so: no value can be "
            "read. Remove the column from the setting."
        )
    # A plain string, and one of the kinds: `_CONVERT` above has no others.
    found: ColumnKind = kind  # type: ignore[assignment]
    schema = ColumnSchema(
        name=name,
        kind=found,
        n_missing=n_missing,
        n_unique=_n_unique(values),
        given=_given(column, found),
    )
    reason = None if chosen and schema.n_unique > 1 else _why_useless(schema, len(values))
    return TypedColumn(values=values, schema=replace(schema, dropped_reason=reason))


def _given(column: pd.Series[Any], kind: ColumnKind) -> Given:
    """Say how a column was given, where that is not how its kind is kept."""
    types, dtype = pd.api.types, column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or kind == "text":
        return ""
    if types.is_bool_dtype(dtype) or types.is_integer_dtype(dtype):
        if column.isna().any():
            return "number" if kind == "category" else ""  # there is no whole number for a gap
        return "truth" if types.is_bool_dtype(dtype) else "whole"
    if types.is_float_dtype(dtype):
        return "number" if kind == "category" else ""
    is_text = types.infer_dtype(column, skipna=True) == "string"
    return "text" if is_text and kind != "category" else ""


def _n_unique(values: pd.Series[Any]) -> int:
    """Count different values; of numbers in large tables those in a sample, which is seconds."""
    if values.dtype.kind in "fM" and len(values) > MAX_COUNTED:
        n_unique = int(values.iloc[:: len(values) // MAX_COUNTED].nunique())
        if n_unique > 1:
            return n_unique
    if isinstance(values.dtype, pd.CategoricalDtype):
        return len(values.cat.categories)  # each of them occurs: they were found in the values
    return int(values.nunique())


def kind_of(column: pd.Series[Any], name: str) -> ColumnKind:
    """Say what a column is, by its type and, for text, by its values."""
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(kind):
        return "boolean"
    if pd.api.types.is_complex_dtype(kind):
        raise DataError(f"Column '{name}' of X holds complex numbers; split them into parts.")
    if pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(kind):
        return "date"
    return _kind_of_objects(column, name)


def _kind_of_objects(column: pd.Series[Any], name: str) -> ColumnKind:
    known = column.dropna()
    first = known.iloc[0] if len(known) else None
    if first is not None and (np.ndim(first) > 0 or isinstance(first, Mapping | set | bytes)):
        raise DataError(
            f"Column '{name}' of X holds values of the type {type(first).__name__}; give every "
            "column one number, text, date or truth value per row."
        )
    texts = pd.Series(pd.unique(known.astype(str).str.strip()), dtype=object)
    texts = texts[~texts.str.lower().isin(MISSING_WORDS)]
    if texts.empty:
        return "number" if known.empty else "category"
    if set(texts.str.lower()) <= {"true", "false"}:
        return "boolean"
    if pd.to_numeric(texts, errors="coerce").notna().all():
        return "number"
    if (
        texts.map(lambda text: _DATE.fullmatch(text) is not None).all()
        and not as_times(texts).hasnans
    ):
        return "date"
    return "text" if _is_free_text(texts, len(known)) else "category"


def _is_free_text(texts: pd.Series[Any], n_known: int) -> bool:
    """Whether different texts, of so many values, are sentences and not names of categories."""
    sample = texts.iloc[:1000]
    if sample.str.len().mean() >= MIN_LETTERS:
        return True
    words = float(sample.str.count(r"\S+").mean())
    return words >= MIN_WORDS and len(texts) >= MIN_TEXTS_SHARE * n_known and len(texts) > 1


def _to_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        column = column.dt.total_seconds()
    return pd.Series(as_numbers(column), index=column.index)


def _to_categories(column: pd.Series[Any]) -> pd.Series[Any]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
    codes, texts = factorize(column)
    smallest = np.min_scalar_type(-max(len(texts), 1))
    return pd.Series(
        pd.Categorical.from_codes(codes.astype(smallest), texts.astype("str")), index=column.index
    )


def _to_text(column: pd.Series[Any]) -> pd.Series[Any]:
    codes, texts = factorize(column)
    return pd.Series(texts.astype("str").take(codes), index=column.index).where(codes >= 0)


def _to_times(column: pd.Series[Any]) -> pd.Series[Any]:
    return pd.Series(as_times(column).astype("datetime64[us]"), index=column.index)


_CONVERT: Final = {
    "number": _to_numbers,
    "boolean": _to_numbers,
    "category": _to_categories,
    "text": _to_text,
    "date": _to_times,
}


def _check_finite(column: pd.Series[Any], name: str) -> None:
    if column.dtype.kind == "f":
        infinite = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
        if infinite.any():
            raise DataError(
                f"Column '{name}' of X has an infinite value in row {int(infinite.argmax())}; "
                "replace it."
            )


def _why_useless(schema: ColumnSchema, n_rows: int) -> str | None:
    if schema.n_unique == 0:
        return "every value is missing"
    if schema.n_unique == 1 and schema.n_missing == 0:
        return "the same value in every row"
    is_id = schema.kind == "category" and schema.n_unique == n_rows - schema.n_missing
    if is_id and n_rows >= MIN_ROWS_FOR_ID and schema.n_missing < n_rows / 2:
        return "a different value in every row, like an id"
    return None
