"""The predictions of an iteration for rows that it was not fitted on, and those rows' targets.

`oof.npy` is for people: one entry per row. Where a row is scored in several folds, `folds.npy`
keeps each of its predictions, so that an ensemble is chosen and scored fold by fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Labels
from mlflow_automl_remote.automl.splits import Splits

OOF_NAME: Final = "oof.npy"
_FOLDS_NAME: Final = "folds.npy"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What came of the rows of all folds to score, one fold after the other.

    Attributes:
        y: Targets, of shape (n,).
        predicted: Of shape (n, n_classes), columns in the order of the sorted labels, for
            classification; (n,) for regression.
        weight: Of shape (n,); None for equal ones.
    """

    y: Labels
    predicted: FloatArray
    weight: FloatArray | None


def held_out(dataset: Dataset, splits: Splits, predicted: FloatArray) -> HeldOut:
    """Put targets and weights beside predictions of the folds, one after the other."""
    rows = np.concatenate([score for _, score in splits.folds])
    y, weight = dataset.y, dataset.sample_weight
    if splits.on_valid and dataset.y_valid is not None:
        y, weight = dataset.y_valid, dataset.sample_weight_valid
    return HeldOut(y=y[rows], predicted=predicted, weight=None if weight is None else weight[rows])


def save(folder: Path, per_fold: Sequence[FloatArray], dataset: Dataset, splits: Splits) -> None:
    """Write the predictions of all folds.

    `oof.npy` has shape (n_rows, n_classes) for classification, columns in the order of the sorted
    labels, and (n_rows,) for regression; its rows are those of the data or of its validation set.
    A row that is scored twice has the mean, one that is never scored NaN.

    Args:
        folder: Gets the files.
        per_fold: One array per fold, for its rows to score in order.
        dataset: The data.
        splits: The folds.
    """
    stacked = np.concatenate(list(per_fold))
    rows = np.concatenate([score for _, score in splits.folds])
    n_rows = dataset.n_rows
    if splits.on_valid and dataset.X_valid is not None:
        n_rows = int(dataset.X_valid.shape[0])
    total = np.zeros((n_rows, *stacked.shape[1:]))
    np.add.at(total, rows, stacked)
    times = np.bincount(rows, minlength=n_rows).astype(np.float64)
    times[times == 0] = np.nan
    oof = total / times.reshape(-1, *(1,) * (total.ndim - 1))
    np.save(folder / OOF_NAME, oof, allow_pickle=False)
    if not splits.scores_once:
        np.save(folder / _FOLDS_NAME, stacked, allow_pickle=False)


def load(folder: Path, splits: Splits) -> FloatArray:
    """Read what `save` wrote: the predictions of all folds, one after the other.

    Raises:
        OSError: The iteration left no predictions.
    """
    if not splits.scores_once:
        stacked: FloatArray = np.load(folder / _FOLDS_NAME, allow_pickle=False)
        return stacked
    oof: FloatArray = np.load(folder / OOF_NAME, allow_pickle=False)
    rows = np.concatenate([score for _, score in splits.folds])
    return cast("FloatArray", oof[rows])
