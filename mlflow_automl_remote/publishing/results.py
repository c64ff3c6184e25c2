"""What a sweep has left in MLflow, read back: its iterations, their models, its journal."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from mlflow_automl_remote import choosing
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.config.catalogue import lower_is_better
from mlflow_automl_remote.errors import ConfigurationError, IterationNotFound
from mlflow_automl_remote.journal.file import read
from mlflow_automl_remote.journal.replay import SweepState, replay
from mlflow_automl_remote.publishing import facts
from mlflow_automl_remote.publishing.calls import quiet
from mlflow_automl_remote.publishing.parent_run import ParentRun, where_to_look
from mlflow_automl_remote.states import IterationState

_PAGE = 1_000


def children(parent: ParentRun) -> list[Run]:
    """Give the runs of all iterations that are published so far, by their number."""
    found = [run for run in _children(parent) if facts.ITERATION in run.data.tags]
    return sorted(found, key=number_of)


def number_of(child: Run) -> int:
    """Give the number of the iteration that a run is of."""
    return int(child.data.tags[facts.ITERATION])


def child(parent: ParentRun, iteration: int) -> Run:
    """Give the run of one iteration.

    Raises:
        IterationNotFound: It has not begun, or is not published yet.
    """
    for run in _children(parent, f" and tags.`{facts.ITERATION}` = '{int(iteration)}'"):
        return run
    raise IterationNotFound(
        f"Iteration {iteration} has no run yet below '{parent.run_id}': it has not begun, or is "
        "not published so far."
    )


def best_child(parent: ParentRun, metric: str | None = None) -> Run:
    """Give the run of the iteration that is best so far, of those that are published whole.

    Args:
        parent: The sweep.
        metric: By which; None for the primary metric and what `optimize_for` says.

    Raises:
        ConfigurationError: No iteration has such a metric.
        IterationNotFound: No iteration has a model so far.
    """
    whole = [run for run in children(parent) if is_whole(run)]
    if not whole:
        raise IterationNotFound(
            f"No iteration of the sweep '{parent.run_id}' has a model so far. "
            "Wait for one, or see why those that ended have none."
        )
    if metric is None:
        return _best(whole, MlflowClient().get_run(parent.run_id).data.params)
    scored = [run for run in whole if math.isfinite(run.data.metrics.get(metric, math.nan))]
    if not scored:
        known = ", ".join(sorted({name for run in whole for name in run.data.metrics}))
        raise ConfigurationError(f"No iteration has a metric '{metric}'. Known are: {known}.")
    sign = 1 if lower_is_better(metric) else -1
    return min(scored, key=lambda run: (sign * run.data.metrics[metric], number_of(run)))


def _best(children: list[Run], settings: Mapping[str, str]) -> Run:
    """Choose as the journal's fold does, but of these alone."""
    metric = settings["primary_metric"]
    by_number = {number_of(run): run for run in children if metric in run.data.metrics}
    best = choosing.best(
        (
            Scored(
                number=number,
                score=run.data.metrics[metric],
                standard_error=run.data.metrics.get("standard_error"),
                predict_ms_per_row=run.data.metrics.get(choosing.PREDICT_MS),
                is_ensemble=run.data.tags.get(facts.PROPOSED_BY) == "ensemble",
            )
            for number, run in by_number.items()
        ),
        greater_is_better=not lower_is_better(metric),
        optimize_for=settings.get("optimize_for", "accuracy"),
    )
    if best is None:
        raise IterationNotFound(f"No iteration has the primary metric '{metric}' so far.")
    return by_number[best.number]


def is_whole(child: Run) -> bool:
    """Whether an iteration has a model, and all of it is in the store."""
    return child.info.status == "FINISHED" and _model_id(child) is not None


def _model_id(child: Run) -> str | None:
    models = child.outputs.model_outputs if child.outputs else []
    return str(models[0].model_id) if models else None


def load_model(child: Run) -> Any:
    """Load the model of an iteration: a fitted scikit-learn pipeline, which is unpickled here.

    Raises:
        IterationNotFound: It has none; the message says why.
    """
    import mlflow.sklearn

    if not is_whole(child):
        tags = child.data.tags
        state = tags.get(facts.STATE, IterationState.RUNNING.value)
        why = f": {tags[facts.REASON]}" if facts.REASON in tags else ""
        raise IterationNotFound(f"Iteration {number_of(child)} has no model; it is {state}{why}.")
    with quiet():
        return mlflow.sklearn.load_model(f"models:/{_model_id(child)}")


def picture(child: Run) -> bytes:
    """Give the charts of an iteration as a PNG; empty if it has none."""
    return _artifact(child.info.run_id, "charts/charts.png") or b""


def log(child: Run) -> str | None:
    """Give the log of an ended iteration; None if it is not in the store."""
    content = _artifact(child.info.run_id, "iteration.log")
    return None if content is None else content.decode("utf-8", errors="replace")


def url(child: Run) -> str:
    """Say where the run of an iteration is in MLflow's UI."""
    return where_to_look(child.info.run_id)


def state_of(run_id: str) -> SweepState | None:
    """Give the state at the end of a sweep, from the journal kept with its run, or None."""
    kept = _artifact(run_id, "sweep/journal.jsonl")
    return None if kept is None else replay(read(kept)[0])


def _artifact(run_id: str, path: str) -> bytes | None:
    """Read an artifact; None if it is not there."""
    with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder:
        try:
            with quiet():
                found = mlflow.artifacts.download_artifacts(
                    run_id=run_id, artifact_path=path, dst_path=folder
                )
        except (MlflowException, OSError):
            return None
        return Path(found).read_bytes()


def _children(parent: ParentRun, more: str = "") -> Iterator[Run]:
    token: str | None = None
    client = MlflowClient()
    while True:
        page = client.search_runs(
            [parent.experiment_id],
            f"tags.`{facts.PARENT_RUN_ID}` = '{parent.run_id}'{more}",
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return
