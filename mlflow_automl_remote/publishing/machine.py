"""How busy the target was, as the system metrics of the sweep's run."""

from __future__ import annotations

import math

from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.publishing.mapping import Point
from mlflow_automl_remote.publishing.text import key


def machine_points(state: SweepState, n_published: int) -> list[Point]:
    """Give how busy the target was, under the names that the UI shows as system metrics.

    Args:
        state: The sweep.
        n_published: How many samples have been published before.
    """
    return [
        Point(key=f"system/{key(name)}", value=value, timestamp_ms=one.time_ms, step=step)
        for step, one in enumerate(state.samples)
        if step >= n_published
        for name, value in one.values.items()
        if math.isfinite(value)
    ]
