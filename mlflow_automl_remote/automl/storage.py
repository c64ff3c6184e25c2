"""Keeps a dataset in a folder, so that any number of processes share one copy of it in memory.

Numbers are NumPy files, tables one Arrow file; both are mapped, never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from mlflow_automl_remote.automl.dataset import ColumnSchema, Dataset, Features, Indices
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError

DIGEST_LENGTH: Final = 32
_CSR_PARTS: Final = ("data", "indices", "indptr")
_VECTORS: Final = ("y", "sample_weight", "y_valid", "sample_weight_valid")
_ABOUT: Final = "dataset.json"


def save(dataset: Dataset, folder: Path) -> None:
    """Write a dataset into `folder`, made if need be, for `open_dataset`."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"X": _save_features(dataset.X, folder, "X")}
    if dataset.X_valid is not None:
        forms["X_valid"] = _save_features(dataset.X_valid, folder, "X_valid")
    for name in _VECTORS:
        vector = getattr(dataset, name)
        if vector is not None:
            _save_array(folder / f"{name}.npy", vector)
    for number, (fit, score) in enumerate(dataset.cv_splits or ()):
        _save_array(folder / f"fit{number}.npy", fit)
        _save_array(folder / f"score{number}.npy", score)
    about = {
        "task": dataset.task,
        "digest": dataset.digest,
        "feature_names": dataset.feature_names,
        "forms": forms,
        "n_splits": None if dataset.cv_splits is None else len(dataset.cv_splits),
        "columns": [asdict(column) for column in dataset.columns],
    }
    (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def open_dataset(folder: Path) -> Dataset:
    """Open what `save` wrote; everything is a read-only memory map, shared between processes.

    Raises:
        DataError: The folder holds no dataset.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        forms = about["forms"]
        features = {name: _open_features(folder, name, form) for name, form in forms.items()}
        vectors = {name: _open_if_there(folder / f"{name}.npy") for name in _VECTORS}
        splits = _open_splits(folder, about["n_splits"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"'{folder}' holds no dataset that can be opened: {error}.") from error
    if about["task"] not in get_args(Task):
        raise DataError(f"'{folder}' holds a dataset of the unknown task '{about['task']}'.")
    names = about["feature_names"]
    return Dataset(
        X=features["X"],
        X_valid=features.get("X_valid"),
        feature_names=None if names is None else tuple(names),
        task=about["task"],
        digest=about["digest"],
        cv_splits=splits,
        columns=tuple(ColumnSchema(**column) for column in about["columns"]),
        **vectors,  # type: ignore[arg-type]  # names of arrays, checked where they are saved
    )


def digest_of(X: Features, y: NDArray[Any], names: tuple[str, ...] | None) -> str:
    """Give 32 hexadecimal digits that change with any value, label or name."""
    digest = hashlib.sha256(f"{X.shape} {y.dtype.str} {names}".encode())
    for part in _parts(X):
        digest.update(np.ascontiguousarray(part).view(np.uint8).reshape(-1).data)
    digest.update(np.ascontiguousarray(y).tobytes())
    return digest.hexdigest()[:DIGEST_LENGTH]


def _parts(X: Features) -> Iterator[NDArray[Any]]:
    """Give everything that makes up features as arrays of numbers."""
    if isinstance(X, np.ndarray):
        yield X
    elif sparse.issparse(X):
        yield from (getattr(X, part) for part in _CSR_PARTS)
    else:
        for at in range(X.shape[1]):
            column = X.iloc[:, at]
            if isinstance(column.dtype, pd.CategoricalDtype):
                yield column.cat.codes.to_numpy()
                yield np.frombuffer(json.dumps(list(column.cat.categories)).encode(), np.uint8)
            elif column.dtype.kind in "fM":
                yield column.to_numpy().view(np.int64)
            else:
                yield pd.util.hash_pandas_object(column, index=False).to_numpy()


def _save_array(path: Path, array: NDArray[Any]) -> None:
    np.save(path, array, allow_pickle=False)


def _open_array(path: Path) -> NDArray[Any]:
    # asarray: a plain ndarray over the mapped pages; some estimators reject the subclass.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _open_if_there(path: Path) -> NDArray[Any] | None:
    return _open_array(path) if path.exists() else None


def _open_splits(folder: Path, n_splits: int | None) -> tuple[tuple[Indices, Indices], ...] | None:
    if n_splits is None:
        return None
    return tuple(
        (_open_array(folder / f"fit{number}.npy"), _open_array(folder / f"score{number}.npy"))
        for number in range(n_splits)
    )


def _save_features(X: Features, folder: Path, name: str) -> str:
    """Write features in their form, and give the name of the form."""
    if isinstance(X, np.ndarray):
        _save_array(folder / f"{name}.npy", X)
        return "array"
    if isinstance(X, pd.DataFrame):
        from mlflow_automl_remote.automl import arrow_file

        arrow_file.write(X, folder / f"{name}.arrow")
        return "table"
    for part in _CSR_PARTS:
        _save_array(folder / f"{name}.{part}.npy", getattr(X, part))
    _save_array(folder / f"{name}.shape.npy", np.array(X.shape))
    return "sparse"


def _open_features(folder: Path, name: str, form: str) -> Features:
    if form == "array":
        return _open_array(folder / f"{name}.npy")
    if form == "table":
        from mlflow_automl_remote.automl import arrow_file

        return arrow_file.read(folder / f"{name}.arrow")
    data, indices, indptr = (_open_array(folder / f"{name}.{part}.npy") for part in _CSR_PARTS)
    n_rows, n_columns = _open_array(folder / f"{name}.shape.npy").tolist()
    return sparse.csr_matrix((data, indices, indptr), shape=(n_rows, n_columns), copy=False)
