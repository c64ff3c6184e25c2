"""A sweep from a client's side: submit it, follow it, find it again, stop it."""

from __future__ import annotations

import gc
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote import compute
from mlflow_automl_remote.errors import (
    AgentLost,
    ConnectFailed,
    ConnectionLost,
    PublishFailed,
)
from mlflow_automl_remote.journal.file import Cursor, read
from mlflow_automl_remote.journal.replay import SweepState, replay

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Connection, Job, Liveness, Progress, TargetSpec
    from mlflow_automl_remote.config import AutoMLConfig
    from mlflow_automl_remote.journal.events import ArtifactFile, RequestHandled
    from mlflow_automl_remote.publishing import ParentFacts, Publisher

POLL_S: Final = 10.0
"""The longest that the target waits for news before it answers that there are none."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
"""Between two attempts to reach a target or a store again; each wait is twice the one before."""
N_PUBLISH_RETRIES: Final = 5
"""How often a finished sweep is published again when the store does not answer."""

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What a door wants to be told; every function may be left out.

    Attributes:
        on_progress: A step of the set-up.
        on_state: The sweep as its journal tells it now; called at each change.
        on_notice: A line for the person, such as that the connection was lost and is tried again.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    on_state: Callable[[SweepState], None] = lambda _: None
    on_notice: Notice = lambda _: None


class SweepRun:
    """A sweep that was submitted, whether it still runs or not.

    Args:
        run_id: The parent run.
        facts: Where the sweep is.
        target: The compute target that it runs on.
    """

    def __init__(self, run_id: str, facts: ParentFacts, target: TargetSpec) -> None:
        self.run_id = run_id
        self.facts = facts
        self._target = target

    def __repr__(self) -> str:
        return f"SweepRun(run_id={self.run_id!r}, target={self.facts.target!r})"

    def follow(self, listener: Listener | None = None) -> SweepState:
        """Publish the sweep as it goes on, until it has ended.

        A connection that is lost is made again for as long as it takes: a target that cannot be
        reached has not failed.

        Returns:
            The state at the end.

        Raises:
            AgentLost: The agent died without a last event.
            PublishFailed: The tracking store did not answer, even at the end.
            TransportError: The target refuses the connection.
        """
        follower = _Follower(self, listener or Listener())
        retry_s = FIRST_RETRY_S
        while True:
            try:
                with self._job() as job:
                    return follower.follow(job)
            except (ConnectionLost, ConnectFailed) as error:
                if not follower.has_news and isinstance(error, ConnectFailed):
                    raise
                retry_s = FIRST_RETRY_S if follower.progressed() else retry_s
                follower.listener.on_notice(
                    f"{error} The sweep goes on; trying again in {retry_s:.0f} s."
                )
                time.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def state(self) -> tuple[SweepState, Liveness]:
        """Read where the sweep stands now, and whether its agent lives."""
        with self._job() as job:
            chunk = job.read_journal(0, wait_s=0)
            data = bytearray(chunk.data)
            while chunk.data:
                chunk = job.read_journal(len(data), wait_s=0)
                data += chunk.data
            return replay(read(bytes(data))[0]), chunk.liveness

    def cancel(self, iteration: int | None = None, *, wait_s: float = 0) -> RequestHandled | None:
        """Ask the sweep, or one iteration of it, to stop.

        The request is a file on the target: it is carried out even if the agent is down now.

        Args:
            iteration: Its number; None for the whole sweep.
            wait_s: How long to wait for the agent's answer.

        Returns:
            The agent's answer, or None when it has not answered in time.
        """
        action = "cancel" if iteration is None else "cancel_iteration"
        with self._job() as job:
            request_id = job.request({"action": action, "iteration": iteration})
            return _answer(job, request_id, time.monotonic() + wait_s)

    def log(self, iteration: int | None = None, *, follow: bool = False) -> Iterator[bytes]:
        """Read the log of the agent or of an iteration, piece by piece.

        Args:
            iteration: Its number; None for the agent's log.
            follow: Go on until the agent has ended.
        """
        offset = 0
        with self._job() as job:
            while True:
                piece = job.log(offset, iteration=iteration)
                if piece:
                    offset += len(piece)
                    yield piece
                elif not follow or job.liveness() is not compute.Liveness.ALIVE:
                    return
                else:
                    time.sleep(FIRST_RETRY_S)

    def resume(self, listener: Listener | None = None) -> None:
        """Start a new agent on the sweep of one that died; finished iterations are kept."""
        with self._connection(listener or Listener()) as connection:
            connection.start(connection.job(self.facts.sweep_id))

    @contextmanager
    def _connection(self, listener: Listener) -> Iterator[Connection]:
        with compute.connect(self._target, on_progress=listener.on_progress) as connection:
            yield connection

    @contextmanager
    def _job(self) -> Iterator[Job]:
        with self._connection(Listener()) as connection:
            yield connection.job(self.facts.sweep_id)


class _Follower:
    """Reads a journal from where it was, over one connection after the other."""

    def __init__(self, run: SweepRun, listener: Listener) -> None:
        self.listener = listener
        self._run = run
        self._cursor = Cursor()
        self._journal = bytearray()
        self._state = SweepState()
        self._publisher: Publisher | None = None
        self._n_seen = 0
        self._store_is_down = False

    @property
    def has_news(self) -> bool:
        """Whether anything of the sweep was ever read."""
        return self._state.n_events > 0

    def progressed(self) -> bool:
        """Whether anything was read since the last time that this was asked."""
        grown = self._state.n_events > self._n_seen
        self._n_seen = self._state.n_events
        return grown

    def follow(self, job: Job) -> SweepState:
        """Follow until the last event, or until the connection is lost."""
        self._publisher = _publisher(self._run, job, lambda: bytes(self._journal))
        while True:
            chunk = job.read_journal(self._cursor.offset, wait_s=POLL_S)
            self._take(chunk.data)
            if self._state.status.is_finished:
                self._publish_the_end()
                return self._state
            self._publish()
            if not chunk.data and chunk.liveness is compute.Liveness.DEAD:
                raise _lost(self._run, job)

    def _take(self, data: bytes) -> None:
        records, cursor = read(data, self._cursor)
        self._journal += data[: cursor.offset - self._cursor.offset]
        self._cursor = cursor
        if records:
            self._state = replay(records, self._state)
            self.listener.on_state(self._state)

    def _publish(self) -> None:
        """Bring MLflow up to date; a store that is down is tried again at the next news."""
        if self._publisher is None or not self.has_news:
            return
        try:
            self._publisher.publish(self._state)
        except PublishFailed as error:
            if not self._store_is_down:
                self.listener.on_notice(f"{error} The sweep goes on; it is published later.")
            self._store_is_down = True
        else:
            self._store_is_down = False

    def _publish_the_end(self) -> None:
        retry_s = FIRST_RETRY_S
        for _ in range(N_PUBLISH_RETRIES):
            self._publish()
            if not self._store_is_down:
                break
            time.sleep(retry_s)
            retry_s *= 2
        if self._publisher is not None:
            self._publisher.publish(self._state)
            self._publisher.close()


def submit(
    config: AutoMLConfig,
    target: TargetSpec,
    project_dir: Path,
    *,
    open_run: Callable[[], str],
    listener: Listener | None = None,
) -> SweepRun:
    """Start a sweep on a target; return as soon as its agent has acknowledged.

    The agent is started first and told to begin last: it gets ready while the parent run is made,
    and a wrong host, key or project leaves no run behind. A client that dies in between leaves an
    agent that ends by itself.

    Args:
        config: The settings.
        target: Where.
        project_dir: The folder with the data script; it is sent to the target.
        open_run: Creates or finds the parent run, and gives its id.
        listener: What to tell on the way.

    Raises:
        ConfigurationError: The data script or a data file is not in the project.
        TransportError: The target cannot be used.
        EnvironmentSetupFailed: Its Python environment cannot be made.
    """
    listener = listener or Listener()
    compute.scan_project(project_dir, config.project_files)
    importing = threading.Thread(target=_import_mlflow)
    importing.start()
    sweep_id = uuid.uuid4().hex
    with compute.connect(target, on_progress=listener.on_progress) as connection:
        job = connection.submit(
            sweep_id, project_dir, config.to_json(), needed=config.project_files
        )
        importing.join()
        from mlflow_automl_remote.publishing import ParentFacts

        facts = ParentFacts(
            sweep_id=sweep_id,
            target=target.label,
            target_config=target.as_json(),
            workspace=str(job.workspace.path),
        )
        try:
            run_id = _open_parent(open_run, facts, listener)
        except BaseException:
            job.kill()
            job.remove()
            raise
        job.request({"action": "begin"})
    return SweepRun(run_id, facts, target)


def _import_mlflow() -> None:
    """Import what takes seconds while the target is being made ready.

    What an import makes, stays: looking for garbage in it costs a quarter of the time.
    """
    gc.disable()
    try:
        from mlflow_automl_remote.publishing import parent_run  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _open_parent(open_run: Callable[[], str], facts: ParentFacts, listener: Listener) -> str:
    from mlflow_automl_remote.publishing import parent_run

    run_id = open_run()
    parent_run.remember(run_id, facts)
    listener.on_notice(f"Parent run: {run_id}")
    listener.on_notice(f"In MLflow:  {parent_run.where_to_look(run_id)}")
    return run_id


def attach(run_id: str) -> SweepRun:
    """Find a sweep by its parent run, from any machine that reaches the tracking store.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep.
    """
    from mlflow_automl_remote.publishing import parent_run

    found = parent_run.find_parent(run_id)
    return SweepRun(run_id, found.facts, compute.TargetSpec.from_json(found.facts.target_config))


def _publisher(run: SweepRun, job: Job, journal: Callable[[], bytes]) -> Publisher:
    from mlflow import MlflowClient

    from mlflow_automl_remote.publishing import Publisher

    def fetch(files: Sequence[ArtifactFile], into: Path) -> Path:
        job.fetch(files, into)
        return into

    return Publisher(MlflowClient(), run.run_id, fetch=fetch, facts=run.facts, journal=journal)


def _answer(job: Job, request_id: str, deadline: float) -> RequestHandled | None:
    """Wait until the journal says what became of a request."""
    cursor = Cursor()
    state = SweepState()
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        chunk = job.read_journal(cursor.offset, wait_s=min(left_s, POLL_S))
        records, cursor = read(chunk.data, cursor)
        state = replay(records, state)
        for handled in state.requests:
            if handled.request_id == request_id:
                return handled
        if left_s == 0 or (not chunk.data and chunk.liveness is compute.Liveness.DEAD):
            return None


def _lost(run: SweepRun, job: Job) -> AgentLost:
    words = b""
    while piece := job.log(len(words)):
        words = words + piece
    lines = words.decode("utf-8", errors="replace").strip().splitlines()
    last = f" The last line of its log: {lines[-1]}" if lines else ""
    return AgentLost(
        f"The agent on {run.facts.target} died without ending the sweep.{last} "
        f"Go on with: automl-remote resume {run.run_id}"
    )
