"""Lets a target publish its own sweep (`publish_from`): what it is told, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mlflow_automl_remote.errors import AutoMLRemoteError, CommandFailed, ConfigurationError

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Connection, Job, TargetSpec
    from mlflow_automl_remote.publishing import ParentFacts

MODULE: Final = "mlflow_automl_remote.target_publisher"
TRACKING_VARIABLES: Final = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_WORKSPACE",
)
"""What the tracking server may want; more has to be named in `forward_variables`."""


def let_publish(
    connection: Connection, job: Job, run_id: str, facts: ParentFacts, *, is_new: bool = False
) -> None:
    """Start what publishes a sweep on its target, if `publish_from` says so.

    Args:
        connection: To the target.
        job: The sweep there.
        run_id: Its parent run, which has been read there when this returns.
        facts: Where the sweep is.
        is_new: Whether the run has failed if this fails.

    Raises:
        ConfigurationError: The tracking store is not a server, or its address has a password.
        CommandFailed: The server cannot be reached from the target.
    """
    from mlflow_automl_remote.publishing import parent_run

    target = connection.spec
    if target.publish_from != "target":
        return
    try:
        told = {"run_id": run_id, "facts": asdict(facts), "variables": _variables(target)}
        job.start_publisher(connection.prepare(), MODULE, json.dumps(told).encode())
    except AutoMLRemoteError as error:
        if is_new:
            parent_run.give_up(run_id)
        if not isinstance(error, CommandFailed):
            raise
        raise CommandFailed(
            f"{target.label} cannot publish ('publish_from'). {error}",
            argv=error.argv,
            exit_status=error.exit_status,
        ) from error


def _variables(target: TargetSpec) -> Mapping[str, str]:
    import mlflow

    uri = mlflow.get_tracking_uri()
    address = urlsplit(uri)
    if address.scheme not in ("http", "https"):
        raise ConfigurationError(
            "With 'publish_from': 'target' MLFLOW_TRACKING_URI must be the address of a server "
            f"that the target reaches. Got '{address.scheme or uri}:...' instead."
        )
    if address.username or address.password:
        raise ConfigurationError(
            "MLFLOW_TRACKING_URI has a user or password in it, which would be in logs. "
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead."
        )
    missing = [name for name in target.forward_variables if name not in os.environ]
    if missing:
        raise ConfigurationError(
            f"'forward_variables' names {', '.join(missing)}, which is not set here."
        )
    names = (*TRACKING_VARIABLES, *target.forward_variables)
    given = {name: os.environ[name] for name in names if name in os.environ}
    return {"MLFLOW_TRACKING_URI": uri, **given}
