"""The plain Python API: submit a sweep, and find it again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from mlflow_automl_remote import compute, sweep_run, terminal
from mlflow_automl_remote.compute import TargetSpec
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.following import Listener
from mlflow_automl_remote.submitted import SweepRun

Target: TypeAlias = TargetSpec | str | Mapping[str, object] | None
"""Where a sweep runs: the name of an attached target, a backend config, or None for here."""


def submit(
    config: AutoMLConfig | Mapping[str, object],
    target: Target = None,
    *,
    project: str | Path = ".",
    experiment_name: str | None = None,
    run_name: str | None = None,
    show: bool = True,
) -> SweepRun:
    """Start a sweep; return as soon as its agent runs.

    Args:
        config: The settings.
        target: Where: the name of an attached target, a backend config such as
            `{"host": "vm.example.org"}`, or None for this machine.
        project: The folder with the data script or the data; it is sent to the target.
        experiment_name: The MLflow experiment; None for the current one.
        run_name: Name of the parent run; None for one that MLflow makes up.
        show: Print the steps of the set-up.

    Raises:
        ConfigurationError: A setting, the target or the project is wrong.
        TransportError: The target cannot be used.
        EnvironmentSetupFailed: Its Python environment cannot be made.

    Examples:
        >>> run = submit(
        ...     {"task": "classification", "iterations": 2, "n_cross_validations": 2},
        ...     project="examples/digits",
        ...     show=False,
        ... )
        >>> run.wait(show=False)
        'COMPLETED'
    """
    settings = config if isinstance(config, AutoMLConfig) else AutoMLConfig.parse(config)

    begun_at_ms = time.time_ns() // 1_000_000

    def open_run() -> str:
        from mlflow_automl_remote.publishing import parent_run

        return parent_run.open_parent(
            experiment_name=experiment_name, run_name=run_name, begun_at_ms=begun_at_ms
        )

    with terminal.view() as view:
        handle = sweep_run.submit(
            settings,
            as_target(target),
            Path(project).resolve(),
            open_run=open_run,
            listener=terminal.listener(view) if show else Listener(),
            is_own_process=False,
        )
    return SweepRun(handle)


def attach(run_id: str) -> SweepRun:
    """Find a sweep by its parent run, in any process that reaches the tracking store.

    One that has ended and is published needs its target no more.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep.

    Examples:
        >>> attach(run.run_id).status
        'COMPLETED'
    """
    from mlflow_automl_remote.publishing import parent_run, results

    handle = sweep_run.attach(run_id)
    if parent_run.find_parent(run_id).status == "RUNNING":
        return SweepRun(handle)
    return SweepRun(handle, results.state_of(run_id))


def as_target(target: Target) -> TargetSpec:
    """Read where a sweep is to run.

    Raises:
        ConfigurationError: There is no such target, or a key of it is wrong.
    """
    if isinstance(target, TargetSpec):
        return target
    if isinstance(target, str):
        return compute.parse_target({"target": target})
    return compute.parse_target(target or {})
