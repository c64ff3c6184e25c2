"""Asks the target of a sweep to explain a model, where data and models are, and publishes it."""

from __future__ import annotations

import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from mlflow_automl_remote import compute, sweep_run
from mlflow_automl_remote.errors import AgentLost
from mlflow_automl_remote.following import (
    FIRST_RETRY_S,
    POLL_S,
    JournalReader,
    Listener,
    publisher_of,
)
from mlflow_automl_remote.journal.events import (
    Event,
    ExplanationFinished,
    ExplanationsCompared,
    RequestHandled,
)
from mlflow_automl_remote.journal.replay import SweepState

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Job

MAX_STARTS: Final = 3
"""How often an agent is started for one request; it may end just before it would have seen it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """What came of a request for an explanation.

    Attributes:
        iteration: Which was asked for; None for the best.
        finished: How it ended; None where it waits for the search to end, or there is no model.
        is_known: Whether there is such an iteration, with a model or on its way to one.
    """

    iteration: int | None
    finished: ExplanationFinished | None
    is_known: bool


def explain_run(
    run_id: str, iteration: int | None = None, listener: Listener | None = None
) -> Requested:
    """Explain the model of an iteration on its target, and publish the explanation.

    While the search still runs the request waits there for its end.

    Args:
        run_id: The parent run.
        iteration: Its number; None for the best.
        listener: What to tell on the way.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep, or its workspace is gone.
        AgentLost: The agent on the target died over it.
    """
    run, listener = sweep_run.attach(run_id), listener or Listener()
    target = compute.TargetSpec.from_json(run.facts.target_config)
    with (
        tempfile.NamedTemporaryFile(prefix="automl-remote-journal-") as copy,
        compute.connect(target, on_progress=listener.on_progress) as connection,
    ):
        job = connection.job(run.facts.sweep_id)
        watch = _Watch(
            job.request({"action": "explain", "iteration": iteration}), cast("BinaryIO", copy)
        )
        for _ in range(MAX_STARTS):
            connection.start(job)
            _follow(job, watch, listener)
            if not watch.goes_on:
                break
        else:
            raise AgentLost(
                f"The agent on {run.facts.target} ended without an explanation. "
                f"See its log: automl-remote logs {run_id}"
            )
        if watch.state.status.is_finished and watch.finished is not None:
            _publish(job, run, watch.state, Path(copy.name), listener)
    is_known = watch.answer is not None and watch.answer.outcome != "unknown"
    return Requested(iteration=iteration, finished=watch.finished, is_known=is_known)


def _follow(job: Job, watch: _Watch, listener: Listener) -> None:
    """Read the journal until it has the explanation or the agent is dead."""
    while watch.goes_on:
        chunk = watch.reader.read(job, POLL_S)
        listener.on_state(watch.state)
        if not chunk.data and chunk.liveness is compute.Liveness.DEAD:
            break


def _publish(
    job: Job, run: sweep_run.SweepHandle, state: SweepState, journal: Path, listener: Listener
) -> None:
    """Publish as soon as this is the one client that does."""
    with job.lease(uuid.uuid4().hex) as lease:
        if not lease.ask():
            listener.on_notice("Another client publishes this sweep; waiting for it.")
            while not lease.ask():
                time.sleep(FIRST_RETRY_S)
        publisher = publisher_of(run.run_id, run.facts, job, journal)
        publisher.publish(state)
        publisher.close()


class _Watch:
    """Reads a journal until it tells what became of a request for an explanation.

    Args:
        request_id: Of the request.
        keep: Gets the journal.
    """

    def __init__(self, request_id: str, keep: BinaryIO) -> None:
        self.reader = JournalReader(keep, self._look_at)
        self.answer: RequestHandled | None = None
        self.finished: ExplanationFinished | None = None
        self._request_id = request_id
        self._is_compared = False

    @property
    def state(self) -> SweepState:
        """The sweep as far as it has been read."""
        return self.reader.state

    @property
    def goes_on(self) -> bool:
        """Whether there is more to wait for."""
        if self.answer is None:
            return True
        if self.answer.outcome == "unknown" or not self.state.status.is_finished:
            return False
        return self.finished is None or not self._is_compared

    def _look_at(self, event: Event) -> None:
        if isinstance(event, RequestHandled) and event.request_id == self._request_id:
            self.answer = event
        if self.answer is None:
            return
        if isinstance(event, ExplanationFinished) and self._is_mine(event.iteration):
            self.finished = event
            # With the first explained model there is nothing to compare it with.
            self._is_compared = bool(event.reason) or self._n_explained() < 2
        if isinstance(event, ExplanationsCompared) and self.finished is not None:
            self._is_compared = True

    def _is_mine(self, number: int) -> bool:
        asked = None if self.answer is None else self.answer.iteration
        return number == (self.state.best_iteration if asked is None else asked)

    def _n_explained(self) -> int:
        return sum(not one.reason for one in self.state.explanations.values())
