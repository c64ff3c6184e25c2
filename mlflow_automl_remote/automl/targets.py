"""Checks what is to be predicted, and the weights of rows."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_automl_remote.automl.containers import to_pandas
from mlflow_automl_remote.automl.dataset import FloatArray, Labels
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError

MAX_CLASSES_SHARE: Final = 0.5
"""Numbers that differ in more of the rows are amounts, not labels."""
MIN_ROWS_FOR_SHARE: Final = 50
MAX_EXACT: Final = 2.0**53
"""Whole numbers below it are exact as floats."""


def flatten(value: object, key: str = "y") -> NDArray[Any]:
    """Give one value per row as an array of shape (n_rows,).

    Raises:
        DataError: It is not one value per row.
    """
    value = to_pandas(value)
    try:
        y = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{key} must be a list or an array of one value per row ({error})."
        ) from error
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{key} must have one value per row. Got an array of shape {y.shape}.")
    return y


def missing_labels(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Say in which rows the target is missing, of shape (n_rows,)."""
    return np.asarray(pd.isna(y), dtype=bool)


def drop_missing(y: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[Any]:
    """Leave out rows; whole numbers that were floats only to hold NaN become integers again."""
    left = y[kept]
    if kept.all() or left.dtype.kind != "f":
        return left
    whole = (left == np.floor(left)).all() and np.abs(left).max() < MAX_EXACT
    return left.astype(np.int64) if whole else left


def check_target(y: NDArray[Any], task: Task, n_folds: int) -> Labels:
    """Give targets in a type that fits the task; none may be missing.

    Raises:
        DataError: They do not fit the task, or nothing can be learnt from them.
    """
    return _check_labels(y, n_folds) if task == "classification" else _check_numbers(y)


def check_valid_target(y_valid: NDArray[Any], y: Labels, task: Task) -> Labels:
    """Give the targets of the validation set in the type of y.

    Raises:
        DataError: They do not fit the task, or have a label that y has not.
    """
    missing = missing_labels(y_valid)
    if missing.any():
        raise DataError(
            f"y_valid has {int(missing.sum())} missing values (first in row "
            f"{int(missing.argmax())}); drop these rows."
        )
    if task == "regression":
        return _as_numbers(y_valid, "y_valid")
    labels = _as_labels(y_valid, "y_valid")
    unknown = np.setdiff1d(labels.astype(str), y.astype(str))
    if len(unknown) and labels.dtype.kind in "biuf" and y.dtype.kind in "biuf":
        unknown = np.setdiff1d(labels, y)
    if len(unknown):
        raise DataError(
            f"y_valid has the label '{unknown[0]}', which y has not; a model cannot learn it. "
            "Drop these rows, or move some of them to y."
        )
    return labels.astype(y.dtype)


def check_weights(value: object, n_rows: int, key: str = "sample_weight") -> FloatArray:
    """Give weights as numbers of at least 0, of shape (n_rows,).

    Raises:
        DataError: There are not n_rows of them, or one is negative, infinite or missing, or all
            are 0.
    """
    given = flatten(value, key)
    if len(given) != n_rows:
        raise DataError(f"{key} has {len(given)} values for {n_rows} rows; give one per row.")
    weights = _as_numbers(given, key, missing_is_nan=True)
    wrong = ~np.isfinite(weights) | (weights < 0)
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(f"{key} must hold numbers of at least 0. Got {weights[at]} in row {at}.")
    if not weights.any():
        raise DataError(f"{key} is 0 in every row; at least one row must count.")
    return weights


def position_of(label: str, classes: Labels) -> int:
    """Give the position of the positive one of two classes.

    Args:
        label: As text; `1` also stands for 1.0, and `true` for True.
        classes: Sorted labels.

    Raises:
        DataError: There are more classes than two, or none is called so.
    """
    if len(classes) != 2:
        raise DataError(
            f"positive_label ('{label}') needs two classes. y has {len(classes)}; remove the "
            "setting."
        )
    names = [_name(each) for each in classes.tolist()]
    wanted = label
    if classes.dtype.kind == "b":
        wanted = label.capitalize()
    elif classes.dtype.kind != "U":
        wanted = _name(_as_number(label))
    if wanted not in names:
        raise DataError(
            f"positive_label must be one of the classes of y, {names[0]} or {names[1]}. "
            f"Got '{label}' instead."
        )
    return names.index(wanted)


def _name(label: object) -> str:
    """Give a label as text, the same for 1 and 1.0."""
    return f"{label:g}" if isinstance(label, float) else str(label)


def _as_number(label: str) -> object:
    try:
        return float(label)
    except ValueError:
        return label


def _check_labels(y: NDArray[Any], n_folds: int) -> Labels:
    y = _as_labels(y)
    if y.dtype.kind == "f":
        _check_whole(cast("FloatArray", y))
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise DataError(f"y has only one class ({classes[0]}); classification needs at least two.")
    many = len(classes) > MAX_CLASSES_SHARE * len(y) and len(y) >= MIN_ROWS_FOR_SHARE
    if many:
        what = "set task to 'regression'" if y.dtype.kind in "iuf" else "is it an id?"
        raise DataError(
            f"y has {len(classes)} different labels in {len(y)} rows, too many for "
            f"classification; {what}"
        )
    if counts.min() < n_folds:
        rarest = classes[counts.argmin()]
        raise DataError(
            f"Class {rarest} of y has {counts.min()} rows, fewer than the {n_folds} folds of "
            "n_cross_validations; lower n_cross_validations or drop the class."
        )
    return cast("Labels", y)


def _as_labels(y: NDArray[Any], key: str = "y") -> NDArray[Any]:
    """Give labels a dtype that needs no pickle: text, whole numbers, bool or float."""
    if y.dtype.kind not in "biufU":
        labels = y.astype(object).tolist()
        kinds = {str if isinstance(label, str) else type(label) for label in labels}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(
                f"{key} mixes labels of the types {names}; convert them to one type in get_data()."
            )
        y = np.asarray(labels) if y.dtype.kind == "O" else y
    if y.dtype.kind not in "biufU":
        raise DataError(
            f"{key} must hold whole numbers, text or bool as labels. Got {y.dtype} instead."
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


def _check_numbers(y: NDArray[Any]) -> FloatArray:
    numbers = _as_numbers(y, "y")
    if numbers.min() == numbers.max():
        raise DataError(f"y is {numbers[0]} in every row; there is nothing to learn.")
    return numbers


def _as_numbers(y: NDArray[Any], key: str, *, missing_is_nan: bool = False) -> FloatArray:
    if y.dtype.kind not in "biufO":
        raise DataError(f"{key} must be numeric for regression. Got {y.dtype} values instead.")
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{key} must be numeric for regression: {error}.") from error
    infinite = ~np.isfinite(numbers)
    if infinite.any() and not missing_is_nan:
        raise DataError(f"{key} has an infinite value in row {int(infinite.argmax())}.")
    return numbers
