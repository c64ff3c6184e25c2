"""A Ray cluster of a few nodes on this machine, each with a loopback address of its own.

Nothing of it listens elsewhere, it has no dashboard, and it sends no statistics.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

STORE_BYTES: Final = 80 << 20
_PORTS: Final = (
    "metrics_agent_port",
    "metrics_export_port",
    "runtime_env_agent_port",
    "dashboard_agent_listen_port",
)
"""Given, a node does not wait 15 s for each of them to be found, which is too short when busy."""
_VARIABLES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_worker_prestart": "0",
    # A node that is gone is noticed in seconds.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "10",
}


class RayCluster:
    """The cluster; `nodes` are those of `ray.cluster_utils`, the head first."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        """Of the head, as `host:port`."""
        return str(self._cluster.address)

    def add(self, n_cores: int) -> Any:
        """Let a node join; on a machine that is busy it may take two attempts."""
        for attempt in range(3):
            try:
                node = self._add(n_cores)
            except Exception as error:  # Ray raises no other, after 30 s
                if "timed out during startup" not in str(error) or attempt == 2:
                    raise
            else:
                self.nodes.append(node)
                return node
        raise AssertionError

    def _add(self, n_cores: int) -> Any:
        as_head = {"include_dashboard": False, "no_monitor": True} if not self.nodes else {}
        return self._cluster.add_node(
            wait=False,
            num_cpus=n_cores,
            node_ip_address=f"127.0.0.{2 + len(self.nodes)}",
            object_store_memory=STORE_BYTES,
            include_log_monitor=False,
            **dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True)),
            **as_head,
        )

    def kill(self, node: Any) -> None:
        """Kill a node, as if its plug were pulled."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()


@contextmanager
def running_cluster(*n_cores: int) -> Iterator[RayCluster]:
    """Run a cluster of nodes with so many cores each, the first of them the head."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(_VARIABLES)
    cluster = RayCluster()
    try:
        for each in n_cores:
            cluster.add(each)
        yield cluster
    finally:
        cluster.close()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _free_ports(n_ports: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n_ports)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
