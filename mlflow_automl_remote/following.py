"""Follows the journal of a sweep over one connection after the other, and publishes it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote import compute
from mlflow_automl_remote.errors import AgentLost, PublishFailed, TransportError
from mlflow_automl_remote.journal.file import Cursor, read
from mlflow_automl_remote.journal.replay import SweepState, replay

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Job, Progress
    from mlflow_automl_remote.journal.events import ArtifactFile
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


class Follower:
    """Reads a journal from where it was, over one connection after the other.

    Args:
        run_id: The parent run.
        facts: Where the sweep is.
        listener: What a door wants to be told.
    """

    def __init__(self, run_id: str, facts: ParentFacts, listener: Listener) -> None:
        self.listener = listener
        self._run_id = run_id
        self._facts = facts
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
        self._publisher = publisher_of(
            self._run_id, self._facts, job, lambda: bytes(self._journal)
        )
        while True:
            chunk = job.read_journal(self._cursor.offset, wait_s=POLL_S)
            self._take(chunk.data)
            if self._state.status.is_finished:
                self._publish_the_end()
                with contextlib.suppress(TransportError):  # only `target clean` misses it
                    job.mark_published()
                return self._state
            self._publish()
            if not chunk.data and chunk.liveness is compute.Liveness.DEAD:
                raise _lost(self._run_id, self._facts, job)

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


def publisher_of(
    run_id: str, facts: ParentFacts, job: Job, journal: Callable[[], bytes]
) -> Publisher:
    """Give what publishes a sweep from its journal and from the files that its job has."""
    from mlflow import MlflowClient

    from mlflow_automl_remote.publishing import Publisher

    def fetch(files: Sequence[ArtifactFile], into: Path) -> Path:
        job.fetch(files, into)
        return into

    return Publisher(MlflowClient(), run_id, fetch=fetch, facts=facts, journal=journal)


def _lost(run_id: str, facts: ParentFacts, job: Job) -> AgentLost:
    words = b""
    while piece := job.log(len(words)):
        words = words + piece
    lines = words.decode("utf-8", errors="replace").strip().splitlines()
    last = f" The last line of its log: {lines[-1]}" if lines else ""
    return AgentLost(
        f"The agent on {facts.target} died without ending the sweep.{last} "
        f"Go on with: automl-remote resume {run_id}"
    )
