"""Score against time to predict: the points of the chart, and the front as a table."""

from __future__ import annotations

from typing import Final

from mlflow_automl_remote import choosing
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.publishing.mapping import model_files
from mlflow_automl_remote.publishing.text import one_line

COLUMNS: Final = (
    "iteration",
    "pipeline",
    "score",
    "standard_error",
    "predict_ms_per_row",
    "fit_time_s",
    "model_size_bytes",
    "best",
)


def chart(state: SweepState) -> dict[str, object]:
    """Give what the page draws; the key `points` is empty where nothing was measured."""
    points = [
        [one.predict_ms_per_row, one.score, one.number, one_line(one.pipeline)]
        for one in state.iterations.values()
        if one.score is not None and one.predict_ms_per_row
    ]
    settings = {} if state.started is None else state.started.settings
    return {
        "points": points,
        "front": [one.number for one in _front(state)],
        "table": front(state),
        "best": state.best_iteration,
        "least": _least(state),
        "limit_ms": settings.get("max_predict_ms_per_row"),
    }


def front(state: SweepState) -> list[dict[str, object]]:
    """Give the iterations that no other beats in score and time to predict, the fastest first."""
    values = [
        (
            one.number,
            one_line(one.pipeline),
            one.score,
            one.standard_error,
            one.predict_ms_per_row,
            one.fit_s,
            sum(file.size_bytes for file in model_files(one)) or None,
            one.number == state.best_iteration,
        )
        for one in _front(state)
    ]
    return [dict(zip(COLUMNS, row, strict=True)) for row in values]


def _front(state: SweepState) -> list[Iteration]:
    on_it = (state.iterations[number] for number in state.front)
    return [one for one in on_it if one.predict_ms_per_row]


def _least(state: SweepState) -> float | None:
    """Give the score that a model must have to be the best for latency; None for accuracy."""
    scored = [one.scored for one in _front(state)]
    known = [one for one in scored if one is not None]
    if state.optimize_for != "latency" or not known:
        return None
    return choosing.least(known, greater_is_better=state.greater_is_better)
