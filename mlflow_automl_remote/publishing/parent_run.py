"""The parent run of a sweep, as a client opens it and finds it again."""

from __future__ import annotations

import contextlib
import importlib
import os
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES

from mlflow_automl_remote.errors import ConfigurationError, SweepNotFound
from mlflow_automl_remote.publishing import facts
from mlflow_automl_remote.publishing.facts import ParentFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentRun:
    """What the parent run says about its sweep.

    Attributes:
        status: Of the MLflow run: RUNNING, FINISHED, FAILED or KILLED.
    """

    run_id: str
    experiment_id: str
    status: str
    facts: ParentFacts


def import_store() -> None:
    """Import what MLflow needs to reach the tracking store, without reaching it.

    MLflow imports its database layer at the first call only, which takes longer than the rest.
    """
    if mlflow.get_tracking_uri().partition(":")[0].partition("+")[0] in DATABASE_ENGINES:
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")


def open_parent(
    *, experiment_name: str | None, run_name: str | None, begun_at_ms: int | None = None
) -> str:
    """Create the parent run, or adopt the one that MLflow made for this process.

    Args:
        experiment_name: None for the current one.
        run_name: None for one that MLflow makes up.
        begun_at_ms: When the sweep was submitted, before iterations began, in milliseconds since
            1970; None for now.

    Returns:
        The id of the run.

    Raises:
        ConfigurationError: The tracking store or the experiment cannot be used.
    """
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.tracking.fluent import _get_experiment_id

    client = MlflowClient()
    adopted = os.environ.get("MLFLOW_RUN_ID")
    try:
        if adopted:
            return str(client.get_run(adopted).info.run_id)
        if experiment_name is None:
            experiment_id = _get_experiment_id()
        else:
            # Not set_experiment, which would hold for all that this process does later.
            found = client.get_experiment_by_name(experiment_name)
            experiment_id = (
                client.create_experiment(experiment_name) if found is None else found.experiment_id
            )
        run = client.create_run(
            str(experiment_id), start_time=begun_at_ms, run_name=run_name, tags=resolve_tags()
        )
    except MlflowException as error:
        raise ConfigurationError(
            f"The run could not be created at {mlflow.get_tracking_uri()}: {_one_line(error)}"
        ) from error
    return str(run.info.run_id)


def remember(run_id: str, where: ParentFacts) -> None:
    """Write down on the parent run where its sweep is; done before the sweep is started."""
    tags = {
        facts.SWEEP_ID: where.sweep_id,
        facts.TARGET: where.target,
        facts.TARGET_CONFIG: where.target_config,
        facts.WORKSPACE: where.workspace,
    }
    batch = [RunTag(name, value) for name, value in tags.items()]
    MlflowClient().log_batch(run_id, tags=batch)


def give_up(run_id: str) -> None:
    """End the run of a sweep that has not begun."""
    with contextlib.suppress(MlflowException):
        MlflowClient().set_terminated(run_id, "FAILED")


def find_parent(run_id: str) -> ParentRun:
    """Read what `remember` wrote.

    Raises:
        SweepNotFound: There is no such run, or it is not the parent run of a sweep.
    """
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        raise SweepNotFound(
            f"The run '{run_id}' cannot be read from {mlflow.get_tracking_uri()}: "
            f"{_one_line(error)}. MLFLOW_TRACKING_URI must name the store that the sweep was "
            "submitted with."
        ) from error
    tags = run.data.tags
    if facts.TARGET_CONFIG not in tags:
        raise SweepNotFound(
            f"The run '{run_id}' is not the parent run of a sweep: it has no tag "
            f"'{facts.TARGET_CONFIG}'. Give the id that was printed at submission."
        )
    return ParentRun(
        run_id=run_id,
        experiment_id=run.info.experiment_id,
        status=run.info.status,
        facts=ParentFacts(
            sweep_id=tags.get(facts.SWEEP_ID, ""),
            target=tags.get(facts.TARGET, ""),
            target_config=tags[facts.TARGET_CONFIG],
            workspace=tags.get(facts.WORKSPACE, ""),
        ),
    )


def sweeps_of(experiment_name: str) -> list[str]:
    """Give the parent runs of the sweeps in an experiment, the latest first."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        return []
    runs = client.search_runs(
        [experiment.experiment_id],
        f"tags.`{facts.TARGET_CONFIG}` LIKE '%'",
        max_results=1_000,
        order_by=["attributes.start_time DESC"],
    )
    return [run.info.run_id for run in runs]


def is_deleted(run_id: str) -> bool:
    """Whether a person has deleted the run."""
    return bool(MlflowClient().get_run(run_id).info.lifecycle_stage == "deleted")


def where_to_look(run_id: str) -> str:
    """Say where a person finds the run: its address in the UI, or how to start one."""
    uri = mlflow.get_tracking_uri()
    experiment_id = MlflowClient().get_run(run_id).info.experiment_id
    path = f"#/experiments/{experiment_id}/runs/{run_id}"
    if uri.startswith(("http://", "https://")):
        return f"{uri.rstrip('/')}/{path}"
    return f"mlflow ui --backend-store-uri {uri}   (then http://127.0.0.1:5000/{path})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
