"""What the widget is told of a sweep: plain values, as JSON carries them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote import live_table, terminal
from mlflow_automl_remote.choosing import PREDICT_MS
from mlflow_automl_remote.config.catalogue import lower_is_better
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.notebook.snapshot import headline

if TYPE_CHECKING:
    from mlflow_automl_remote.notebook.shown import Shown

MAX_TEXT: Final = 300
MAX_PARAMS: Final = 100
MAX_LOG: Final = 4_000

Row = list[Any]
"""Number, pipeline, model, state, seconds, score, best, reason, values of `metric_names`, params,
scores of the folds. All that a click shows without the kernel, which may be busy with a cell."""


def metric_names(state: SweepState) -> list[str]:
    """Give the metrics of a sweep and what models take to predict, the primary one first."""
    primary = state.started.primary_metric if state.started else ""
    names = {name for one in state.iterations.values() for name in _values(one)}
    return [name for name in (primary,) if name in names] + sorted(names - {primary})


def head(state: SweepState, metrics: Collection[str], sweep: Shown) -> dict[str, Any]:
    """Say where a sweep stands."""
    total = state.started.settings.get("iterations") if state.started else None
    left_s = terminal.time_left(state, total)
    is_over = state.status.is_finished
    text = headline(state)
    if not is_over and left_s is not None:
        text += f" - about {live_table.duration(left_s)} left"
    return {
        "text": text[: 2 * MAX_TEXT],
        "total": total if isinstance(total, int) else 0,
        "finished": len(state.finished),
        "running": not is_over,
        "best": state.best_iteration,
        "metric": state.started.primary_metric if state.started else "",
        "metrics": list(metrics),
        "lower": [name for name in metrics if lower_is_better(name)],
        "url": sweep.url,
        "run_id": sweep.run_id,
    }


def row(one: Iteration, metrics: Iterable[str]) -> Row:
    """Write an iteration down as a row of the widget's table."""
    return [
        one.number,
        _text(one.pipeline),
        _text(one.model),
        one.state.value,
        one.duration_s,
        _number(one.score),
        _number(one.best),
        _text(one.reason),
        [_number(_values(one).get(name)) for name in metrics] if one.metrics else None,
        _params(one),
        _folds(one),
    ]


def _values(one: Iteration) -> dict[str, float | None]:
    known = {} if one.predict_ms_per_row is None else {PREDICT_MS: one.predict_ms_per_row}
    return {**one.metrics, **known}


def importance(state: SweepState) -> list[list[Any]]:
    """Give what matters most to the best model: column, share of all importance, effect."""
    found = state.explanation.findings if state.explanation is not None else ()
    return [[_text(one.feature), one.share, _text(one.effect)] for one in found]


def _params(one: Iteration) -> list[list[str]]:
    params = sorted({**one.params, **one.hyperparameters}.items())
    return [[_text(name), _text(str(value))] for name, value in params[:MAX_PARAMS]]


def _folds(one: Iteration) -> list[list[str]]:
    return [
        [_text(name), *("" if value is None else f"{value:.5f}" for value in values)]
        for name, values in sorted(one.fold_metrics.items())
    ]


def tail(log: str) -> str:
    """Give the end of a log, from the begin of a line."""
    end = terminal.clean(log)[-MAX_LOG:]
    return end if len(log) <= MAX_LOG else end.partition("\n")[2]


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _text(text: str) -> str:
    return terminal.clean(text)[:MAX_TEXT]
