"""Where the iterations of a sweep run: on this machine, or on the cluster that it was sent to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.template import PRELOAD

CLUSTER_NAME: Final = "ray.json"
"""File of a workspace with the address of a Ray cluster."""


@contextmanager
def searching(workspace: Path, executor: Executor) -> Iterator[Executor]:
    """Lend what iterations run on: the cluster of the sweep, if it has one.

    Args:
        workspace: The sweep's folder.
        executor: Of this machine.

    Raises:
        ClusterUnusable: There is no cluster where there should be one.
    """
    file = workspace / CLUSTER_NAME
    if not file.exists():
        yield executor
        return
    from mlflow_automl_remote.automl.cluster.ray_executor import RayExecutor

    address = str(json.loads(file.read_bytes())["address"])
    modules = (*PRELOAD, "mlflow_automl_remote.agent.preload")
    with RayExecutor(address, workspace, modules=modules) as cluster:
        yield cluster
