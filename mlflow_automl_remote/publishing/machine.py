"""How busy the target was, as the system metrics of the sweep's run."""

from __future__ import annotations

import math

from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.publishing.mapping import Point
from mlflow_automl_remote.publishing.text import key


def machine_points(state: SweepState, n_published: int) -> list[Point]:
    """Give how busy the target was, under the names that the UI shows as system metrics.

    Those of a node of its cluster have the name of the node before them, as MLflow has it.

    Args:
        state: The sweep.
        n_published: How many samples have been published before.
    """
    return [
        Point(
            key="/".join(("system", *map(key, name.split("/", 1)))),
            value=value,
            timestamp_ms=one.time_ms,
            step=step,
        )
        for step, one in enumerate(state.samples)
        if step >= n_published
        for name, value in one.values.items()
        if math.isfinite(value)
    ]
