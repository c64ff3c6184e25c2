"""Keeps boosting to a time: the first rounds are timed, the learning rate follows from that."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from mlflow_automl_remote.automl.components.base import Pace
from mlflow_automl_remote.automl.dataset import Labels

MOST_ROUNDS: Final = 3000
"""Rounds of a booster that is watched, whatever the time."""
_MOST_TREES: Final = 4_000
FASTEST: Final = 0.3
"""A learning rate is never raised above it."""
_WANTED: Final = 16.0
"""Rounds times learning rate after which most boosters get no better."""
_PATIENCE: Final = 5.0
"""Rounds times learning rate without progress that stop a booster."""
_WARM_ROUNDS: Final = 3  # that say nothing of the time of the others
_TIMED_ROUNDS: Final = 8


def most_rounds(y: Labels, *, classifies: bool) -> int:
    """Give the most rounds of a watched booster: of many classes each costs a tree a round."""
    n_outputs = len(np.unique(y)) if classifies else 1
    return min(MOST_ROUNDS, _MOST_TREES // max(n_outputs if n_outputs > 2 else 1, 1))


def patience(learning_rate: float) -> int:
    """Give the rounds without progress that stop a booster."""
    return max(15, min(100, round(_PATIENCE / learning_rate)))


class Stopwatch:
    """Times the rounds of one fit.

    Args:
        pace: What the fit has to keep to.
        learning_rate: That it begins with.
        wanted: Rounds that it would have with all the time there is; the most where it is watched.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        pace: Pace,
        learning_rate: float,
        wanted: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.learning_rate = learning_rate
        self._pace = pace
        self._wanted = min(wanted, round(_WANTED / learning_rate))
        self._clock = clock
        self._warm_at = 0.0

    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._clock() >= self._pace.until

    def faster(self, n_done: int) -> float | None:
        """Give a higher learning rate to go on with, if so many rounds show that one is needed."""
        if self._pace.rounds is not None:
            return None
        if n_done == _WARM_ROUNDS:
            self._warm_at = self._clock()
        if n_done != _WARM_ROUNDS + _TIMED_ROUNDS:
            return None
        now = self._clock()
        per_round_s = max((now - self._warm_at) / _TIMED_ROUNDS, 1e-6)
        possible = max(1.0, (self._pace.until - now) / per_round_s)
        if possible >= self._wanted:
            return None
        self.learning_rate = max(
            self.learning_rate, min(FASTEST, self.learning_rate * self._wanted / possible)
        )
        return self.learning_rate
