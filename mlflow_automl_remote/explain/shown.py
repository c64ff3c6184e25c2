"""What is shown of the explained rows: numbers to place and colour by, and texts behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.tables import is_frame, is_sparse

MAX_TEXT: Final = 80
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """See `Explanation.data` and `Explanation.levels`."""

    data: Floats
    levels: Mapping[int, tuple[str, ...]]


def shown(rows: Any) -> Shown:
    """Turn rows of any form into numbers and texts."""
    if is_sparse(rows):
        return Shown(data=rows.toarray().astype(np.float64), levels={})
    if not is_frame(rows):
        return Shown(data=np.asarray(rows, dtype=np.float64), levels={})
    columns = [_column(rows.iloc[:, at]) for at in range(rows.shape[1])]
    return Shown(
        data=np.column_stack([numbers for numbers, _ in columns]),
        levels={at: texts for at, (_, texts) in enumerate(columns) if texts is not None},
    )


def _column(column: Any) -> tuple[Floats, tuple[str, ...] | None]:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        times = pd.DatetimeIndex(column)
        times = times if times.tz is None else times.tz_convert(None)
        days = times.to_numpy().astype("datetime64[s]").astype(np.float64) / _DAY_S
        return np.where(times.isna(), np.nan, days), ()
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), None
    missing = column.isna().to_numpy()
    texts = np.array([_text(value) for value in column.astype("object")], dtype=object)
    levels, codes = np.unique(texts[~missing].astype(str), return_inverse=True)
    numbers = np.full(len(column), np.nan)
    numbers[~missing] = codes
    return numbers, tuple(levels.tolist()) or ("",)


def _text(value: object) -> str:
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\u2026"
