"""Keeps this machine a node of the Ray cluster of a sweep, and leaves nothing of it behind.

`python -m mlflow_automl_remote.agent.ray_node WORKSPACE`. On the first host of a target the agent
starts it, and it ends with the agent. On the others it is started in the agent's place: it waits
for the head, joins it, joins again when the machine or its network was away, and ends with the
sweep.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mlflow_automl_remote.agent.lifecycle import AlreadyRunning, alive
from mlflow_automl_remote.agent.logs import LOG_FORMAT
from mlflow_automl_remote.automl import process_tree
from mlflow_automl_remote.automl.cluster.node import ENDED_VARIABLE
from mlflow_automl_remote.errors import ClusterUnusable

CLUSTER_NAME: Final = "ray.json"
"""File of a workspace with the Ray cluster of a sweep."""
TOKEN_NAME: Final = "ray-token"  # noqa: S105 - it is the name of a file, not a secret
"""File of a workspace with the word that all members of the cluster know."""
ENDED_NAME: Final = "ended"
"""File of a workspace that is there once the sweep needs its nodes no more."""
LOG_NAME: Final = "ray.log"
"""File of a workspace with what Ray prints."""
START_LIMIT_S: Final = 120.0
"""For Ray to come up; first imports from a cold disk are why it takes long."""
PATIENCE_S: Final = 900.0
"""For the machine of the head to come back; a reboot is why it is away."""
SHORT_PATIENCE_S: Final = 120.0
"""For the head to come on a machine that is there: the sweep has ended, or only begins."""
POLL_S: Final = 0.2
LOOK_S: Final = 2.0
"""Between two looks at whether Ray still listens."""
AGAIN_S: Final = 3.0
"""Between two tries to join."""
CONNECT_S: Final = 2.0
FIRST_PORT: Final = 10002
LAST_PORT: Final = 19999
"""Of those that Ray's workers and daemons are given."""
_N_STARTS: Final = 500
"""Where daemons' ports may begin; nodes of two sweeps that start at once would want the same."""
_DAEMON_PORTS: Final = (
    "--node-manager-port",
    "--object-manager-port",
    "--runtime-env-agent-port",
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
)
_START: Final = "from ray.scripts.scripts import main; main()"
_LAST_BYTES: Final = 2000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a workspace says of its cluster.

    Attributes:
        address: Of the head: `host:port`.
        own: Address of this machine that other members reach it by; empty if Ray is started by
            somebody else.
        n_cores: That calls may use here.
    """

    address: str
    own: str = ""
    n_cores: int = 1

    @classmethod
    def read(cls, workspace: Path) -> Self | None:
        """Read it; None where the sweep has no cluster."""
        file = workspace / CLUSTER_NAME
        return cls(**json.loads(file.read_bytes())) if file.exists() else None


def variables(workspace: Path) -> Mapping[str, str]:
    """Give what a process needs in its environment to be let into the cluster."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(workspace / TOKEN_NAME),
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


class Head:
    """The head of a cluster on this machine, from when it is begun until it is closed.

    Args:
        workspace: The sweep's folder.
        membership: What it says.
    """

    def __init__(self, workspace: Path, membership: Membership) -> None:
        self._address = membership.address
        self._log = workspace / LOG_NAME
        argv = [sys.executable, "-m", __name__, str(workspace), "--head"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=output
            )

    def wait_until_up(self) -> None:
        """Wait until others can join it.

        Raises:
            ClusterUnusable: It does not start.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while not _listens(self._address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ClusterUnusable(
                    f"The head of the Ray cluster did not start at {self._address}. Ray's last "
                    f"words, in {self._log}: {self._last_line()}"
                )
            time.sleep(POLL_S)

    def _last_line(self) -> str:
        tail = self._log.read_bytes()[-_LAST_BYTES:].decode("utf-8", "replace")
        return tail.strip().rpartition("\n")[2]

    def close(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._process.communicate()  # it ends with its input


class _Ray:
    """The processes of Ray on this machine; one at a time.

    Args:
        workspace: The sweep's folder.
        membership: What it says.
        is_head: Whether the cluster begins here.
    """

    def __init__(self, workspace: Path, membership: Membership, *, is_head: bool) -> None:
        self._folder = ray_folder(workspace)
        self._workspace = workspace
        self._membership = membership
        self._is_head = is_head

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Lend the process that holds all others, and the address that one of them listens at."""
        self._make_folder()
        first = FIRST_PORT + len(_DAEMON_PORTS) * (_number_of(self._workspace) % _N_STARTS)
        ports = _free_ports(len(_DAEMON_PORTS), self._membership.own, first)
        parent = os.getpid()
        process = subprocess.Popen(
            self._argv(ports),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: process_tree.die_with_parent(parent),
        )
        try:
            yield process, f"{self._membership.own}:{ports[0]}"
        finally:
            # At once: asked to end, it would drain the node for half a minute, and all is done.
            process_tree.kill_descendants(0, reaped=lambda pid, status: None)
            process.poll()  # reaped above: it must not be waited for again
            shutil.rmtree(self._folder, ignore_errors=True)

    def _argv(self, ports: list[int]) -> list[str]:
        own = self._membership
        port = own.address.rpartition(":")[2]
        role = (
            ["--head", f"--port={port}", "--include-dashboard=false"]
            if self._is_head
            else [f"--address={own.address}"]
        )
        return [
            sys.executable, "-c", _START, "start", *role, "--block", "--log-color=false",
            "--include-log-monitor=false", f"--node-ip-address={own.own}",
            f"--num-cpus={own.n_cores}", f"--temp-dir={self._folder}",
            f"--min-worker-port={max(ports) + 1}", f"--max-worker-port={LAST_PORT}",
            *(f"{name}={port}" for name, port in zip(_DAEMON_PORTS, ports, strict=True)),
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **variables(self._workspace),
            ENDED_VARIABLE: str(self._workspace / ENDED_NAME),
            "RAY_enable_worker_prestart": "0",
            "RAY_enable_metrics_collection": "0",
            # A node that says nothing is lost after half a minute, not after a whole one.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "5000",
            "RAY_health_check_failure_threshold": "6",
        }

    def _make_folder(self) -> None:
        """Make the folder of Ray's sockets and logs anew.

        Raises:
            ClusterUnusable: Somebody else has it.
        """
        with contextlib.suppress(FileNotFoundError):
            found = self._folder.lstat()
            if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
                raise ClusterUnusable(f"'{self._folder}' belongs to somebody else. Remove it.")
            shutil.rmtree(self._folder)
        self._folder.mkdir(mode=0o700)


def ray_folder(workspace: Path) -> Path:
    """Give where Ray has its sockets: their paths may have 107 bytes, so it is not below ours."""
    name = f"automl-remote-ray-{_number_of(workspace):08x}"
    return Path("/tmp", name)  # noqa: S108 - made with 0700, and refused if it is another's


def keep_head(workspace: Path, membership: Membership) -> None:
    """Run the head until whoever started this process closes its input, or is gone."""
    gone = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(gone,), daemon=True).start()
    with _Ray(workspace, membership, is_head=True).running() as (process, _):
        while not gone.wait(POLL_S) and process.poll() is None:
            pass


def _await_end_of_input(gone: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    gone.set()


def keep_member(workspace: Path, membership: Membership) -> None:
    """Be a member of the cluster until the sweep has ended, or the head is away for too long."""
    ended = workspace / ENDED_NAME
    ended.unlink(missing_ok=True)
    ray = _Ray(workspace, membership, is_head=False)
    since = time.monotonic()
    while not ended.exists():
        is_there = _listens(membership.address)
        if is_there:
            _log.info("Joining the head at %s.", membership.address)
            with ray.running() as (process, listener):
                _stay(process, listener, membership.address, ended)
            _log.info("The cluster was left.")
            since = time.monotonic()
        patience_s = PATIENCE_S if is_there is None else SHORT_PATIENCE_S
        if time.monotonic() - since > patience_s:
            _log.warning("The head is gone.")
            return
        deadline = time.monotonic() + AGAIN_S
        while not ended.exists() and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _stay(process: subprocess.Popen[bytes], listener: str, head: str, ended: Path) -> None:
    """Wait until Ray has ended here, or is not needed any more.

    Ray itself looks for a head that is gone for a minute; one that refuses a call has ended.
    """
    limit = time.monotonic() + START_LIMIT_S
    next_look = 0.0
    is_up = False
    while not ended.exists() and process.poll() is None:
        time.sleep(POLL_S)
        if time.monotonic() < next_look:
            continue
        next_look = time.monotonic() + LOOK_S
        was_up, is_up = is_up, bool(_listens(listener))
        if (was_up and not is_up) or (not is_up and time.monotonic() > limit):
            return
        if _listens(head) is False:
            return


def _listens(address: str) -> bool | None:
    """Whether somebody listens at an address; None where the machine itself does not answer."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return None
    return True


def _number_of(workspace: Path) -> int:
    return int(hashlib.sha256(str(workspace).encode()).hexdigest()[:8], 16)


def _free_ports(n: int, address: str, first: int) -> list[int]:
    """Find ports of an address that nobody listens at, lowest first."""
    found: list[int] = []
    for port in range(first, LAST_PORT + 1):
        with contextlib.closing(socket.socket()) as sock, contextlib.suppress(OSError):
            sock.bind((address, port))
            found.append(port)
        if len(found) == n:
            break
    return found


def _end(number: int, frame: object) -> None:
    del number, frame
    sys.exit(0)


def main(workspace: Path, *, is_head: bool) -> int:
    """Keep the node; return the exit status of the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    signal.signal(signal.SIGTERM, _end)
    process_tree.become_subreaper()
    membership = Membership.read(workspace)
    if membership is None:
        _log.error("%s says of no cluster: it has no %s.", workspace, CLUSTER_NAME)
        return 2
    if is_head:
        keep_head(workspace, membership)
        return 0
    try:
        with alive(workspace):
            keep_member(workspace, membership)
    except AlreadyRunning as error:
        _log.error("%s", error)
        return 3
    shutil.rmtree(workspace, ignore_errors=True)  # nothing of the sweep is here
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), is_head="--head" in sys.argv[2:]))
