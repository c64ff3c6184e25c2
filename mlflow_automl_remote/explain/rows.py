"""Which rows are explained, and against which background: seeded, and every class is in it."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError

N_BACKGROUND = 100
N_ROWS = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Row indices of one X; a row may be in both.

    Attributes:
        background: Ascending indices of the background rows.
        rows: Ascending indices of the rows to explain.
    """

    background: NDArray[np.intp]
    rows: NDArray[np.intp]


def select_rows(
    X: Sized | NDArray[np.float64],
    y: ArrayLike,
    seed: int,
    *,
    task: Task,
    n_background: int = N_BACKGROUND,
    n_rows: int = N_ROWS,
) -> Selection:
    """Draw background rows and rows to explain, in proportion to the classes.

    Every class is drawn at least once as long as there are as many rows to draw as classes.

    Args:
        X: Features, (n_samples, n_features); dense, sparse or a frame. Only its length is used.
        y: Targets, (n_samples,).
        seed: The same seed draws the same rows.
        task: Rows are stratified for classification.
        n_background: Background rows; all of X when it has fewer.
        n_rows: Rows to explain; all of X when it has fewer.

    Raises:
        DataError: X has no rows, or not as many as y.
    """
    targets = np.asarray(y)
    n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
    if n_samples == 0 or n_samples != len(targets):
        raise DataError(
            "Rows to explain need X and y of the same length, at least 1. "
            f"Got {n_samples} rows of X and {len(targets)} of y instead."
        )
    groups = targets if task == "classification" else np.zeros(n_samples)
    background, rows = (
        np.sort(_stratified_order(groups, np.random.default_rng([seed, stream]))[:count])
        for stream, count in enumerate((n_background, n_rows))
    )
    return Selection(background=background, rows=rows)


def _stratified_order(groups: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.intp]:
    """Order rows at random so that every prefix holds the groups in proportion."""
    shuffled = rng.permutation(len(groups))
    _, code = np.unique(groups[shuffled], return_inverse=True)
    counts = np.bincount(code)
    by_group = np.argsort(code, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(groups))
    rank[by_group] = np.arange(len(groups)) - np.repeat(starts, counts)
    order: NDArray[np.intp] = shuffled[np.argsort(rank / counts[code], kind="stable")]
    return order
