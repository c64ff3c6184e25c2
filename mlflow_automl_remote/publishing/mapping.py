"""What MLflow is to show of a sweep: pure functions from its state to params, metrics and tags."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mlflow_automl_remote.choosing import PREDICT_MS
from mlflow_automl_remote.journal.events import ArtifactFile, DataLoaded, ExplanationFinished
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.text import (
    MAX_NAME,
    MAX_PARAM,
    MAX_TAG,
    key,
    one_line,
    printable,
    with_keys,
)
from mlflow_automl_remote.states import IterationState, SweepStatus

DATASET_NAME: Final = "training data"
MAX_DIGEST: Final = 36
MAX_BULKY_FILE_BYTES: Final = 1024 * 1024
_BULKY_SUFFIXES: Final = (".npy", ".npz")
_CHARTS: Final = "/charts/charts.html"
_SWEEP_ENDED: Final = "The sweep ended before this iteration did."


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a metric.

    Attributes:
        of_model: Whether it is a property of the model, not only of the run.
    """

    key: str
    value: float
    timestamp_ms: int
    step: int = 0
    of_model: bool = False


# --- children: one run for each iteration


def settled(state: SweepState) -> tuple[Iteration, ...]:
    """Give all iterations by number; those that an ended sweep left behind count as cancelled."""
    ended_ms = state.ended_ms
    iterations = sorted(state.iterations.values(), key=lambda one: one.number)
    if not state.status.is_finished or ended_ms is None:
        return tuple(iterations)
    return tuple(
        one
        if one.state.is_finished
        else replace(one, state=IterationState.CANCELLED, reason=_SWEEP_ENDED, ended_ms=ended_ms)
        for one in iterations
    )


def child_name(iteration: Iteration) -> str:
    """Give the name of an iteration's run, which never changes."""
    return one_line(f"{iteration.number:03d} {iteration.pipeline}", MAX_NAME)


_CHILD_STATUS: Final[Mapping[IterationState, str]] = {
    IterationState.RUNNING: "RUNNING",
    IterationState.COMPLETED: "FINISHED",
    IterationState.CANCELLED: "KILLED",
}


def child_status(iteration: Iteration) -> str:
    """Give the status of an iteration's run."""
    return _CHILD_STATUS.get(iteration.state, "FAILED")


_CHILD_TAGS: Final[Mapping[str, Callable[[Iteration], str]]] = {
    names.ITERATION: lambda one: str(one.number),
    names.STATE: lambda one: one.state.value,
    names.ATTEMPT: lambda one: str(one.attempt),
    names.PROPOSED_BY: lambda one: one.proposed_by,
    names.SOURCE_RUN_ID: lambda one: one.source_run_id,
    names.N_FITS: lambda one: str(one.n_fits or ""),
    names.REASON: lambda one: one.reason,
    names.NODE: lambda one: one.node,
    names.SCALER: lambda one: one.scaler,
    names.MODEL: lambda one: one.model,
}


def child_tags(iteration: Iteration, facts: ParentFacts) -> dict[str, str]:
    """Give the tags of an iteration's run, those of every run of MLflow left out."""
    tags = {name: one_line(value(iteration)) for name, value in _CHILD_TAGS.items()}
    tags[names.KEY] = facts.key(iteration.number)
    tags[names.SWEEP_ID] = facts.sweep_id
    tags[names.TARGET] = facts.target
    tags[names.CHARTS] = charts_tag(iteration) or ""
    tags[names.PIPELINE] = pipeline_tag(iteration)
    return {name: value for name, value in tags.items() if value}


def pipeline_tag(iteration: Iteration) -> str:
    """Give a pipeline as it was proposed, as JSON, for later sweeps; empty for an ensemble.

    The params of the run are those of what was fitted, which say less: a number of rounds there
    may be what early stopping has found.
    """
    if not iteration.scaler:
        return ""
    params = dict(sorted(iteration.params.items()))
    text = json.dumps({"scaler": iteration.scaler, "model": iteration.model, "params": params})
    return text if len(text) <= MAX_TAG else ""


def charts_tag(iteration: Iteration) -> str | None:
    """Give the artifact that holds the charts of an iteration; None if it has none."""
    has_charts = any(file.path.endswith(_CHARTS) for file in iteration.files)
    return _CHARTS.removeprefix("/") if has_charts else None


def child_params(iteration: Iteration) -> dict[str, str]:
    """Give every hyper-parameter whole: what was fitted, or what was proposed if nothing was."""
    params = iteration.hyperparameters or iteration.params
    return with_keys({name: printable(str(value)) for name, value in params.items()})


def too_long(params: Mapping[str, str]) -> dict[str, str]:
    """Give those params that MLflow would cut off."""
    return {name: value for name, value in params.items() if len(value) > MAX_PARAM}


def param_artifact(name: str) -> str:
    """Give the path of the artifact that holds a param which MLflow would cut off."""
    return f"params/{name}.txt"


def shown(params: Mapping[str, str]) -> dict[str, str]:
    """Give params as they are logged: a pointer where the value is an artifact."""
    long = too_long(params)
    return {
        name: f"see artifact {param_artifact(name)} ({len(value)} characters)"
        if name in long
        else value
        for name, value in params.items()
    }


_CHILD_NUMBERS: Final[Mapping[str, Callable[[Iteration], float | None]]] = {
    "fit_time_s": lambda one: one.fit_s or None,
    "predict_time_s": lambda one: one.predict_s or None,
    "duration_s": lambda one: one.duration_s,
    "standard_error": lambda one: one.standard_error,
    "model_size_bytes": lambda one: sum(file.size_bytes for file in model_files(one)) or None,
}


def child_points(iteration: Iteration) -> list[Point]:
    """Give all metrics of an ended iteration: means, times, and scores of the folds as steps."""
    at_ms = iteration.ended_ms or iteration.started_ms
    means = _finite({**iteration.metrics, PREDICT_MS: iteration.predict_ms_per_row})
    times = _finite({name: value(iteration) for name, value in _CHILD_NUMBERS.items()})
    tests = _finite({f"test_{name}": value for name, value in iteration.test_metrics.items()})
    points = [
        Point(key=name, value=value, timestamp_ms=at_ms, of_model=of_model)
        for values, of_model in ((means | tests, True), (times | _spreads(iteration), False))
        for name, value in with_keys(values).items()
    ]
    folds = with_keys({f"{name}_fold": row for name, row in iteration.fold_metrics.items()})
    for name, row in folds.items():
        points += [
            Point(key=name, value=value, timestamp_ms=at_ms, step=fold)
            for fold, value in enumerate(row)
            if value is not None and math.isfinite(value)
        ]
    return points


def _spreads(iteration: Iteration) -> dict[str, float]:
    """Give the standard deviation of each metric over the folds, of two folds at least."""
    rows = {
        name: [value for value in row if value is not None and math.isfinite(value)]
        for name, row in iteration.fold_metrics.items()
    }
    return {f"{name}_std": statistics.stdev(row) for name, row in rows.items() if len(row) > 1}


def child_files(iteration: Iteration) -> tuple[ArtifactFile, ...]:
    """Give the files that become artifacts of an iteration's run: not its model, nothing bulky."""
    prefix = f"{iteration.model_path}/" if iteration.model_path else None
    return tuple(
        file
        for file in iteration.files
        if not (prefix and file.path.startswith(prefix))
        and not (file.path.endswith(_BULKY_SUFFIXES) and file.size_bytes > MAX_BULKY_FILE_BYTES)
    )


def model_files(iteration: Iteration) -> tuple[ArtifactFile, ...]:
    """Give the files of an iteration's model; none when it has no model."""
    if not iteration.model_path or iteration.state is not IterationState.COMPLETED:
        return ()
    prefix = f"{iteration.model_path}/"
    return tuple(file for file in iteration.files if file.path.startswith(prefix))


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


# --- the data


def dataset_digest(data: DataLoaded) -> str:
    """Give the digest in the length that MLflow takes."""
    return key(data.digest)[:MAX_DIGEST]


def dataset_profile(data: DataLoaded) -> str:
    """Give the shape of the data as the JSON that MLflow shows."""
    shape = {
        "num_rows": data.n_rows,
        "num_columns": data.n_columns,
        "num_elements": data.n_rows * data.n_columns,
        "num_classes": data.n_classes,
    }
    return json.dumps({name: value for name, value in shape.items() if value is not None})


def dataset_source(state: SweepState) -> str:
    """Give where the data came from, as the JSON that MLflow shows for data made by code."""
    settings = {} if state.started is None else state.started.settings
    script = one_line(str(settings.get("data_script", "get_data.py")))
    return json.dumps({"tags": {"mlflow.source.name": script}})


# --- the parent: one run for the sweep


def parent_status(state: SweepState) -> str:
    """Give the status of the sweep's run."""
    return {
        SweepStatus.RUNNING: "RUNNING",
        SweepStatus.COMPLETED: "FINISHED",
        SweepStatus.CANCELLED: "KILLED",
    }.get(state.status, "FAILED")


def parent_params(state: SweepState) -> dict[str, str]:
    """Give the settings of the sweep."""
    settings = {} if state.started is None else state.started.settings
    return with_keys({name: _setting(value)[:MAX_PARAM] for name, value in settings.items()})


def _setting(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_setting(item) for item in value)
    if isinstance(value, Mapping):
        return printable(json.dumps(dict(value), sort_keys=True))
    return printable(str(value))


def counts(state: SweepState) -> dict[str, int]:
    """Give how many iterations there are in each state, those in none left out."""
    found = Counter(one.state for one in settled(state))
    return {f"n_{one.value.lower()}": found[one] for one in IterationState if found[one]}


_STARTED_TAGS: Final = (
    "primary_metric",
    "package_version",
    "python_version",
    "host_name",
    "n_cores",
    "memory_bytes",
)


def parent_tags(state: SweepState, facts: ParentFacts) -> dict[str, str]:
    """Give the tags of the sweep's run that follow from the journal and the client's facts."""
    tags = {
        names.SWEEP_ID: facts.sweep_id,
        names.TARGET: facts.target,
        names.TARGET_CONFIG: facts.target_config,
        names.WORKSPACE: facts.workspace,
        names.STATUS: state.status.value,
        names.REASON: state.reason,
        names.ATTEMPT: str(state.attempt),
        names.N_FINISHED: str(len(state.finished)),
        names.N_SAMPLES: str(len(state.samples)),
    }
    n_in_state = counts(state)
    for one in IterationState:
        name = f"n_{one.value.lower()}"
        tags[names.PREFIX + name] = str(n_in_state.get(name, 0))
    if state.started is not None:
        tags |= {names.PREFIX + name: str(getattr(state.started, name)) for name in _STARTED_TAGS}
    if state.ended_by:
        tags[names.ENDED_BY] = state.ended_by
    if state.data is not None and state.data.meta_features:
        tags[names.META_FEATURES] = json.dumps(dict(state.data.meta_features))
    if state.plan is not None and state.plan.warm_start:
        tags[names.WARM_START] = state.plan.warm_start
    if state.best_iteration is not None:
        tags[names.BEST_ITERATION] = str(state.best_iteration)
    return {name: line for name, value in tags.items() if (line := one_line(value, MAX_TAG))}


def explanation_tag(explanation: ExplanationFinished) -> str:
    """Give the explainer, or why there is no explanation."""
    if explanation.reason:
        return one_line(f"failed: {explanation.reason}")
    return one_line(explanation.explainer) or "done"


def parent_points(state: SweepState, n_published: int) -> list[Point]:
    """Give the metrics of the sweep's run: the best so far; at the end all of the best and counts.

    Args:
        state: The sweep.
        n_published: How many ended iterations have been published before.
    """
    points = list(_best_so_far(state, n_published))
    if not state.status.is_finished or state.ended_ms is None:
        return points
    step = len(state.finished)
    points += [
        Point(key=name, value=float(value), timestamp_ms=state.ended_ms, step=step)
        for name, value in counts(state).items()
    ]
    return points + list(_best_of_all(state))


def _best_so_far(state: SweepState, n_published: int) -> Iterator[Point]:
    name = _best_name(state)
    for step, number in enumerate(state.finished):
        one = state.iterations[number]
        if step >= n_published and name and one.best is not None and one.ended_ms is not None:
            yield Point(key=name, value=one.best, timestamp_ms=one.ended_ms, step=step)


def _best_of_all(state: SweepState) -> Iterator[Point]:
    best = state.best
    if best is None or best.ended_ms is None:
        return
    step = state.finished.index(best.number)
    tests = {f"test_{name}": value for name, value in best.test_metrics.items()}
    values = {**best.metrics, **tests, PREDICT_MS: best.predict_ms_per_row}
    for name, value in with_keys(_finite(values)).items():
        if f"best_{name}" != _best_name(state):
            yield Point(key=f"best_{name}", value=value, timestamp_ms=best.ended_ms, step=step)


def _best_name(state: SweepState) -> str:
    return "" if state.started is None else f"best_{key(state.started.primary_metric)}"
