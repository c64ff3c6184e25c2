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

Score = Callable[[FloatArray], FloatArray]
"""Says how good predictions are, of shape (n, n_rows) or (n, n_rows, n_classes), one number for
each of the n; higher is better, NaN is worst."""


def select(
    predictions: FloatArray, score: Score, *, n_best: int = 1, max_rounds: int = MAX_ROUNDS
) -> FloatArray:
    """Choose the weights of a vote.

    It begins with the best pipelines and adds, again and again, the one with which the mean of all
    chosen so far scores best; the best of all those means is kept. Choosing one twice doubles its
    weight.

    Args:
        predictions: Of shape (n_candidates, n_rows) or (n_candidates, n_rows, n_classes).
        score: Higher is better.
        n_best: How many of the best ones it begins with.
        max_rounds: How many it chooses at most.

    Returns:
        Of shape (n_candidates,), at least 0, sum 1.
    """
    counts = np.zeros(len(predictions))
    total = np.zeros(predictions.shape[1:])
    best, best_counts, best_at = -np.inf, counts.copy(), 0
    alone = _defined(score(predictions))
    first = np.argsort(-alone, kind="stable")[:n_best]
    for n_chosen in range(1, max(max_rounds, n_best) + 1):
        if n_chosen <= len(first):
            chosen = int(first[n_chosen - 1])
            reached = float(alone[chosen]) if len(first) == 1 else -np.inf
        else:
            scores = _defined(score((total + predictions) / n_chosen))
            chosen = int(np.argmax(scores))
            reached = float(scores[chosen])
        counts[chosen] += 1
        total += predictions[chosen]
        if reached > best:
            best, best_counts, best_at = reached, counts.copy(), n_chosen
        if n_chosen - max(best_at, len(first)) >= PATIENCE_ROUNDS:
            break
    if not best_counts.any():  # no score is a number
        best_counts = np.ones(len(predictions))
    return best_counts / best_counts.sum()  # type: ignore[no-any-return]


def _defined(scores: FloatArray) -> FloatArray:
    return np.where(np.isnan(scores), -np.inf, scores)
