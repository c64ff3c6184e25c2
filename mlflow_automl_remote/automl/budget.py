"""The time of a sweep: what is left of it, for the search and for the ensembles after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

ENSEMBLE_SHARE: Final = 0.1
"""Of the whole time, kept for the ensembles."""
MOST_FOR_ENSEMBLES_S: Final = 60.0
SHORTEST_S: Final = 0.5
"""An iteration is not begun with less time than this left."""


class Budget:
    """Counts down from the begin of the sweep.

    Args:
        total_s: `experiment_timeout_minutes` in seconds, or None.
        iteration_s: `iteration_timeout_minutes` in seconds, or None.
        spent_s: What was used before: loading the data, an earlier agent.
        n_ensembles: Whether time has to be kept for them.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        total_s: float | None,
        iteration_s: float | None,
        spent_s: float = 0.0,
        n_ensembles: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._iteration_s = iteration_s
        self._end = None if total_s is None else clock() + total_s - spent_s
        kept_s = 0.0 if total_s is None else min(ENSEMBLE_SHARE * total_s, MOST_FOR_ENSEMBLES_S)
        self._search_end = None if self._end is None else self._end - kept_s * (n_ensembles > 0)

    def allows(self, *, ensemble: bool = False) -> bool:
        """Whether there is time for one more iteration."""
        end = self._end if ensemble else self._search_end
        return end is None or end - self._clock() >= SHORTEST_S

    def limit_s(self, *, ensemble: bool = False) -> tuple[float | None, bool]:
        """Give the hard limit of an iteration that begins now.

        Returns:
            Seconds, or None; and whether it is the end of the sweep that sets them.
        """
        end = self._end if ensemble else self._search_end
        if end is None:
            return self._iteration_s, False
        left_s = max(0.0, end - self._clock())
        if self._iteration_s is not None and self._iteration_s <= left_s:
            return self._iteration_s, False
        return left_s, True
