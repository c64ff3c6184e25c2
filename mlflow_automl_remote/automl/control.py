"""What a sweep's thread and the threads that cancel share: which iterations run, which may not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

from mlflow_automl_remote.automl.executor import Ticket
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal

Whereabouts = Literal["queued", "running", "finished", "unknown"]


class Control:
    """The running iterations of a sweep, and the wishes to cancel; safe between threads.

    Args:
        n_iterations: How many iterations the sweep has.
        history: Iterations of an earlier agent; the finished ones cannot be cancelled any more.
    """

    def __init__(self, n_iterations: int, history: Sequence[PastIteration]) -> None:
        self._lock = threading.Lock()
        self._running: dict[Ticket, Proposal] = {}
        self._unfinished = set(range(n_iterations)) | {past.proposal.number for past in history}
        self._known = frozenset(self._unfinished)
        self._unfinished -= {past.proposal.number for past in history if past.state.is_finished}
        self._unwanted: set[int] = set()
        self._cancelled = False
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    @property
    def cancelled(self) -> bool:
        """Whether the whole sweep is to end."""
        return self._cancelled

    @property
    def is_held(self) -> bool:
        """Whether no iteration is to begin for now."""
        return not self._may_go_on.is_set()

    def hold(self) -> None:
        """Let no iteration begin until `release`; those that run go on."""
        if not self._cancelled:
            self._may_go_on.clear()

    def release(self) -> None:
        """Let iterations begin again."""
        self._may_go_on.set()

    def wait_while_held(self) -> float:
        """Wait for `release`, or for the end of the sweep; give how many seconds that took."""
        begin = time.monotonic()
        self._may_go_on.wait()
        return time.monotonic() - begin

    def running(self) -> tuple[Ticket, ...]:
        """Give the iterations that run."""
        with self._lock:
            return tuple(self._running)

    def start(self, proposal: Proposal, submit: Callable[[Proposal], Ticket]) -> bool:
        """Submit an iteration, unless somebody has cancelled it; then it is finished."""
        with self._lock:
            if self._cancelled or proposal.number in self._unwanted:
                self._unfinished.discard(proposal.number)
                return False
            self._running[submit(proposal)] = proposal
            return True

    def finish(self, ticket: Ticket) -> Proposal:
        """Take an iteration that has ended out of those that run."""
        with self._lock:
            proposal = self._running.pop(ticket)
            self._unfinished.discard(proposal.number)
            return proposal

    def pause(self, ticket: Ticket) -> Proposal:
        """Take an iteration out of those that run, which goes on later."""
        with self._lock:
            return self._running.pop(ticket)

    def end(self, number: int) -> None:
        """Take notice that an iteration that was paused has ended."""
        with self._lock:
            self._unfinished.discard(number)

    def cancel_all(self) -> tuple[Ticket, ...]:
        """Let no more iterations begin, and give those to be killed."""
        with self._lock:
            self._cancelled = True
            self._may_go_on.set()
            return tuple(self._running)

    def cancel_one(self, number: int) -> tuple[Whereabouts, Ticket | None]:
        """Say where an iteration is, and give its ticket if it has to be killed."""
        with self._lock:
            if number not in self._known:
                return "unknown", None
            if number not in self._unfinished:
                return "finished", None
            for ticket, proposal in self._running.items():
                if proposal.number == number:
                    return "running", ticket
            self._unwanted.add(number)
            return "queued", None
