"""A sweep's agent on a target, and the handle of it. The journal is bytes here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.artifacts import fetch_files
from mlflow_automl_remote.compute.launching import COOKIE, AgentCommand, AgentIdentity, launch
from mlflow_automl_remote.compute.lease import Lease
from mlflow_automl_remote.errors import (
    AutoMLRemoteError,
    ConnectionLost,
    SweepNotFound,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import PurePosixPath

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.helper.wire import Header
    from mlflow_automl_remote.compute.workspace import Workspace
    from mlflow_automl_remote.journal.events import ArtifactFile

TERM_GRACE_S: Final = 10.0
"""Between asking an agent to end and killing everything that it started."""
READ_LIMIT_BYTES: Final = 4 * 1024 * 1024
TAIL_BYTES: Final = 64 * 1024


class Liveness(StrEnum):
    """Whether an agent lives. Not being able to ask is an error, not one of these."""

    ALIVE = "alive"
    """It holds its lock, and is the process that it said it is."""
    DEAD = "dead"
    """No such process, since this boot; or it was never started."""
    UNKNOWN = "unknown"
    """It is being started, or the signs contradict one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalChunk:
    """Bytes of the journal.

    Attributes:
        data: From the offset that was asked for; empty when there is nothing new.
        liveness: Of the agent, as it was before `data` was read: after DEAD without data comes
            nothing more.
        next_offset: Where to read on.
        is_full: Whether there may be more that did not fit into one answer.
    """

    data: bytes
    liveness: Liveness
    next_offset: int
    is_full: bool = False


class Job:
    """The handle of a sweep's agent, which outlives the handle and the connection.

    Args:
        channel: Gives the helper on the target, for one request after the other.
        workspace: The sweep's folder there.
        label: The machine, as a person would name it.
    """

    def __init__(
        self,
        channel: Callable[[], AbstractContextManager[Control]],
        workspace: Workspace,
        label: str,
    ) -> None:
        self._channel = channel
        self._label = label
        self.workspace = workspace

    def __repr__(self) -> str:
        return f"Job({self.workspace.sweep_id!r} on {self._label})"

    def start(self, command: AgentCommand, module: str) -> AgentIdentity:
        """Start the agent and wait until it has taken its lock; one that lives already is kept.

        Args:
            command: The environment to start it in.
            module: What is run, with the workspace as its argument.

        Raises:
            CommandFailed: It ended before; the message has the end of its log.
        """
        with self._channel() as control:
            return launch(control, self.workspace, command, module, self.workspace.agent)

    def start_publisher(self, command: AgentCommand, module: str, secrets: bytes) -> None:
        """Start what publishes this sweep from there; return once it has reached the store.

        Args:
            command: The environment to start it in.
            module: What is run, with the workspace as its argument.
            secrets: For its standard input.

        Raises:
            CommandFailed: It ended before; the message has the end of its log.
        """
        place = self.workspace.target_publisher
        with self._channel() as control:
            launch(control, self.workspace, command, module, place, stdin=secrets)

    def read_journal(
        self, offset: int = 0, wait_s: float = 0.0, limit_bytes: int = READ_LIMIT_BYTES
    ) -> JournalChunk:
        """Read the journal from an offset.

        Args:
            offset: In bytes.
            wait_s: How long the target may wait for news before it answers that there are none.
            limit_bytes: The most that is returned.

        Raises:
            SweepNotFound: The workspace is gone.
            ConnectionLost: The target cannot be asked; that says nothing of the agent.
        """
        reply, data = self._read([self.workspace.journal], offset, wait_s, limit_bytes)
        liveness = Liveness(reply["liveness"])
        return JournalChunk(
            data=data,
            liveness=liveness,
            next_offset=offset + len(data),
            is_full=len(data) >= limit_bytes,
        )

    def log(self, offset: int = 0, iteration: int | None = None) -> bytes:
        """Read the log of the agent, or of one iteration, from an offset; without one, nothing.

        Raises:
            SweepNotFound: The workspace is gone.
        """
        if iteration is None:
            paths: Sequence[PurePosixPath] = [self.workspace.agent_log]
        else:
            paths = self.workspace.iteration_logs(iteration)
        return self._read(paths, offset, 0.0, READ_LIMIT_BYTES)[1]

    def wanted(self) -> bytes:
        """Read what the project wants of its environment; nothing where that is not written down.

        Raises:
            SweepNotFound: The workspace is gone.
        """
        return self.read_file(self.workspace.wanted)

    def read_file(self, path: PurePosixPath) -> bytes:
        """Read a small file of the workspace; nothing where it is not there.

        Raises:
            SweepNotFound: The workspace is gone.
        """
        return self._read([path], 0, 0.0, READ_LIMIT_BYTES)[1]

    def log_tail(self) -> bytes:
        """Read the end of the agent's log."""
        path = [self.workspace.agent_log]
        size = int(self._read(path, 0, 0.0, 0)[0]["size"])
        return self._read(path, max(0, size - TAIL_BYTES), 0.0, TAIL_BYTES)[1]

    def _read(
        self, paths: Sequence[PurePosixPath], offset: int, wait_s: float, limit_bytes: int
    ) -> tuple[Header, bytes]:
        with self._channel() as control:
            reply, data = control.request(
                "read",
                paths=[str(path) for path in paths],
                folder=str(self.workspace.path),
                offset=offset,
                limit=limit_bytes,
                wait_s=wait_s,
                job=self._signs(),
            )
        if not reply["folder_exists"]:
            raise SweepNotFound(
                f"The workspace of the sweep '{self.workspace.sweep_id}' is gone from "
                f"{self._label}: there is no {self.workspace.path}."
            )
        if len(data) > limit_bytes:
            raise ConnectionLost(f"{self._label} sent more than it was asked for.")
        return reply, data

    @contextmanager
    def lease(self, client: str) -> Iterator[Lease]:
        """Give a client the right to publish this sweep, which is still to be asked for."""
        with self._channel() as control:
            yield Lease(control, self.workspace.publisher_lock, client)

    def disk_free_bytes(self) -> int:
        """Tell how much room the workspace's file system has left."""
        with self._channel() as control:
            reply = control.request("status", paths=[str(self.workspace.path)])[0]
        return int(reply["disk_free_bytes"])

    def is_published(self) -> bool:
        """Tell whether a client has brought all of the finished sweep to MLflow."""
        with self._channel() as control:
            reply = control.request("status", paths=[str(self.workspace.published)])[0]
        return bool(reply["exist"][0])

    def liveness(self) -> Liveness:
        """Tell whether the agent lives.

        Raises:
            ConnectionLost: The target cannot be asked; that says nothing of the agent.
        """
        with self._channel() as control:
            return Liveness(control.request("liveness", job=self._signs())[0]["liveness"])

    def request(self, content: Mapping[str, object]) -> str:
        """Leave a request for the agent, which need not be running; return the request's id."""
        request_id = uuid.uuid4().hex
        path = self.workspace.request(request_id)
        with self._channel() as control:
            control.request("put", json.dumps(content).encode(), path=str(path), mode=0o600)
        return request_id

    def remember_run(self, run_id: str) -> None:
        """Write the parent run down beside the sweep, so that it is found from the machine."""
        content = json.dumps({"run_id": run_id}).encode()
        with self._channel() as control:
            control.request("put", content, path=str(self.workspace.client), mode=0o600)

    def mark_published(self) -> None:
        """Write down that the finished sweep is in MLflow, so that its workspace may go."""
        with self._channel() as control:
            control.request("put", b"", path=str(self.workspace.published), mode=0o600)
            control.request("boot_remove", names=[self.workspace.sweep_id])
            self._remove_container(control)

    def fetch(
        self,
        files: Sequence[ArtifactFile],
        into: Path,
        on_bytes: Callable[[int], None] = lambda n_bytes: None,
    ) -> None:
        """Bring artifacts here in one stream, verified; those that are here already are kept.

        Raises:
            ArtifactRefused: A file has a forbidden name, or not the contents it was recorded with.
        """
        with self._channel() as control:
            fetch_files(control, self.workspace.artifacts, files, into, on_bytes)

    def kill(self, grace_s: float = TERM_GRACE_S) -> tuple[int, ...]:
        """End the agent and everything that it has started.

        Returns:
            The processes that are left in spite of it; empty means that none is.
        """
        cookie = f"{COOKIE}={self.workspace.path}"
        with self._channel() as control:
            self._remove_container(control)  # first: the engine starts again what ends in it
            reply = control.request(
                "kill",
                cookie=cookie,
                grace_s=grace_s,
                agent=str(self.workspace.agent_identity),
            )[0]
        return tuple(int(pid) for pid in reply["left"])

    def remove(self) -> None:
        """Remove the workspace and all that is in it.

        Raises:
            AutoMLRemoteError: The agent is not dead.
        """
        liveness = self.liveness()
        if liveness is not Liveness.DEAD:
            raise AutoMLRemoteError(
                f"The sweep '{self.workspace.sweep_id}' on {self._label} is not known to have "
                f"ended ({liveness}), so its workspace is kept. Cancel it first."
            )
        with self._channel() as control:
            control.request("boot_remove", names=[self.workspace.sweep_id])
            self._remove_container(control)
            control.request("remove", paths=[str(self.workspace.path)])

    def _remove_container(self, control: Control) -> None:
        control.request("remove_containers", workspaces=[str(self.workspace.path)])

    def _signs(self) -> dict[str, str]:
        """Name the files by which the helper knows whether the agent lives."""
        return {
            "lock": str(self.workspace.agent_lock),
            "agent": str(self.workspace.agent_identity),
        }
