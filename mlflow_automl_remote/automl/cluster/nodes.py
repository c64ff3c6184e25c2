"""The nodes of a cluster that can run calls: found, checked, and given up when they are lost."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mlflow_automl_remote.automl.cluster.node import Node, installed_versions

MOST_DEATHS: Final = 3
"""A node whose actor has died so often, while the node lived, is of no use."""
CONTROL: Final = "control"
"""Calls of an actor that do not wait for others."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class KnownNode:
    """A node, and the actor that runs calls there.

    Attributes:
        node_id: Ray's.
        name: For a person.
        n_cores: That Ray counts there.
        memory_bytes: The same.
        actor: Runs calls.
        is_ready: Whether it has been found fit.
    """

    node_id: str
    name: str
    n_cores: int
    memory_bytes: int
    actor: Any
    is_ready: bool = False
    checked: Future[str] = field(default_factory=Future)


class Nodes:
    """All nodes of a cluster; whoever uses it holds a lock.

    Args:
        modules: What calls find imported.
        grace_s: Between SIGTERM and SIGKILL for a call that is ended.
        on_checked: Called, from another thread, when a node has been found fit or not.
    """

    def __init__(
        self, modules: Sequence[str], grace_s: float, on_checked: Callable[[KnownNode], None]
    ) -> None:
        self._modules = modules
        self._grace_s = grace_s
        self._on_checked = on_checked
        # Not as a decorator: the class is used without Ray too, and its options are not typed.
        as_actor: Any = ray.remote
        self._actor_class = as_actor(num_cpus=0, max_restarts=0, concurrency_groups={CONTROL: 2})(
            Node
        )
        self._known: dict[str, KnownNode] = {}
        self._deaths: Counter[str] = Counter()
        self.unusable: dict[str, str] = {}

    def ready(self) -> Mapping[str, KnownNode]:
        """Give the nodes that calls can be sent to, by their id."""
        return {node_id: node for node_id, node in self._known.items() if node.is_ready}

    def n_starting(self) -> int:
        """Give how many are not known to be fit yet."""
        return sum(not node.is_ready for node in self._known.values())

    def see(self, alive: Collection[Mapping[str, Any]]) -> list[str]:
        """Start on nodes that are new, and give the ids of those that are gone.

        Args:
            alive: What Ray says of the nodes that live.
        """
        found = {each["NodeID"]: each for each in alive if each["Resources"].get("CPU", 0) >= 1}
        for node_id in found.keys() - self._known.keys() - self.unusable.keys():
            self._start(node_id, found[node_id])
        return [node_id for node_id in self._known if node_id not in found]

    def lose(self, node: KnownNode) -> None:
        """Give up a node whose actor does not answer; nothing of it may go on there."""
        if self._known.get(node.node_id) is not node:
            return
        del self._known[node.node_id]
        self._deaths[node.node_id] += 1
        if self._deaths[node.node_id] >= MOST_DEATHS:
            self.refuse(node, f"what runs calls there has died {MOST_DEATHS} times")
        _log.warning("The node %s does not answer any more.", node.name)
        _kill(node)

    def refuse(self, node: KnownNode, reason: str) -> None:
        """Leave a node alone from now on."""
        _log.warning("The node %s of the cluster cannot be used: %s", node.name, reason)
        self.unusable[node.node_id] = reason
        if self._known.get(node.node_id) is node:
            del self._known[node.node_id]
        _kill(node)

    def close(self, limit_s: float) -> None:
        """End all actors; they remove their files."""
        closing = [node.actor.close.remote() for node in self.ready().values()]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=limit_s)
        for node in self._known.values():
            _kill(node)
        self._known.clear()

    def _start(self, node_id: str, about: Mapping[str, Any]) -> None:
        n_cores = int(about["Resources"]["CPU"])
        options = self._actor_class.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            # A thread for each core, and as many for calls that have just ended or just come.
            max_concurrency=2 * n_cores,
        )
        actor = options.remote(self._modules, self._grace_s, ray.put, ray.get)
        host, address = about["NodeManagerHostname"], about["NodeManagerAddress"]
        node = KnownNode(
            node_id=node_id,
            name=host if host == address else f"{host} ({address})",
            n_cores=n_cores,
            memory_bytes=int(about["Resources"].get("memory", 0)),
            actor=actor,
        )
        self._known[node_id] = node
        node.checked = actor.check.remote(installed_versions()).future()
        node.checked.add_done_callback(partial(self._checked, node))

    def _checked(self, node: KnownNode, done: Future[str]) -> None:
        del done
        self._on_checked(node)


def why_unfit(node: KnownNode) -> str:
    """Say why a node that has been checked cannot be used; empty if it can."""
    error = node.checked.exception()
    return node.checked.result() if error is None else " ".join(str(error).split())


def usage_of(nodes: Sequence[KnownNode], limit_s: float) -> dict[str, Mapping[str, float]]:
    """Ask nodes how busy they are; those that have not answered in time are left out."""
    asked = {
        node.name: node.actor.usage.options(concurrency_group=CONTROL).remote() for node in nodes
    }
    if not asked:
        return {}
    answered, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=limit_s)
    found: dict[str, Mapping[str, float]] = {}
    for name, answer in asked.items():
        if answer in answered:
            with suppress(RayError):  # it has just been lost
                found[name] = ray.get(answer)
    return found


def is_gone(node: KnownNode) -> bool:
    """Whether the check of a node has failed because the node, or its actor, has ended."""
    return isinstance(node.checked.exception(), RayError)


def _kill(node: KnownNode) -> None:
    try:
        ray.kill(node.actor)
    except (RayError, ValueError) as error:  # it is dead, or was never there
        _log.debug("What runs calls on %s has ended already: %s", node.name, error)
