"""The table of iterations as lines of text: a legend, the heads, and a row as each one ends."""

from __future__ import annotations

from typing import Final

from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.states import IterationState

LEGEND: Final = """\
************************************************************************************************
ITERATION: The iteration being evaluated.
PIPELINE:  A summary description of the pipeline being evaluated.
DURATION:  Time taken for the current iteration.
METRIC:    The result of computing {metric} on the fitted pipeline.
BEST:      {best}
{more}************************************************************************************************
"""
_BEST: Final = {
    "accuracy": "The best observed score thus far.",
    "latency": "That of the fastest to predict of those near the best observed score thus far.",
}
_MS_PER_ROW: Final = "MS/ROW:    Milliseconds that the fitted pipeline takes to predict a row.\n"
_ROW: Final = "{:>10}   {:<46} {:>9} {:>11} {:>11}"
_MAX_REASON: Final = 160


def heads(state: SweepState) -> list[str]:
    """Say what the columns are, and name them.

    The time to predict has one where the settings say that it matters.
    """
    metric = "" if state.started is None else state.started.primary_metric
    legend = LEGEND.format(
        metric=metric,
        best=_BEST.get(state.optimize_for, _BEST["accuracy"]),
        more=_MS_PER_ROW if is_timed(state) else "",
    )
    head = _ROW.format("ITERATION", "PIPELINE", "DURATION", "METRIC", "BEST")
    return [legend, head + (f" {'MS/ROW':>9}" if is_timed(state) else "")]


def row(iteration: Iteration, state: SweepState) -> list[str]:
    """Give the row of an iteration that has ended, and below it why it has no score."""
    line = _ROW.format(
        iteration.number,
        iteration.pipeline[:46],
        duration(iteration.duration_s),
        score(iteration.score),
        score(iteration.best),
    )
    if is_timed(state):
        line += f" {milliseconds(iteration.predict_ms_per_row):>9}"
    if iteration.state is IterationState.COMPLETED:
        return [line]
    return [line, f"{'':>13}{iteration.state}: {iteration.reason[:_MAX_REASON]}"]


def duration(seconds: float | None) -> str:
    """Write seconds as h:mm:ss, as the article's table does."""
    if seconds is None:
        return ""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def score(value: float | None) -> str:
    """Write a score with five digits after the point; `nan` where there is none."""
    return "nan" if value is None else f"{value:.5f}"


def milliseconds(value: float | None) -> str:
    """Write milliseconds with three digits; empty where there are none."""
    return "" if value is None else f"{value:.3g}"


def is_timed(state: SweepState) -> bool:
    """Whether the settings say that the time to predict matters."""
    settings = {} if state.started is None else state.started.settings
    return state.optimize_for == "latency" or settings.get("max_predict_ms_per_row") is not None
