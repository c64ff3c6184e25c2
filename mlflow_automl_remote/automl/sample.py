"""Keeps the rows that a sweep works with on their own, where they are a sample of many more.

Without it every iteration would touch pages of the whole data, and split all of its rows again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote.automl import storage
from mlflow_automl_remote.automl.dataset import Dataset, Indices, take_rows
from mlflow_automl_remote.automl.splits import Splits, make_splits
from mlflow_automl_remote.config import AutoMLConfig

_SPLITS: Final = "splits.npz"


def keep(dataset: Dataset, splits: Splits, folder: Path) -> None:
    """Write the rows that are fitted on, scored or tested, with the folds as they are.

    Args:
        dataset: All rows.
        splits: Have a sample in `train`.
        folder: Made if need be; `storage.open_dataset` and `splits_of` read it.
    """
    train = np.arange(dataset.n_rows) if splits.train is None else splits.train
    rows = np.union1d(train, splits.test)
    weight = dataset.sample_weight
    storage.save(
        replace(
            dataset,
            X=take_rows(dataset.X, rows),
            y=dataset.y[rows],
            sample_weight=None if weight is None else weight[rows],
            cv_splits=None,
        ),
        folder,
    )

    def place(each: Indices) -> Indices:
        return np.searchsorted(rows, each)

    arrays = {"train": place(train), "test": place(splits.test)}
    for number, (fit, score) in enumerate(splits.folds):
        arrays |= {f"fit{number}": place(fit)}
        arrays |= {f"score{number}": score if splits.on_valid else place(score)}
    np.savez(folder / _SPLITS, allow_pickle=False, **arrays)


def splits_of(folder: Path, dataset: Dataset, config: AutoMLConfig) -> Splits:
    """Give the folds that were kept with a sample; else those that the settings make.

    Raises:
        DataError: As `make_splits`.
    """
    if not (folder / _SPLITS).exists():
        return make_splits(dataset, config)
    with np.load(folder / _SPLITS, allow_pickle=False) as kept:
        n_folds = sum(name.startswith("fit") for name in kept)
        return Splits(
            folds=tuple((kept[f"fit{at}"], kept[f"score{at}"]) for at in range(n_folds)),
            train=kept["train"],
            test=kept["test"],
            on_valid=dataset.X_valid is not None,
            description="",
        )


def with_range(config: AutoMLConfig, dataset: Dataset) -> AutoMLConfig:
    """Give settings in which errors are normalized by the range of all rows, not of the sample."""
    if dataset.task != "regression":
        return config
    ends = {"y_min": float(dataset.y.min()), "y_max": float(dataset.y.max())}
    unset = {name: end for name, end in ends.items() if getattr(config, name) is None}
    return config.model_copy(update=unset)
