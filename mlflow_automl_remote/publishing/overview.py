"""What a sweep was, beside its iterations: times, families, data, guardrails, environment."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Final

from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.publishing import pareto
from mlflow_automl_remote.publishing.mapping import settled
from mlflow_automl_remote.publishing.text import as_script, cell, one_line
from mlflow_automl_remote.publishing.view import View
from mlflow_automl_remote.states import IterationState

_PLACE: Final = "/*SWEEP*/null"
_MAX_TEXT: Final = 400
_FAMILY_COLUMNS: Final = ("model", "iterations", "without_model", "best_score", "time_s")
_ENVIRONMENT: Final = ("host_name", "n_cores", "memory_bytes", "python_version", "package_version")


def to_page(view: View) -> str:
    """Write the page; it needs no network, no storage and nothing beside it."""
    state = view.state
    content = {
        "metric": view.primary_metric,
        "greater": state.greater_is_better,
        "status": state.status.value,
        "ended_by": one_line(state.ended_by),
        "points": _points(state),
        "pareto": pareto.chart(state),
        "families": families(state),
        "guardrails": [
            [one_line(one.severity), one_line(one.column), one_line(one.text, _MAX_TEXT)]
            for one in (state.data.guardrails if state.data else ())
        ],
        "columns": _columns(state),
        "classes": _classes(state),
        "facts": _facts(view),
        "environment": [
            [name, one_line(str(value))] for name, value in environment(state).items()
        ],
        "settings": [
            [name, one_line(value if isinstance(value, str) else json.dumps(value), _MAX_TEXT)]
            for name, value in settings(state).items()
        ],
    }
    return _template().replace(_PLACE, as_script(content), 1)


def documents(state: SweepState) -> dict[str, str]:
    """Give the same for programs, by the path of the artifact."""
    return {
        "sweep/settings.json": _json(settings(state)),
        "sweep/environment.json": _json(environment(state)),
        "sweep/data.json": _json(data_profile(state)),
        "sweep/families.csv": _csv(_FAMILY_COLUMNS, families(state)),
        "sweep/pareto.csv": _csv(pareto.COLUMNS, pareto.front(state)),
    }


def settings(state: SweepState) -> dict[str, object]:
    """Give all settings of the sweep, defaults included."""
    return {} if state.started is None else dict(state.started.settings)


def environment(state: SweepState) -> dict[str, object]:
    """Give where the sweep ran: the machine, and the exact versions on it."""
    started = state.started
    if started is None:
        return {}
    found: dict[str, object] = {name: getattr(started, name) for name in _ENVIRONMENT}
    return found | dict(sorted(started.package_versions.items()))


def data_profile(state: SweepState) -> dict[str, object]:
    """Give shape, columns and findings of the data; none of its rows."""
    if state.data is None:
        return {}
    profile = asdict(state.data)
    profile["featurization"] = {
        mode: [asdict(one) for one in features] for mode, features in state.featurization.items()
    }
    return profile


def families(state: SweepState) -> list[dict[str, object]]:
    """Give for each kind of model how many iterations it had, the best score and its time."""
    found: dict[str, list[Iteration]] = {}
    for one in settled(state):
        found.setdefault(one.model, []).append(one)
    greater = state.greater_is_better
    rows: list[dict[str, object]] = [
        {
            "model": one_line(model),
            "iterations": len(group),
            "without_model": sum(
                one.state not in (IterationState.COMPLETED, IterationState.RUNNING)
                for one in group
            ),
            "best_score": _best([one.score for one in group if one.score is not None], greater),
            "time_s": round(sum(one.duration_s or 0.0 for one in group), 3),
        }
        for model, group in found.items()
    ]
    return sorted(rows, key=lambda row: -float(str(row["time_s"])))


def _best(scores: Sequence[float], greater: bool) -> float | None:
    return (max if greater else min)(scores) if scores else None


def _points(state: SweepState) -> list[list[object]]:
    """Give seconds since the start, score, best so far, number and pipeline of each iteration."""
    begun_ms = state.started_ms or 0
    return [
        [
            round(((one.ended_ms or begun_ms) - begun_ms) / 1000, 2),
            one.score,
            one.best,
            one.number,
            one_line(one.pipeline),
        ]
        for one in (state.iterations[number] for number in state.finished)
        if one.score is not None
    ]


def _columns(state: SweepState) -> list[list[object]]:
    """Give what is known of each column, and what preprocessing made of it."""
    if state.data is None:
        return []
    made = {one.raw_feature: one for features in state.featurization.values() for one in features}
    rows: list[list[object]] = []
    for column in state.data.columns:
        feature = made.get(column.name)
        done = ", ".join(feature.transformations) if feature else ""
        rows.append(
            [
                one_line(column.name),
                one_line(column.kind),
                column.n_missing,
                column.n_unique,
                feature.n_engineered if feature else None,
                one_line(column.dropped_reason or done, _MAX_TEXT),
            ]
        )
    return rows


def _classes(state: SweepState) -> list[list[object]]:
    """Give label, rows and share of the rows of each class."""
    if state.data is None:
        return []
    n_rows = max(1, state.data.n_rows)
    return [
        [one_line(one.label), one.n_rows, one.n_rows / n_rows] for one in state.data.class_counts
    ]


def _facts(view: View) -> list[list[str]]:
    state = view.state
    facts: dict[str, object] = {"target": view.facts.target, "workspace": view.facts.workspace}
    if state.data is not None:
        facts["data"] = f"{state.data.n_rows:,} rows, {state.data.n_columns:,} columns"
        if state.data.n_classes:
            facts["classes"] = state.data.n_classes
        facts["digest of the data"] = state.data.digest
    if state.plan is not None:
        facts["validation"] = state.plan.validation
        facts["rows for the test"] = state.plan.n_test_rows or ""
        facts["at a time"] = (
            f"{state.plan.n_places} iterations, {state.plan.n_threads} threads each"
        )
        facts["models"] = ", ".join(state.plan.models)
        facts |= {f"without {name}": reason for name, reason in state.plan.left_out.items()}
        facts["warm start"] = state.plan.warm_start
        facts["note"] = " ".join(state.plan.notes)
    facts["ended early"] = state.ended_by
    facts["reason"] = state.reason
    return [[name, text] for name, value in facts.items() if (text := one_line(str(value)))]


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


@cache
def _template() -> str:
    page = files(__package__).joinpath("static", "overview.html")
    return page.read_text(encoding="utf-8")
