"""What get_data() may return: the ten keys, which of them go together, and which do not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from mlflow_automl_remote.automl.containers import to_pandas
from mlflow_automl_remote.errors import DataError

KNOWN_KEYS: Final = (
    "X",
    "y",
    "X_valid",
    "y_valid",
    "sample_weight",
    "sample_weight_valid",
    "data_train",
    "label",
    "columns",
    "cv_splits_indices",
)
_NEEDS: Final = (
    ("X", "y"),
    ("X_valid", "X"),
    ("X_valid", "y_valid"),
    ("y_valid", "X_valid"),
    ("sample_weight", "y"),
    ("sample_weight_valid", "y_valid"),
    ("data_train", "label"),
    ("label", "data_train"),
    ("columns", "data_train"),
)
_ONE_FRAME: Final = ("data_train", "label", "columns")
_EXCLUDES: Final = (
    *((key, other) for key in _ONE_FRAME for other in ("X", "y")),
    *((key, other) for key in _ONE_FRAME for other in ("X_valid", "y_valid")),
    *((key, other) for key in _ONE_FRAME for other in ("sample_weight", "sample_weight_valid")),
    ("cv_splits_indices", "X_valid"),
)


def read_keys(raw: object) -> dict[str, Any]:
    """Check the keys, and give what they hold with `X` and `y` in any case.

    A key that holds None counts as one that is not there.

    Raises:
        DataError: It is no dict, or its keys are unknown, missing, or exclude each other.
    """
    if not isinstance(raw, Mapping):
        raise DataError(
            f"get_data() must return a dict with 'X' and 'y'. Got a {type(raw).__name__} instead."
        )
    unknown = sorted(str(key) for key in raw if key not in KNOWN_KEYS)
    if unknown:
        raise DataError(
            f"get_data() returned unknown keys: {', '.join(unknown[:10])}. "
            f"Known keys are {', '.join(KNOWN_KEYS)}."
        )
    given = {key: value for key, value in raw.items() if value is not None}
    _check_together(raw, given)
    return given if "X" in given else _split_frame(given)


def _check_together(raw: Mapping[Any, object], given: Mapping[str, object]) -> None:
    for key, other in _EXCLUDES:
        if key in given and other in given:
            raise DataError(
                f"get_data() returned both '{key}' and '{other}', which exclude each other; "
                "return one of them."
            )
    for key, other in _NEEDS:
        if key in given and other not in given:
            what = f"None for '{other}'" if other in raw else f"'{other}' is missing"
            raise DataError(f"get_data() returned '{key}', which needs '{other}': {what}.")
    if "X" not in given and "data_train" not in given:
        if "X" in raw:
            raise DataError("get_data() returned None for 'X'; it must be an array or table.")
        raise DataError(
            "get_data() must return a dict with 'X' and 'y', or with 'data_train' and 'label'. "
            "'X' is missing."
        )


def _split_frame(given: dict[str, Any]) -> dict[str, Any]:
    """Turn one table with features and label into X and y."""
    table, label = to_pandas(given.pop("data_train")), given.pop("label")
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"data_train must be a table. Got a {type(table).__name__} instead.")
    wanted = given.pop("columns", None)
    columns = list(table.columns) if wanted is None else list(wanted)
    for name in (label, *columns):
        require_column(table, name, "data_train")
    y = table[label]
    if isinstance(y, pd.DataFrame):
        raise DataError(f"data_train has more than one column named '{label}'.")
    return {**given, "X": table[[name for name in columns if name != label]], "y": y}


def require_column(table: pd.DataFrame, name: object, where: str) -> None:
    """See that a table has a column.

    Raises:
        DataError: It has not; the message names the closest one.
    """
    if name in table.columns:
        return
    names = [str(column) for column in table.columns]
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else f" It has {', '.join(names[:10])}."
    raise DataError(f"{where} has no column named '{name}'.{hint}")
