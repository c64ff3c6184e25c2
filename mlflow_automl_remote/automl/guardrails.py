"""Looks for what makes a good score worthless: leaks, ids, order in time, gaps, rare classes.

What it finds does not stop a sweep; `data` refuses what would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlflow_automl_remote.automl.data import Checked
from mlflow_automl_remote.automl.dataset import ColumnSchema, Dataset

Severity = Literal["info", "warning"]

MAX_ROWS: Final = 5_000  # as many as tell a leak; more would cost time on every sweep
MAX_COLUMNS: Final = 2_000  # the same
N_BINS: Final = 64
LEAK_SHARE: Final = 0.98
"""So much of the error that one column takes away by itself is too good to be true."""
MIN_ROWS: Final = 60  # fewer rows than that fall into a pattern by chance
RARE_SHARE: Final = 0.02
RARE_AMONG_CLASSES: Final = 0.2  # of the mean class: with many classes each of them is small
HIGH_CARDINALITY: Final = 100
_MAX_DUPLICATES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the data that a person should know.

    Attributes:
        id: What kind of finding it is, for programs.
        column: The column it is about; empty for the whole table.
        severity: `warning` if scores may not hold on new data, else `info`.
        text: One line: what was found and what can be done.
    """

    id: str
    column: str
    severity: Severity
    text: str


def inspect(checked: Checked) -> tuple[Finding, ...]:
    """Look at data that has passed the checks; warnings come first."""
    dataset = checked.dataset
    found = [
        *_labels(checked),
        *_columns(dataset),
        *_order(dataset),
        *_leaks(dataset),
        *_duplicates(dataset),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "warning"))


def _info(id_: str, column: str, text: str) -> Finding:
    return Finding(id=id_, column=column, severity="info", text=text)


def _warning(id_: str, column: str, text: str) -> Finding:
    return Finding(id=id_, column=column, severity="warning", text=text)


def _labels(checked: Checked) -> Iterator[Finding]:
    y = checked.dataset.y
    if checked.n_unlabelled:
        yield _warning(
            "label_missing", "", f"{checked.n_unlabelled} rows without a label were left out."
        )
    classes, counts = np.unique(y, return_counts=True)
    if checked.dataset.task == "regression":
        if len(classes) == 2:
            text = (
                f"y has only the values {classes[0]:g} and {classes[1]:g}: is it classification?"
            )
            yield _warning("task_does_not_fit", "", text)
        return
    rarest = counts.argmin()
    if counts[rarest] < min(RARE_SHARE * len(y), RARE_AMONG_CLASSES * counts.mean()):
        text = (
            f"Class {classes[rarest]} has {counts[rarest]} of {len(y)} rows; prefer a metric such "
            "as AUC_weighted or norm_macro_recall to accuracy."
        )
        yield _info("rare_class", "", text)


def _columns(dataset: Dataset) -> Iterator[Finding]:
    for column in dataset.columns:
        if column.dropped_reason is not None:
            text = f"No model sees this column: {column.dropped_reason}."
            yield _info("column_dropped", column.name, text)
        elif column.n_missing:
            share = column.n_missing / dataset.n_rows
            text = f"{column.n_missing} of {dataset.n_rows} values are missing ({share:.1%})."
            yield _info("missing_values", column.name, text)
        elif column.kind == "category" and column.n_unique > HIGH_CARDINALITY:
            text = f"{column.n_unique} categories, encoded by their mean target."
            yield _info("high_cardinality", column.name, text)
    if dataset.is_table or not dataset.columns:
        return
    constant = [column.name for column in dataset.columns if column.n_unique <= 1]
    constant = [name for name in constant if not _is_dropped(dataset, name)]
    if constant:
        text = f"The same value in every row of {len(constant)} columns: {_listed(constant)}."
        yield _info("constant_column", constant[0], text)


def _is_dropped(dataset: Dataset, name: str) -> bool:
    return any(each.name == name and each.dropped_reason for each in dataset.columns)


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_DUPLICATES
    return ", ".join(names[:_MAX_DUPLICATES]) + (f" and {more} more" if more > 0 else "")


def _numeric_columns(dataset: Dataset) -> Iterator[tuple[ColumnSchema, NDArray[Any]]]:
    """Give the columns that models see, but text, as numbers of shape (n_rows,)."""
    if dataset.is_sparse:
        return
    for at, column in enumerate(dataset.x_columns[:MAX_COLUMNS]):
        if column.dropped_reason is not None or column.kind == "text":
            continue
        if isinstance(dataset.X, pd.DataFrame):
            values = dataset.X.iloc[:, at]
            numbers = values.cat.codes if column.kind == "category" else values
            yield column, numbers.to_numpy()
        else:
            yield column, dataset.X[:, at]


def _order(dataset: Dataset) -> Iterator[Finding]:
    """Find columns that number the rows, and dates that the rows are sorted by."""
    if dataset.n_rows < MIN_ROWS or dataset.cv_splits is not None or dataset.X_valid is not None:
        return
    for column, values in _numeric_columns(dataset):
        if column.n_missing or column.kind not in ("number", "date"):
            continue
        steps = np.diff(values.view(np.int64) if column.kind == "date" else values)
        if column.kind == "date" and (bool((steps >= 0).all()) or bool((steps <= 0).all())):
            text = (
                "The rows are in the order of this date; folds at random let a model see the "
                "future. Give cv_splits_indices or a later validation set."
            )
            yield _warning("time_order", column.name, text)
        elif column.kind == "number" and steps[0] != 0 and bool((steps == steps[0]).all()):
            text = (
                "Numbers the rows one by one; a model learns their order. Drop it, or set "
                f"featurization to {{'{column.name}': 'drop'}}."
            )
            yield _warning("row_number", column.name, text)


def _leaks(dataset: Dataset) -> Iterator[Finding]:
    """Find columns that give the target away by themselves."""
    if dataset.n_rows < MIN_ROWS:
        return
    rng = np.random.default_rng(0)
    rows = rng.permutation(dataset.n_rows)[:MAX_ROWS]
    targets = _targets(dataset, rows)
    for column, values in _numeric_columns(dataset):
        share = _explained(values[rows], targets, is_category=column.kind == "category")
        if share >= LEAK_SHARE:
            text = (
                f"Predicts y by itself ({share:.1%} of the error goes). Is it known before the "
                "outcome? If not, drop it."
            )
            yield _warning("leak", column.name, text)


def _targets(dataset: Dataset, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Give targets whose mean can be taken: one column per class, or standardized numbers."""
    y = dataset.y[rows]
    if dataset.task == "regression":
        numbers = np.asarray(y, dtype=np.float64)
        return np.asarray((numbers - numbers.mean()) / (numbers.std() or 1.0))[:, None]
    _, codes = np.unique(y, return_inverse=True)
    common = np.argsort(-np.bincount(codes), kind="stable")[:N_BINS]
    return np.asarray(codes[:, None] == common[None, :], dtype=np.float64)


def _explained(values: NDArray[Any], targets: NDArray[np.float64], *, is_category: bool) -> float:
    """Say how much of the squared error the mean target per bin takes away on other rows."""
    half = len(values) // 2
    bins = _bins(values, half, is_category=is_category)
    if bins is None:
        return 0.0
    n_bins = int(bins.max()) + 1
    counts = np.bincount(bins[:half], minlength=n_bins)
    prior = targets[:half].mean(axis=0)
    sums = [np.bincount(bins[:half], weights=t, minlength=n_bins) for t in targets[:half].T]
    means = np.where(
        counts[:, None] > 0, np.column_stack(sums) / np.maximum(counts, 1)[:, None], prior
    )
    error = float(((targets[half:] - means[bins[half:]]) ** 2).sum())
    baseline = float(((targets[half:] - prior) ** 2).sum())
    return 1 - error / baseline if baseline else 0.0


def _bins(values: NDArray[Any], half: int, *, is_category: bool) -> NDArray[np.intp] | None:
    """Put values into bins: one per category, or quantiles of the first half; or give None."""
    if is_category:
        codes = values.astype(np.intp) + 1
        return codes if len(np.unique(codes)) <= half / 4 else None
    numbers = values.view(np.int64).astype(np.float64) if values.dtype.kind == "M" else values
    known = numbers[:half][np.isfinite(numbers[:half])]
    if not len(known):
        return None
    edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1], method="nearest"))
    bins = np.searchsorted(edges, numbers, side="left")
    return np.where(np.isnan(numbers), len(edges) + 1, bins)


def _duplicates(dataset: Dataset) -> Iterator[Finding]:
    """Find columns that are equal in every row."""
    first: dict[bytes, tuple[str, NDArray[Any]]] = {}
    n_found = 0
    for column, values in _numeric_columns(dataset):
        sample = np.ascontiguousarray(values[:1000])
        key = sample.dtype.str.encode() + sample.tobytes()
        if key not in first:
            first[key] = (column.name, values)
            continue
        name, other = first[key]
        constant = column.n_unique <= 1
        if not constant and np.array_equal(values, other, equal_nan=values.dtype.kind == "f"):
            n_found += 1
            if n_found <= _MAX_DUPLICATES:
                text = f"Equal to the column '{name}' in every row; drop one of them."
                yield _info("duplicate_column", column.name, text)
