"""Which rows are looked at when there are more than a chart needs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_ROWS: Final = 50_000
"""More rows change no chart that a person could see, and cost time of the iteration."""


def sample(n_rows: int, limit: int = MAX_ROWS) -> slice | NDArray[np.intp]:
    """Give all rows, or so many of them in order, the same ones for every model of a sweep."""
    if n_rows <= limit:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n_rows, limit, replace=False))
