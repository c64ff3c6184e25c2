"""Follows the journal of a sweep over one connection after the other, and publishes it."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from mlflow_automl_remote import compute
from mlflow_automl_remote.errors import AgentLost, JournalCorrupted, PublishFailed, TransportError
from mlflow_automl_remote.journal.file import Cursor, read
from mlflow_automl_remote.journal.replay import SweepState, replay

if TYPE_CHECKING:
    from types import TracebackType

    from mlflow_automl_remote.compute import Job, JournalChunk, Lease, Progress
    from mlflow_automl_remote.journal.events import ArtifactFile, Event
    from mlflow_automl_remote.publishing import ParentFacts, Publisher

COMES_BACK_S: Final = 60.0
"""How long an agent in a container is waited for, which its engine starts again."""
POLL_S: Final = 10.0
"""The longest that the target waits for news before it answers that there are none."""
PUBLISH_INTERVAL_S: Final = 1.0
"""From one look at what is to be published to the next: what comes between goes together."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 30.0
"""Between two attempts to reach a target or a store again; each wait is twice the one before."""
PUBLISH_LIMIT_S: Final = 600.0
"""How long a finished sweep is tried to be published when the store does not answer."""
FULL_BYTES: Final = 1024**2
"""Free disk of a target below which an agent that died has died of it."""
PIECE_BYTES: Final = 256 * 1024
"""Of a journal, after which its events are folded before more are read."""
MAX_EVENTS: Final = 50_000
"""Of one journal, for a client's memory; 20,000 iterations have fewer."""
MAX_JOURNAL_BYTES: Final = 256 * 1024**2
"""Likewise; an iteration of a hundred folds and files takes some 20 kB."""

Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What a door wants to be told; every function may be left out.

    Attributes:
        on_progress: A step of the set-up.
        on_state: The sweep as its journal tells it now; called at each change.
        on_notice: A line for the person, such as that the connection was lost and is tried again.
        is_wanted: Whether to follow on; asked at least every `POLL_S` seconds.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    on_state: Callable[[SweepState], None] = lambda _: None
    on_notice: Notice = lambda _: None
    is_wanted: Callable[[], bool] = lambda: True


class JournalReader:
    """Reads a journal from where it was, and folds it; a target cannot make it grow for ever.

    Args:
        keep: Gets the bytes of all whole events.
        look: Is shown each event, once the state holds it.

    Attributes:
        state: The sweep as its journal tells it so far.
    """

    def __init__(
        self, keep: BinaryIO | None = None, look: Callable[[Event], None] = lambda _: None
    ) -> None:
        self._keep = keep
        self._look = look
        self._cursor = Cursor()
        self.state = SweepState()

    def read(self, job: Job, wait_s: float = 0.0) -> JournalChunk:
        """Read what is new, waiting for it if there is nothing.

        Raises:
            JournalCorrupted: It is damaged, or no journal of a sweep.
            TransportError: The target cannot be asked.
        """
        chunk = job.read_journal(self._cursor.offset, wait_s=wait_s)
        n_before, begin = self._cursor.n_lines, self._cursor.offset
        while self._take(chunk.data[self._cursor.offset - begin :]):
            pass
        if chunk.is_full and self._cursor.n_lines == n_before:
            raise self._refused(f"a line is longer than {len(chunk.data)} bytes")
        return chunk

    def _take(self, data: bytes) -> bool:
        """Fold whole events, at first only some: many at once would take much memory.

        Returns:
            Whether there may be more of them in the data.
        """
        piece = data[: data.find(b"\n", PIECE_BYTES) + 1] or data
        records, cursor = read(piece, self._cursor)
        if not records and len(piece) < len(data):  # damaged: the next line shows it to be so
            piece = data
            records, cursor = read(piece, self._cursor)
        if cursor.n_lines > MAX_EVENTS or cursor.offset > MAX_JOURNAL_BYTES:
            raise self._refused(
                f"it goes on after {MAX_EVENTS} events or {MAX_JOURNAL_BYTES} bytes"
            )
        if self._keep is not None:
            self._keep.write(data[: cursor.offset - self._cursor.offset])
            self._keep.flush()
        self._cursor = cursor
        if records:
            self.state = replay(records, self.state)
        for record in records:
            if record.event is not None:
                self._look(record.event)
        return len(piece) < len(data)

    def _refused(self, why: str) -> JournalCorrupted:
        return JournalCorrupted(
            f"The journal is not that of a sweep: {why}. It was not read on.",
            line_number=self._cursor.n_lines + 1,
        )


class Follower:
    """Follows a sweep to its end and publishes it; a context manager.

    Args:
        run_id: The parent run.
        facts: Where the sweep is.
        listener: What a door wants to be told.
        take_over: Whether to publish even if another client does.
    """

    def __init__(
        self, run_id: str, facts: ParentFacts, listener: Listener, *, take_over: bool = False
    ) -> None:
        self.listener = listener
        self._take_over = take_over
        self._client = uuid.uuid4().hex
        self._looks_on = False
        self._run_id = run_id
        self._facts = facts
        self._copy = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by `__exit__`
            prefix="automl-remote-journal-"
        )
        self._reader = JournalReader(cast("BinaryIO", self._copy))
        self._publisher: Publisher | None = None
        self._n_seen = 0
        self._is_behind = False
        self._store_is_down = False
        self._run_is_deleted = False
        self._lost_since: float | None = None
        spec = compute.TargetSpec.from_json(facts.target_config)
        self._is_contained = spec.container is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._copy.close()

    @property
    def state(self) -> SweepState:
        """The sweep as far as its journal was read."""
        return self._reader.state

    @property
    def has_news(self) -> bool:
        """Whether anything of the sweep was ever read."""
        return self._reader.state.n_events > 0

    def progressed(self) -> bool:
        """Whether anything was read since the last time that this was asked."""
        grown = self._reader.state.n_events > self._n_seen
        self._n_seen = self._reader.state.n_events
        return grown

    def follow(self, job: Job) -> SweepState:
        """Follow until the last event, or until the connection is lost."""
        self._publisher = publisher_of(self._run_id, self._facts, job, Path(self._copy.name))
        with job.lease(self._client) as lease:
            return self._follow(job, lease)

    def _follow(self, job: Job, lease: Lease) -> SweepState:
        due = 0.0
        while self.listener.is_wanted():
            wait_s = max(0.0, due - time.monotonic()) if self._is_behind else POLL_S
            is_lost = self._take_news(job, wait_s)
            if not self._may_publish(lease):
                self._is_behind = False
            if self._reader.state.status.is_finished:
                if self._has_ended(job):
                    return self._reader.state
                continue
            if self._is_behind and (is_lost or time.monotonic() >= due):
                due = time.monotonic() + PUBLISH_INTERVAL_S
                self._publish()
            if not is_lost:
                self._lost_since = None
            elif self._may_come_back():
                time.sleep(FIRST_RETRY_S)
            else:
                raise self._lost(job)
        return self._reader.state

    def _may_come_back(self) -> bool:
        """Whether an engine may start the agent again: after a restart of its own or a reboot."""
        if self._lost_since is None:
            self._lost_since = time.monotonic()
        is_late = time.monotonic() - self._lost_since > COMES_BACK_S
        return self._is_contained and not is_late and not self._reader.state.interrupted

    def _take_news(self, job: Job, wait_s: float) -> bool:
        """Read what is new and show it; True when there is nothing and nobody to write more."""
        n_before = self._reader.state.n_events
        chunk = self._reader.read(job, wait_s)
        if self._reader.state.n_events > n_before:
            self._is_behind = True
            self.listener.on_state(self._reader.state)
        return not chunk.data and chunk.liveness is compute.Liveness.DEAD

    def _has_ended(self, job: Job) -> bool:
        """Publish the end, or wait a little for the client that does; True when it is done."""
        if self._looks_on:
            if not job.is_published():
                time.sleep(FIRST_RETRY_S)
                return False
            return True
        self._publish_the_end()
        with contextlib.suppress(TransportError):  # only `target clean` misses it
            job.mark_published()
        return True

    def _may_publish(self, lease: Lease) -> bool:
        """Ask whether this client is the one that publishes, and say so when it is not."""
        held = lease.ask(take_over=self._take_over)
        self._take_over = False  # once is enough: whoever takes over from us shall keep it
        if self._looks_on is held:
            self.listener.on_notice(
                "This client publishes the sweep now."
                if held
                else "Another client publishes this sweep; this one looks on. "
                f"To publish from here: automl-remote follow {self._run_id} --take-over"
            )
            self._is_behind = True
        self._looks_on = not held
        return held

    def _lost(self, job: Job) -> AgentLost:
        """Say why the agent is gone, as far as it could say so itself."""
        go_on = f"Go on with: automl-remote resume {self._run_id}"
        interrupted = self._reader.state.interrupted
        if interrupted:
            return AgentLost(
                f"The sweep on {self._facts.target} is interrupted. {interrupted} What has ended "
                f"is kept. {go_on}"
            )
        lines = job.log_tail().decode("utf-8", errors="replace").strip().splitlines()
        last = f" The last line of its log: {lines[-1]}" if lines else ""
        if job.disk_free_bytes() < FULL_BYTES:
            last += " The disk there is full: make room first."
        return AgentLost(
            f"The agent on {self._facts.target} died without ending the sweep.{last} {go_on}"
        )

    def _publish(self) -> None:
        """Bring MLflow up to date; a store that is down is tried again."""
        if self._publisher is None or not self.has_news:
            return
        self._is_behind = False
        try:
            self._publisher.publish(self._reader.state)
        except PublishFailed as error:
            if not self._store_is_down:
                self.listener.on_notice(f"{error} The sweep goes on; it is published later.")
            self._store_is_down = self._is_behind = True
        else:
            self._store_is_down = False
            self._tell_of_deletion(self._publisher.is_deleted)

    def _tell_of_deletion(self, is_deleted: bool) -> None:
        if is_deleted and not self._run_is_deleted:
            self.listener.on_notice(
                f"The run {self._run_id} was deleted in MLflow: nothing more is published. The "
                f"sweep goes on; to end it: automl-remote cancel {self._run_id}. To publish it "
                f"after all, restore the run, then: automl-remote follow {self._run_id}"
            )
        self._run_is_deleted = is_deleted

    def _publish_the_end(self) -> None:
        retry_s = FIRST_RETRY_S
        deadline = time.monotonic() + PUBLISH_LIMIT_S
        while time.monotonic() < deadline:
            self._publish()
            if not self._store_is_down:
                break
            time.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        if self._publisher is not None:
            self._publisher.publish(self._reader.state)
            self._publisher.close()


def publisher_of(
    run_id: str, facts: ParentFacts, job: Job, journal: Path | Callable[[], bytes]
) -> Publisher:
    """Give what publishes a sweep from its journal and from the files that its job has."""
    from mlflow import MlflowClient

    from mlflow_automl_remote.publishing import Publisher

    def fetch(files: Sequence[ArtifactFile], into: Path) -> Path:
        job.fetch(files, into)
        return into

    return Publisher(MlflowClient(), run_id, fetch=fetch, facts=facts, journal=journal)
