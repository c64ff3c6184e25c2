"""What runs on each node of a cluster: takes calls, and has the local executor run them there.

One actor a node. Files of a call are below a root of the node's own, under the names that they
have below that of the head.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlflow_automl_remote.automl.cluster import located
from mlflow_automl_remote.automl.cluster.parcel import Get, Parcel, Put, pack, unpack
from mlflow_automl_remote.automl.executor import Call, Finished, Ticket
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.template import Template
from mlflow_automl_remote.automl.usage import UNREADABLE, Usage
from mlflow_automl_remote.states import IterationState

SAME_EVERYWHERE: Final = ("numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "catboost")
"""Whose versions a node must share with the head: it reads the models of others."""
MOST_PLACED: Final = 32
"""Folders that stay on a node for calls to come, beside those that calls read now."""
ENDED_VARIABLE: Final = "AUTOML_REMOTE_NODE_ENDED"
"""Names a file that tells who keeps this node that it is needed no more, where somebody does."""
_PREFIX: Final = "automl-remote-node-"
_LOCK: Final = "lock"
_IMPORT_LIMIT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A folder that a call reads.

    Attributes:
        place: Below the root.
        version: Of what is in it.
        parcel: What is in it.
    """

    place: str
    version: str
    parcel: Parcel


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrder:
    """A call, as it comes to a node.

    Attributes:
        key: Names it.
        payload: Function and argument, pickled.
        output: The folder that it writes, below the root.
        reads: The folders that it reads.
        timeout_s: The hard limit, or None.
        n_threads: Threads that native libraries may use.
        memory_mb: Megabytes that it may use, or None.
    """

    key: int
    payload: bytes
    output: str
    reads: tuple[Read, ...]
    timeout_s: float | None
    n_threads: int
    memory_mb: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAnswer:
    """How a call ended.

    Attributes:
        done: As the node's own executor tells it; the value is the result, pickled.
        output: What it wrote.
    """

    done: Finished
    output: Parcel


class Node:
    """The actor.

    Args:
        modules: What calls find imported.
        grace_s: Between SIGTERM and SIGKILL for a call that is ended.
        put: Puts bytes into the object store.
        get: Gets them out.
    """

    def __init__(self, modules: Sequence[str], grace_s: float, put: Put, get: Get) -> None:
        self._modules = tuple(modules)
        self._put, self._get = put, get
        self._root, self._lock_fd = _make_root()
        self._executor = LocalExecutor(Template.spawn(modules), grace_s=grace_s)
        self._usage: Usage | None = None
        with suppress(*UNREADABLE):
            self._usage = Usage(self._root)
        self._lock = threading.Lock()
        self._placing = threading.Lock()
        self._placed: dict[str, str] = {}  # versions by place, what was used last at the end
        self._read_by: Counter[str] = Counter()
        self._running: dict[int, Ticket] = {}
        self._unwanted: set[int] = set()

    def check(self, versions: Mapping[str, str]) -> str:
        """Say why this node cannot run calls; empty if it can.

        Args:
            versions: Of the head, as `versions` gives them.
        """
        own = installed_versions()
        for name, version in versions.items():
            if own.get(name) != version:
                found = f"{name} {own[name]}" if name in own else f"no {name}"
                return f"it has {found}, and the head of the sweep {version}"
        done = self._executor.run(Call(math.sqrt, 4.0, output_dir=self._root / "check"))
        if done.state is IterationState.COMPLETED:
            return ""
        return self._why_not() or done.reason

    def run(self, order: NodeOrder) -> NodeAnswer:
        """Run a call to its end."""
        output, places = self._root / order.output, [read.place for read in order.reads]
        self._prepare(order, output)
        try:
            done = self._run(order, output)
            within = len(order.output) + 1
            inside = [place[within:] for place in places if _is_below(place, order.output)]
            return NodeAnswer(done=done, output=pack(output, self._put, leave_out=inside))
        finally:
            with self._placing:
                self._read_by.subtract(places)
                self._remove(order.output)

    def usage(self) -> dict[str, float]:
        """Say how busy this machine is since the last time; empty where it does not tell."""
        try:
            return self._usage.read() if self._usage is not None else {}
        except UNREADABLE:
            return {}

    def cancel(self, key: int) -> None:
        """Kill a call with all that it started, or see to it that it never gets far."""
        with self._lock:
            self._unwanted.add(key)
            ticket = self._running.get(key)
        if ticket is not None:
            self._executor.cancel(ticket)

    def close(self) -> None:
        """Kill what still runs, remove all files, and say so to who keeps this node."""
        self._executor.close()
        shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock_fd)
        if ENDED_VARIABLE in os.environ:
            Path(os.environ[ENDED_VARIABLE]).touch()

    def _run(self, order: NodeOrder, output: Path) -> Finished:
        call = Call(
            _run_located,
            (self._root, order.payload),
            output_dir=output,
            timeout_s=order.timeout_s,
            n_threads=order.n_threads,
            memory_mb=order.memory_mb,
        )
        with self._lock:
            ticket = self._executor.submit(call)
            self._running[order.key] = ticket
            if order.key in self._unwanted:
                self._executor.cancel(ticket)
        done = self._executor.wait_any(tickets=(ticket,))[0]
        with self._lock:
            del self._running[order.key]
            self._unwanted.discard(order.key)
        return done

    def _prepare(self, order: NodeOrder, output: Path) -> None:
        """Make the folders of a call, and bring what it reads that is not here as it is now."""
        with self._placing:
            self._remove(order.output)
            for read in order.reads:
                if self._placed.pop(read.place, None) != read.version:
                    self._remove(read.place)
                    unpack(read.parcel, self._root / read.place, self._get)
                self._placed[read.place] = read.version
            self._read_by.update(read.place for read in order.reads)
            unused = [place for place in self._placed if not self._read_by[place]]
            for place in unused[: max(0, len(self._placed) - MOST_PLACED)]:
                self._remove(place)
        output.mkdir(parents=True, exist_ok=True)

    def _remove(self, place: str) -> None:
        shutil.rmtree(self._root / place, ignore_errors=True)
        for each in list(self._placed):
            if each == place or _is_below(each, place):
                self._placed.pop(each, None)

    def _why_not(self) -> str:
        """Say what cannot be imported here; empty if nothing is found."""
        program = "\n".join(f"import {name}" for name in self._modules)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_IMPORT_LIMIT_S,
        )
        return done.stderr.strip().rpartition("\n")[2]


def installed_versions(names: Collection[str] = SAME_EVERYWHERE) -> dict[str, str]:
    """Give the versions of packages that are installed here."""
    found = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _run_located(order: tuple[Path, bytes]) -> bytes:
    """Run a call in its own process; the result is not loaded before it is back at the head."""
    root, payload = order
    function, argument = located.loads(payload, root)
    return located.dumps(function(argument), root)


def _is_below(place: str, folder: str) -> bool:
    return place.startswith(f"{folder}/")


def _make_root() -> tuple[Path, int]:
    """Make the folder of this node, and remove those of nodes that died without doing so."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            fd = _locked(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(fd)
    while True:
        root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with suppress(OSError):  # another node took it for one that was left, just now
            return root, _locked(root)


def _locked(folder: Path) -> int:
    """Take the lock of a folder.

    Raises:
        OSError: Whoever has it lives; or it is somebody else's.
    """
    fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd
