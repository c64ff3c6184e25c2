"""The leaderboard of a sweep as one self-contained page and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Final

from mlflow_automl_remote.publishing.mapping import counts
from mlflow_automl_remote.publishing.text import as_script, cell, one_line
from mlflow_automl_remote.publishing.view import Row, View

_PLACE: Final = "/*SWEEP*/null"
_MAX_VALUE: Final = 200


def to_html(view: View) -> str:
    """Write the page; it needs no network, no storage and nothing beside it."""
    state = view.state
    sweep = {
        "status": state.status.value,
        "reason": one_line(state.reason),
        "sweep_id": view.facts.sweep_id,
        "target": one_line(view.facts.target),
        "metric": view.primary_metric,
        "greater": state.greater_is_better,
        "counts": counts(state),
        "data": _data(view),
        "order": list(state.finished),
        "rows": [_html_row(row, view) for row in view.rows()],
    }
    return _template().replace(_PLACE, as_script(sweep), 1)


def to_csv(view: View) -> str:
    """Write all iterations with all metrics; no cell of text begins as a formula does."""
    rows = list(view.rows())
    metrics = sorted({name for row in rows for name in row.iteration.metrics})
    tests = sorted({name for row in rows for name in row.iteration.test_metrics})
    head = [
        *("rank", "iteration", "scaler", "model", "state", "score", "standard_error"),
        *metrics,
        *(f"test_{name}" for name in tests),
        *("duration_s", "fit_time_s", "predict_time_s", "predict_ms_per_row", "started", "ended"),
        *("proposed_by", "reason", "params", "run_id", "model_id"),
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([cell(name) for name in head])
    for row in rows:
        writer.writerow([cell(value) for value in _csv_row(row, metrics, tests)])
    return out.getvalue()


def _csv_row(row: Row, metrics: list[str], tests: list[str]) -> list[object]:
    one = row.iteration
    return [
        *(row.rank, one.number, one.scaler, one.model, one.state.value, one.score),
        one.standard_error,
        *(one.metrics.get(name) for name in metrics),
        *(one.test_metrics.get(name) for name in tests),
        *(one.duration_s, one.fit_s or None, one.predict_s or None, one.predict_ms_per_row),
        *(_moment(one.started_ms), _moment(one.ended_ms)),
        *(one.proposed_by, one.reason, json.dumps(dict(one.hyperparameters or one.params))),
        *(row.run_id, row.model_id),
    ]


def _moment(time_ms: int | None) -> str | None:
    if time_ms is None:
        return None
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _html_row(row: Row, view: View) -> dict[str, object]:
    one = row.iteration
    return {
        "rank": row.rank,
        "iteration": one.number,
        "scaler": one_line(one.scaler),
        "model": one_line(one.model),
        "state": one.state.value,
        "score": one.score,
        "best": one.best,
        "started": one.started_ms,
        "duration": one.duration_s,
        "predict": one.predict_ms_per_row,
        "by": one_line(one.proposed_by),
        "reason": one_line(one.reason or view.unpublished.get(one.number, "")),
        "metrics": {
            one_line(name): value
            for values in (one.metrics, _named("test_", one.test_metrics))
            for name, value in values.items()
        },
        "error": one.standard_error,
        "params": _texts(one.hyperparameters or one.params),
        "run": row.run_id,
        "model_id": row.model_id,
    }


def _named(prefix: str, values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {prefix + name: value for name, value in values.items()}


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {one_line(name): one_line(str(value), _MAX_VALUE) for name, value in values.items()}


def _data(view: View) -> str:
    data = view.state.data
    if data is None:
        return ""
    classes = f", {data.n_classes} classes" if data.n_classes else ""
    return f"{data.n_rows:,} rows, {data.n_columns:,} columns{classes}"


@cache
def _template() -> str:
    page = files(__package__).joinpath("static", "leaderboard.html")
    return page.read_text(encoding="utf-8")
