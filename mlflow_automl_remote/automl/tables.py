"""Reads files of training data as get_data() would return them."""

from __future__ import annotations

import csv
import gzip
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlflow_automl_remote.automl.contract import require_column
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

_SEPARATORS: Final = ",;\t|"
_SNIFFED_BYTES: Final = 1 << 16


def load_training_data(config: AutoMLConfig, folder: Path) -> dict[str, Any]:
    """Read the files that the settings name.

    Args:
        config: Has `training_data`.
        folder: What relative paths are relative to.

    Returns:
        What get_data() may return.

    Raises:
        DataError: A file is missing or cannot be read, or lacks a column that the settings name.
    """
    table = read_table(folder / (config.training_data or ""), "training_data")
    features, found = _split(table, config, f"'{config.training_data}'")
    names = config.cv_split_column_names or ()
    if names:
        found["cv_splits_indices"] = [_split_rows(features, name) for name in names]
    found["X"] = features.drop(columns=list(names))
    if config.validation_data is not None:
        valid = read_table(folder / config.validation_data, "validation_data")
        X_valid, others = _split(valid, config, f"'{config.validation_data}'")
        found |= {f"{name}_valid": value for name, value in others.items()}
        found["X_valid"] = X_valid
    return found


def read_table(path: Path, setting: str) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    An empty field is a missing value; what stands for one in a column of numbers, such as `NA`, is
    found out with the kind of the column. The separator may be a comma, semicolon, tab or bar.

    Raises:
        DataError: It is missing, or is no such file; or a name is in its header twice.
    """
    if not path.is_file():
        raise DataError(
            f"The file '{path}' does not exist; '{setting}' must name a file of the project "
            "folder, or one on the target with its whole path."
        )
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path, engine="pyarrow")
        return _read_csv(path, _check_header(path))
    except UnicodeDecodeError as error:
        raise DataError(
            f"The file '{path}' is not UTF-8 ({error.reason} at byte {error.start}); convert it."
        ) from error
    except (ValueError, OSError, EOFError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"The file '{path}' of '{setting}' cannot be read: {reason}.") from error


def _read_csv(path: Path, separator: str) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Rows longer than the header: pandas would cut them off.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            path,
            sep=separator,
            index_col=False,
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )


def _check_header(path: Path) -> str:
    """Give the separator of a CSV file, and see that its columns have different names."""
    with path.open("rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
        text = file.read(_SNIFFED_BYTES).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    if not lines:
        raise DataError(f"The file '{path}' is empty.")
    separator = max(_SEPARATORS, key=lines[0].count)
    names = [name.strip() for name in next(csv.reader([lines[0]], delimiter=separator))]
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"The file '{path}' has more than one column named '{name}'.")
    return separator


def _split(
    table: pd.DataFrame, config: AutoMLConfig, where: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Take label and weights out of a table."""
    label, weight = config.label_column_name, config.weight_column_name
    for name in (label, weight):
        if name is not None:
            require_column(table, name, where)
    found = {"y": _as_label(table[label])}
    if weight is not None:
        found["sample_weight"] = table[weight]
    return table.drop(columns=[name for name in (label, weight) if name is not None]), found


def _as_label(column: pd.Series[Any]) -> pd.Series[Any]:
    """Give text as objects, so that missing labels and text are told apart in one way."""
    return column.astype("object") if pd.api.types.is_string_dtype(column.dtype) else column


def _split_rows(table: pd.DataFrame, name: str) -> tuple[Any, Any]:
    """Read a column of 1 for rows to fit on and 0 for rows to score."""
    require_column(table, name, "training_data")
    values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not np.isin(values, (0.0, 1.0)).all():
        at = int((~np.isin(values, (0.0, 1.0))).argmax())
        raise DataError(
            f"The column '{name}' of cv_split_column_names must hold 1 (fit) and 0 (score). "
            f"Got '{table[name].iloc[at]}' in row {at}."
        )
    return np.flatnonzero(values == 1.0), np.flatnonzero(values == 0.0)
