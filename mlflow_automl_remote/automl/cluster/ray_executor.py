"""Runs calls on the nodes of a Ray cluster, each in a place that is reserved for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from mlflow_automl_remote.automl import keeper
from mlflow_automl_remote.automl.cluster import connecting, located
from mlflow_automl_remote.automl.cluster.endings import (
    Began,
    ended,
    finished,
    is_loss,
    now_ms,
)
from mlflow_automl_remote.automl.cluster.node import NodeAnswer, NodeOrder, Read
from mlflow_automl_remote.automl.cluster.parcel import pack, unpack, version_of
from mlflow_automl_remote.automl.executor import (
    Call,
    Capacity,
    Executor,
    Finished,
    Ticket,
    end_all,
)
from mlflow_automl_remote.automl.local_executor import TERM_GRACE_S
from mlflow_automl_remote.automl.template import PRELOAD
from mlflow_automl_remote.errors import ClusterUnusable
from mlflow_automl_remote.states import IterationState

START_LIMIT_S: Final = 180.0
"""For the nodes that are there at the beginning to import what calls need."""
LOOK_S: Final = 0.1
"""Between two looks at places that the cluster has not given yet."""
SEE_S: Final = 1.0
"""Between two looks at which nodes there are."""
CLOSE_LIMIT_S: Final = 30.0
NODE_CLOSE_LIMIT_S: Final = 10.0
"""For nodes to remove their files; what dies without is removed by the next that begins there."""
USAGE_LIMIT_S: Final = 2.0
"""For nodes to say how busy they are."""
MOST_SENT: Final = 32
"""Folders that stay in the object store for calls to come; calls under way hold their own."""
_BYTES_PER_MB: Final = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Underway:
    """A call that has not been given back yet."""

    ticket: Ticket
    order: NodeOrder
    shape: Any
    begun_at_ms: int
    node: Any = None
    end: Future[NodeAnswer] | None = None
    is_cancelled: bool = False


class RayExecutor(Executor):
    """Runs each call on a node of a cluster as soon as the cores that it needs are free there.

    Calls beyond that wait here, in their order. A node that joins is used from then on. A call
    whose node is lost ends as such (`Finished.is_lost`): whoever submitted it decides.

    Args:
        address: Of the cluster; see `connecting.connect`.
        root: Folder that all folders of calls are below.
        modules: What calls find imported.
        grace_s: Between SIGTERM and SIGKILL for a call that is ended.

    Raises:
        ClusterUnusable: Ray is not installed, or no node can run calls.
    """

    def __init__(
        self,
        address: str,
        root: Path,
        *,
        modules: Sequence[str] = PRELOAD,
        grace_s: float = TERM_GRACE_S,
    ) -> None:
        self._ray, self._is_own_connection = connecting.connect(address)
        from mlflow_automl_remote.automl.cluster.nodes import Nodes
        from mlflow_automl_remote.automl.cluster.places import Places

        self._root = root
        self._changed = threading.Condition()
        self._numbers = count()
        self._calls: dict[int, _Underway] = {}
        self._waiting: deque[_Underway] = deque()
        self._places = Places()
        self._nodes = Nodes(modules, grace_s, partial(self._later, self._node_checked))
        self._sent: dict[str, Read] = {}
        self._sending = threading.Lock()
        self._is_closed = False
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="ray-cluster", daemon=True)
        self._watcher.start()
        try:
            self._wait_for_nodes(address)
        except BaseException:
            self.close()
            raise

    def capacity(self) -> Capacity:
        """Count the cores and the memory of all nodes that can run calls now."""
        with self._changed:
            nodes = list(self._nodes.ready().values())
        return Capacity(
            n_cores=sum(node.n_cores for node in nodes),
            n_cores_of_one=max((node.n_cores for node in nodes), default=0),
            memory_bytes=sum(node.memory_bytes for node in nodes) or None,
            is_reserved=True,
        )

    def usage(self) -> Mapping[str, Mapping[str, float]]:
        """Ask all nodes how busy they are; those that do not answer soon are left out."""
        from mlflow_automl_remote.automl.cluster.nodes import usage_of

        with self._changed:
            nodes = list(self._nodes.ready().values())
        try:
            return usage_of(nodes, USAGE_LIMIT_S)
        # Ray raises its own errors and those of gRPC and sockets; a sample is worth none of them.
        except Exception as error:  # noqa: BLE001 - they have no class in common
            _log.debug("The nodes do not say how busy they are: %s", error)
            return {}

    def submit(self, call: Call) -> Ticket:
        """Begin to run a call once there is a place; see the protocol.

        The time limit begins with its process. All folders have to be below the root.
        """
        from mlflow_automl_remote.automl.cluster.places import Shape

        call.output_dir.mkdir(parents=True, exist_ok=True)
        key = next(self._numbers)
        order = NodeOrder(
            key=key,
            payload=located.dumps((call.function, call.argument), self._root),
            output=self._place_of(call.output_dir),
            reads=tuple(self._send(path) for path in call.reads),
            timeout_s=call.timeout_s,
            n_threads=call.n_threads,
            memory_mb=call.memory_mb,
        )
        memory_bytes = (call.memory_mb or 0) * _BYTES_PER_MB
        underway = _Underway(
            ticket=Ticket(number=key, output_dir=call.output_dir),
            order=order,
            shape=Shape(n_cores=call.n_threads, memory_bytes=memory_bytes),
            begun_at_ms=now_ms(),
        )
        with self._changed:
            if self._is_closed:
                raise RuntimeError("The executor is closed; nothing more can be submitted to it.")
            self._calls[key] = underway
            self._waiting.append(underway)
            self._dispatch()
        return underway.ticket

    def wait_any(
        self, timeout_s: float | None = None, *, tickets: Collection[Ticket] | None = None
    ) -> list[Finished]:
        """Wait until at least one call has ended, and bring its files; see the protocol."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while True:
                numbers = list(self._calls) if tickets is None else [one.number for one in tickets]
                calls = [self._calls[each] for each in numbers if each in self._calls]
                ended = [(call, call.end) for call in calls if call.end is not None]
                left_s = None if deadline is None else deadline - time.monotonic()
                if ended or not calls or (left_s is not None and left_s <= 0):
                    break
                self._changed.wait(left_s)
            for call, _ in ended:
                del self._calls[call.ticket.number]
        return [self._collect(call, end) for call, end in ended]

    def cancel(self, ticket: Ticket) -> bool:
        """Have a call killed on its node; see the protocol."""
        from mlflow_automl_remote.automl.cluster.nodes import CONTROL

        with self._changed:
            call = self._calls.get(ticket.number)
            if call is None or call.end is not None or call.is_cancelled:
                return call is not None and call.is_cancelled
            call.is_cancelled = True
            if call.node is not None:
                stop = call.node.actor.cancel.options(concurrency_group=CONTROL)
                stop.remote(call.order.key)
                return True
            self._waiting.remove(call)
            call.end = Future()
            call.end.set_exception(CancelledError())
            self._changed.notify_all()
        return True

    def close(self) -> None:
        """Kill all that still runs, and leave the cluster; calling it again does nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        end_all(self, self._left, CLOSE_LIMIT_S)
        self._stop.set()
        self._watcher.join()
        with self._changed:
            self._nodes.close(NODE_CLOSE_LIMIT_S)
            self._places.close()
        if self._is_own_connection:
            self._ray.shutdown()

    def _left(self) -> list[Ticket]:
        with self._changed:
            return [call.ticket for call in self._calls.values()]

    def _place_of(self, folder: Path) -> str:
        if not folder.is_relative_to(self._root):
            raise ValueError(f"'{folder}' is not below '{self._root}', so it cannot travel.")
        return folder.relative_to(self._root).as_posix()

    def _send(self, folder: Path) -> Read:
        """Put a folder into the object store, unless it is there as it is now."""
        place = self._place_of(folder)
        with self._sending:
            version = version_of(folder)
            known = self._sent.pop(place, None)
            if known is None or known.version != version:
                parcel = pack(folder, self._ray.put)
                known = Read(place=place, version=version, parcel=parcel)
            self._sent[place] = known  # the last, even if it was there before
            if len(self._sent) > MOST_SENT:
                del self._sent[next(iter(self._sent))]
            return known

    def _dispatch(self) -> None:
        """Begin what there is a place for, and ask for places for the rest."""
        if not self._waiting or self._is_closed:
            return
        nodes = self._nodes.ready()
        for call in list(self._waiting):
            place = self._places.take(call.shape, nodes)
            if place is None:
                continue
            self._waiting.remove(call)
            call.node = nodes[place.node_id]
            end = call.node.actor.run.remote(call.order).future()
            end.add_done_callback(partial(self._later, self._ended, call, place))
        wanted = Counter(call.shape for call in self._waiting)
        self._places.want(wanted, nodes, self._nodes.unusable)

    def _later(self, function: Callable[..., None], *arguments: object) -> None:
        """Have the watcher do something: threads that Ray calls back in must not call Ray."""
        self._news.put(partial(function, *arguments))

    def _ended(self, call: _Underway, place: Any, end: Future[NodeAnswer]) -> None:
        call.end = end
        if is_loss(end.exception()):
            self._lose(call.node)
        else:
            self._places.free(place)

    def _lose(self, node: Any) -> None:
        self._nodes.lose(node)
        self._places.lose(node.node_id)

    def _node_checked(self, node: Any) -> None:
        from mlflow_automl_remote.automl.cluster.nodes import is_gone, why_unfit

        reason = why_unfit(node)
        if not reason:
            node.is_ready = True
        elif is_gone(node):
            self._lose(node)
        else:
            self._nodes.refuse(node, reason)
            self._places.lose(node.node_id)

    def _wait_for_nodes(self, address: str) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        with self._changed:
            self._see_nodes()
            while self._nodes.n_starting() and time.monotonic() < deadline:
                self._changed.wait(1.0)
            if not self._nodes.ready():
                reasons = set(self._nodes.unusable.values()) or {"none has a core to run them on"}
                raise ClusterUnusable(
                    f"No node of the Ray cluster at '{address}' can run iterations: "
                    f"{'; '.join(sorted(reasons))}."
                )

    def _watch(self) -> None:
        """Take in ends of calls, and nodes and places that come and go, until it is closed."""
        next_see = next_look = time.monotonic() + LOOK_S
        while not self._stop.is_set():
            news, now = self._next_news(), time.monotonic()
            try:
                with self._changed:
                    for take_in in news:
                        take_in()
                    if self._waiting and now >= next_look:
                        next_look = now + LOOK_S
                        self._places.look(self._nodes.ready())
                    if now >= next_see:
                        next_see = now + SEE_S
                        self._see_nodes()
                        self._places.give_back()
                    self._dispatch()
                    self._changed.notify_all()
            # Likewise: without this thread no call would ever end, and the head may be back soon.
            except Exception as error:  # noqa: BLE001 - they have no class in common
                _log.warning("The cluster does not say what there is: %s", error)

    def _next_news(self) -> list[Callable[[], None]]:
        """Wait a little for what has happened, and give all of it."""
        news = []
        with suppress(Empty):
            news.append(self._news.get(timeout=LOOK_S))
            while True:
                news.append(self._news.get_nowait())
        return news

    def _see_nodes(self) -> None:
        for node_id in self._nodes.see([each for each in self._ray.nodes() if each["Alive"]]):
            node = self._nodes.ready().get(node_id)
            if node is not None:
                self._lose(node)

    def _collect(self, call: _Underway, end: Future[NodeAnswer]) -> Finished:
        """Bring what a call left; where that is lost with its node, the call is."""
        node = "" if call.node is None else call.node.name
        began = Began(ticket=call.ticket, node=node, at_ms=call.begun_at_ms)
        error = end.exception()
        if error is None:
            output_dir, log = call.ticket.output_dir, (keeper.LOG_NAME,)
            try:
                unpack(end.result().output, output_dir, self._ray.get, append=log)
            except self._ray.exceptions.RayError as lost:
                error = lost
            else:
                return finished(began, end.result(), self._root)
        if call.is_cancelled:
            return ended(began, IterationState.CANCELLED, "Cancelled on request.")
        if not is_loss(error):
            return ended(began, IterationState.FAILED, " ".join(str(error).split()))
        reason = f"The node {node} that ran it was lost."
        return ended(began, IterationState.CRASHED, reason, is_lost=True)
