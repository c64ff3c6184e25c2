"""Turns what get_data() returned into a dataset, or says what is wrong with it.

Knows nothing of where the data comes from (`data_script` does) or what is fitted on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_automl_remote.automl import columns, contract, targets
from mlflow_automl_remote.automl.containers import to_features
from mlflow_automl_remote.automl.dataset import ColumnSchema as ColumnSchema
from mlflow_automl_remote.automl.dataset import Dataset as Dataset
from mlflow_automl_remote.automl.dataset import Features as Features
from mlflow_automl_remote.automl.dataset import FloatArray as FloatArray
from mlflow_automl_remote.automl.dataset import Indices as Indices
from mlflow_automl_remote.automl.dataset import Labels as Labels
from mlflow_automl_remote.automl.dataset import take_rows as take_rows
from mlflow_automl_remote.automl.storage import digest_of
from mlflow_automl_remote.automl.storage import open_dataset as open_dataset
from mlflow_automl_remote.automl.storage import save as save
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError

Splits = tuple[tuple[Indices, Indices], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checked:
    """What came of the checks.

    Attributes:
        dataset: The data.
        n_unlabelled: Rows that were left out because they had no label.
    """

    dataset: Dataset
    n_unlabelled: int


def check(raw: object, task: Task, *, n_folds: int = 2) -> Dataset:
    """Turn what `get_data()` returned into a dataset, with the settings' defaults.

    Raises:
        DataError: As `check_all`.
    """
    return check_all(raw, task, n_folds=n_folds).dataset


def check_all(
    raw: object,
    task: Task,
    *,
    n_folds: int = 2,
    featurization: columns.Featurization = "auto",
    exclude_nan_labels: bool = True,
) -> Checked:
    """Turn what `get_data()` returned into a dataset.

    Args:
        raw: A dict with keys of `contract.KNOWN_KEYS`.
        task: The kind of problem.
        n_folds: The folds of the cross-validation; each class needs as many rows. Of no account
            where the data has folds or a validation set of its own.
        featurization: Whether, and how, columns that are no plain numbers are read.
        exclude_nan_labels: Leave out rows without a label; else they are an error.

    Raises:
        DataError: Something about it cannot be trained on; the message is one line that says what
            was found and what to do.
    """
    given = contract.read_keys(raw)
    X, y = to_features(given["X"]), targets.flatten(given["y"])
    if X.shape[0] != len(y):
        raise DataError(
            f"X has {X.shape[0]} rows and y has {len(y)}; they must have the same number of rows."
        )
    weights = given.get("sample_weight")
    weights = None if weights is None else targets.check_weights(weights, len(y))
    splits = _read_splits(given.get("cv_splits_indices"), len(y))
    kept = _labelled(y, exclude_nan_labels=exclude_nan_labels)
    n_unlabelled = len(y) - int(kept.sum())
    if n_unlabelled:
        X, y = take_rows(X, np.flatnonzero(kept)), targets.drop_missing(y, kept)
        weights = None if weights is None else weights[kept]
        splits = _renumbered(splits, kept)
    own_rows_to_score = splits is not None or "X_valid" in given
    needed = 1 if own_rows_to_score else n_folds
    if len(y) < max(needed, 2):
        raise DataError(
            f"The data has {len(y)} rows, fewer than the {max(needed, 2)} folds of "
            "n_cross_validations."
        )
    labels = targets.check_target(y, task, needed)
    read = columns.read_features(X, featurization)
    dataset = Dataset(
        X=read.X,
        y=labels,
        feature_names=read.names,
        task=task,
        digest=digest_of(read.X, labels, read.names),
        sample_weight=weights,
        cv_splits=splits,
        columns=read.columns,
        **_validation_set(given, read, labels, task),
    )
    return Checked(dataset=dataset, n_unlabelled=n_unlabelled)


def _labelled(y: Any, *, exclude_nan_labels: bool) -> Any:
    """Say which rows have a target, of shape (n_rows,)."""
    missing = targets.missing_labels(y)
    if missing.all():
        raise DataError("y has no values: every label is missing.")
    if missing.any() and not exclude_nan_labels:
        raise DataError(
            f"y has {int(missing.sum())} missing values (first in row {int(missing.argmax())}); "
            "drop these rows, or set exclude_nan_labels to true."
        )
    return ~missing


def _validation_set(
    given: Mapping[str, Any], like: columns.ReadFeatures, y: Labels, task: Task
) -> dict[str, Any]:
    """Give the fields of a dataset that hold its validation set."""
    if "X_valid" not in given:
        return {}
    X_valid = to_features(given["X_valid"], "X_valid")
    y_valid = targets.check_valid_target(targets.flatten(given["y_valid"], "y_valid"), y, task)
    if X_valid.shape[0] != len(y_valid):
        raise DataError(
            f"X_valid has {X_valid.shape[0]} rows and y_valid has {len(y_valid)}; they must have "
            "the same number of rows."
        )
    weights = given.get("sample_weight_valid")
    return {
        "X_valid": columns.read_valid(X_valid, like),
        "y_valid": y_valid,
        "sample_weight_valid": None
        if weights is None
        else targets.check_weights(weights, len(y_valid), "sample_weight_valid"),
    }


def _read_splits(value: object, n_rows: int) -> Splits | None:
    if value is None:
        return None
    try:
        # Typed as object: what is not pairs of rows raises, and is refused below.
        pairs = [(np.asarray(fit), np.asarray(score)) for fit, score in value]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"cv_splits_indices must be a list of pairs: rows to fit on, rows to score ({error})."
        ) from error
    if not pairs:
        raise DataError("cv_splits_indices is empty; give at least one pair of row lists.")
    return tuple(
        (_indices(fit, n_rows, number), _indices(score, n_rows, number, fit))
        for number, (fit, score) in enumerate(pairs)
    )


def _indices(rows: Any, n_rows: int, number: int, others: Any = None) -> Indices:
    where = f"Pair {number} of cv_splits_indices"
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise DataError(f"{where} must hold two lists of row numbers, neither of them empty.")
    if rows.min() < 0 or rows.max() >= n_rows:
        wrong = rows.min() if rows.min() < 0 else rows.max()
        raise DataError(f"{where} names row {wrong}; rows are numbered from 0 to {n_rows - 1}.")
    if others is not None and len(both := np.intersect1d(rows, others)):
        raise DataError(f"{where} fits on row {both[0]} and scores it too; a row can do only one.")
    return rows.astype(np.intp)  # type: ignore[no-any-return]


def _renumbered(splits: Splits | None, kept: Any) -> Splits | None:
    """Number rows anew after some have been left out."""
    if splits is None:
        return None
    number = np.cumsum(kept) - 1
    pairs = [(number[fit[kept[fit]]], number[score[kept[score]]]) for fit, score in splits]
    if any(not len(rows) for pair in pairs for rows in pair):
        raise DataError(
            "A list of cv_splits_indices has only rows without a label; drop these rows first."
        )
    return tuple(pairs)
