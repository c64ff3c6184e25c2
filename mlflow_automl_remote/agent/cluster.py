"""Where the iterations of a sweep run: on this machine, or on the Ray cluster that it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mlflow_automl_remote.agent.ray_node import Head, Membership, variables
from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.template import PRELOAD


class Cluster:
    """The Ray cluster of a sweep, if it has one.

    Args:
        workspace: The sweep's folder.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._cluster = Membership.read(workspace)
        self._head: Head | None = None

    @contextmanager
    def hosting(self) -> Iterator[None]:
        """Have the head of the cluster run here, where it is the sweep's own; begins it only."""
        if self._cluster is None or not self._cluster.own:
            yield
            return
        os.environ.update(variables(self._workspace))  # Ray reads them when it is imported
        with closing(Head(self._workspace, self._cluster)) as self._head:
            yield

    @contextmanager
    def searching(self, executor: Executor) -> Iterator[Executor]:
        """Lend the cluster of the sweep, if it has one.

        Args:
            executor: Of this machine.

        Raises:
            ClusterUnusable: There is no cluster where there should be one.
        """
        if self._cluster is None:
            yield executor
            return
        if self._head is not None:
            self._head.wait_until_up()
        from mlflow_automl_remote.automl.cluster.ray_executor import RayExecutor

        modules = (*PRELOAD, "mlflow_automl_remote.agent.preload")
        with RayExecutor(self._cluster.address, self._workspace, modules=modules) as cluster:
            yield cluster
