"""The time of a sweep: what is left of it, for the search and for the ensembles after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

ENSEMBLE_SHARE: Final = 0.1
"""Of the whole time, kept for the ensembles."""
MOST_OF_TIME: Final = 0.25
"""The same where it is known how long they will take, at most."""
MOST_FOR_ENSEMBLES_S: Final = 60.0
SHORTEST_S: Final = 0.5
"""An iteration is not begun with less time than this left."""
MOST_FOR_ONE: Final = 1 / 3
"""Of the whole time, what a pipeline may use where models are not named by the user: else one that
was predicted to be quick, and is not, would be the whole sweep."""

_OUT_OF_TIME: Final = "Killed when the time of the sweep (experiment_timeout_minutes) was up."
_TOO_MUCH: Final = (
    "Killed after a third of the time of the sweep (experiment_timeout_minutes); for more, name "
    "its model in allowed_models or set auto_blacklist to false."
)


class Budget:
    """Counts down from the begin of the sweep.

    Args:
        total_s: `experiment_timeout_minutes` in seconds, or None.
        iteration_s: `iteration_timeout_minutes` in seconds, or None.
        spent_s: What was used before: loading the data, an earlier agent.
        n_ensembles: Whether time has to be kept for them.
        is_shared: Whether no pipeline may use more than its part of the whole time.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        total_s: float | None,
        iteration_s: float | None,
        spent_s: float = 0.0,
        n_ensembles: int = 0,
        is_shared: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._iteration_s = iteration_s
        self._total_s = total_s
        self._share_s = None if total_s is None or not is_shared else total_s * MOST_FOR_ONE
        self._end = None if total_s is None else clock() + total_s - spent_s
        kept_s = 0.0 if total_s is None else min(ENSEMBLE_SHARE * total_s, MOST_FOR_ENSEMBLES_S)
        self._search_end = None if self._end is None else self._end - kept_s * (n_ensembles > 0)

    def allows(self, *, ensemble: bool = False) -> bool:
        """Whether there is time for one more iteration."""
        end = self._end if ensemble else self._search_end
        return end is None or end - self._clock() >= SHORTEST_S

    def keep_s(self, seconds: float) -> None:
        """Keep so many seconds for the ensembles, now that it is known what they need."""
        if self._end is not None and self._total_s is not None:
            self._search_end = self._end - min(seconds, MOST_OF_TIME * self._total_s)

    def overdue_s(self) -> float:
        """Give the seconds since the time was up; negative before."""
        return float("-inf") if self._end is None else self._clock() - self._end

    def left_s(self) -> float:
        """Give the seconds that are left for the search; infinite without a limit."""
        return float("inf") if self._search_end is None else self._search_end - self._clock()

    def extend(self, seconds: float) -> None:
        """Leave a pause out of the time that has gone by."""
        if self._end is not None and self._search_end is not None:
            self._end += seconds
            self._search_end += seconds

    def limit_s(self, *, ensemble: bool = False) -> tuple[float | None, str]:
        """Give the hard limit of an iteration that begins now.

        Returns:
            Seconds, or None; and what to say of an iteration that was killed there, empty where
            it is its own limit.
        """
        limits: list[tuple[float, str]] = []
        if self._iteration_s is not None:
            limits.append((self._iteration_s, ""))
        end = self._end if ensemble else self._search_end
        if end is not None:
            limits.append((max(0.0, end - self._clock()), _OUT_OF_TIME))
        if self._share_s is not None and not ensemble:
            limits.append((self._share_s, _TOO_MUCH))
        return min(limits, key=lambda each: each[0], default=(None, ""))
