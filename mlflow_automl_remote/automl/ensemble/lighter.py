"""Leaves members out of a vote: those that are too slow together, and those it does not need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlflow_automl_remote import choosing
from mlflow_automl_remote.automl.dataset import FloatArray
from mlflow_automl_remote.automl.ensemble.selection import Score


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cost:
    """What a vote may take to predict.

    Attributes:
        ms: Milliseconds a row of one model of each candidate, of shape (n_candidates,).
        limit_ms: Of all members together, or None.
        is_latency: Whether members go that the vote does not need.
    """

    ms: FloatArray
    limit_ms: float | None
    is_latency: bool

    @property
    def allows_all(self) -> bool:
        """Whether none has to go."""
        within = self.limit_ms is None or float(self.ms.sum()) <= self.limit_ms
        return within and not self.is_latency


def lighter(weights: FloatArray, predictions: FloatArray, score: Score, cost: Cost) -> FloatArray:
    """Leave out members, one after the other, until a vote is within its cost.

    Above the limit that one goes without which the vote scores best. For latency then the slowest
    goes without which it loses no more than a hundredth of the loss of the whole vote.

    Args:
        weights: Of the vote, of shape (n_candidates,).
        predictions: Of shape (n_candidates, n_rows) or (n_candidates, n_rows, n_classes).
        score: Higher is better.
        cost: What it may take.

    Returns:
        At least 0, sum 1; at least one of them is above 0.
    """
    whole = float(score(_mix(weights[None], predictions))[0])
    floor = whole - choosing.SHARE_OF_LOSS * choosing.loss(whole, greater_is_better=True)
    while (weights > 0).sum() > 1:
        members = np.flatnonzero(weights > 0)
        without = np.repeat(weights[None], len(members), axis=0)
        without[np.arange(len(members)), members] = 0.0
        without /= without.sum(axis=1, keepdims=True)
        scores = np.nan_to_num(score(_mix(without, predictions)), nan=-np.inf)
        if cost.limit_ms is not None and cost.ms[members].sum() > cost.limit_ms:
            weights = without[int(np.argmax(scores))]
        elif cost.is_latency and (scores >= floor).any():
            weights = without[int(np.argmax(np.where(scores >= floor, cost.ms[members], -1.0)))]
        else:
            break
    return weights


def _mix(weights: FloatArray, predictions: FloatArray) -> FloatArray:
    return np.tensordot(weights, predictions, axes=1)
