"""Greedy selection with replacement: which pipelines a vote is made of, and with what weights.

R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes: Ensemble Selection from Libraries of Models,
ICML 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from mlflow_automl_remote.automl.dataset import FloatArray

MAX_ROUNDS: Final = 25
PATIENCE_ROUNDS: Final = 5

Score = Callable[[FloatArray], float]
"""Says how good predictions of shape (n_rows,) or (n_rows, n_classes) are; higher is better."""


def select(predictions: FloatArray, score: Score) -> FloatArray:
    """Choose the weights of a vote.

    It begins with the best pipeline and adds, again and again, the one with which the mean of all
    chosen so far scores best; the best of all those means is kept. Choosing one twice doubles its
    weight.

    Args:
        predictions: Of shape (n_candidates, n_rows) or (n_candidates, n_rows, n_classes).
        score: Higher is better; NaN is worst.

    Returns:
        Of shape (n_candidates,), at least 0, sum 1.
    """
    counts = np.zeros(len(predictions))
    total = np.zeros(predictions.shape[1:])
    best, best_counts, best_at = -np.inf, counts.copy(), 0
    for n_chosen in range(1, MAX_ROUNDS + 1):
        scores = [_defined(score((total + one) / n_chosen)) for one in predictions]
        chosen = int(np.argmax(scores))
        counts[chosen] += 1
        total += predictions[chosen]
        if scores[chosen] > best:
            best, best_counts, best_at = scores[chosen], counts.copy(), n_chosen
        if n_chosen - best_at >= PATIENCE_ROUNDS:
            break
    if not best_counts.any():  # no score is a number
        best_counts = np.ones(len(predictions))
    return best_counts / best_counts.sum()  # type: ignore[no-any-return]


def _defined(score: float) -> float:
    return -np.inf if np.isnan(score) else score
