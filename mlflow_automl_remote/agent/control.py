"""Carries out requests: says what each met, and stops what it asks to be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.journal.events import RequestHandled, SweepContinued

if TYPE_CHECKING:
    from mlflow_automl_remote.agent.inbox import Request
    from mlflow_automl_remote.agent.recorder import Recorder
    from mlflow_automl_remote.automl.sweep import Sweep
    from mlflow_automl_remote.journal.replay import SweepState

BEGIN: Final = "begin"
CANCEL: Final = "cancel"
CANCEL_ITERATION: Final = "cancel_iteration"
EXPLAIN: Final = "explain"
PAUSE: Final = "pause"
UNPAUSE: Final = "unpause"
CONTINUE: Final = "continue"


class Control:
    """What an agent is doing now, as far as somebody may want to stop it.

    Requests come in another thread and at any time: before there is a sweep to cancel, while it
    runs, and while its best model is being explained.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._sweep: Sweep | None = None
        self._stop_step: Callable[[], object] | None = None
        self._is_running = False
        self._iterations_to_cancel: set[int] = set()
        self._to_explain = _left_to_explain(recorder)
        self._has_begun = any(one.action == BEGIN for one in recorder.state.requests)
        self.is_given_up = False
        self.cancelled = _is_cancelled(recorder.state)

    def handle(self, request: Request) -> None:
        """Carry out a request, and record what it met; a request seen twice is done once."""
        state = self._recorder.state
        seen = {handled.request_id for handled in state.requests}
        if request.request_id in seen:
            return
        if request.action == CONTINUE:
            self._continue(request)
            return
        outcome = self._carry_out(request)
        self._recorder.record(
            RequestHandled(
                request_id=request.request_id,
                action=request.action,
                outcome=outcome,
                iteration=request.iteration,
            )
        )

    def give_up_unless_begun(self) -> None:
        """Stop what is done now if no client has written down where this sweep is.

        A client starts the agent first and makes its run meanwhile, since both take seconds. If
        it dies before it says so, nobody knows of this sweep.
        """
        with self._lock:
            if not self._has_begun:
                self.is_given_up = True
                self._stop()

    @property
    def is_stopped(self) -> bool:
        """Whether the sweep was cancelled, or given up."""
        return self.cancelled or self.is_given_up

    def begins(self) -> None:
        """From now on the sweep runs, and cannot be continued before it has ended."""
        self._is_running = True

    def sweep_begins(self, sweep: Sweep) -> None:
        """Requests are for this sweep from now on; those that came before are passed to it."""
        with self._lock:
            self._sweep = sweep
            if self.is_stopped:
                sweep.cancel()
            for number in self._iterations_to_cancel:
                sweep.cancel_iteration(number)
            if self._recorder.state.paused_since_ms is not None:
                sweep.pause()

    def step_begins(self, stop: Callable[[], object]) -> None:
        """A step that is no iteration (loading, explaining) begins; `stop` ends it early."""
        with self._lock:
            self._stop_step = stop
            if self.is_stopped:
                stop()

    def step_ends(self) -> None:
        """The step has ended."""
        with self._lock:
            self._stop_step = None

    def take_to_explain(self) -> list[int]:
        """Give the iterations whose explanation was asked for since the last time."""
        with self._lock:
            numbers, self._to_explain = self._to_explain, []
            return numbers

    def _carry_out(self, request: Request) -> str:
        with self._lock:
            if request.action == BEGIN:
                self._has_begun = True
                return "running"
            if request.action == CANCEL:
                return self._cancel()
            if request.action == EXPLAIN:
                return self._explain(request.iteration)
            if request.action in (PAUSE, UNPAUSE):
                return self._pause(request.action == PAUSE)
            if request.action == CANCEL_ITERATION and request.iteration is not None:
                return self._cancel_iteration(request.iteration)
            return "unknown"

    def _explain(self, number: int | None) -> str:
        """Note an iteration down; without a number it is the best one, when its turn comes."""
        state = self._recorder.state
        one = state.best if number is None else state.iterations.get(number)
        if one is None or (one.state.is_finished and one.model_path is None):
            return "unknown"
        self._to_explain.append(one.number)
        return "queued"

    def _continue(self, request: Request) -> None:
        """Begin the sweep anew with more to do; while it runs there is nothing to continue."""
        state = self._recorder.state
        known = state.continuation.request_ids if state.continuation else ()
        if request.request_id in known or self._is_running:
            return
        self._recorder.record(
            SweepContinued(
                request_id=request.request_id, settings=request.settings, again=request.again
            )
        )
        self.cancelled = False

    def _pause(self, pause: bool) -> str:
        """Begin no more iterations, or go on; those that run are left alone."""
        if self._recorder.state.status.is_finished:
            return "finished"
        if self._sweep is not None:
            (self._sweep.pause if pause else self._sweep.unpause)()
        return "running"

    def _cancel(self) -> str:
        self.cancelled = True
        self._stop()
        return "running"

    def _stop(self) -> None:
        if self._stop_step is not None:
            self._stop_step()
        if self._sweep is not None:
            self._sweep.cancel()

    def _cancel_iteration(self, number: int) -> str:
        if self._sweep is not None:
            return self._sweep.cancel_iteration(number)
        self._iterations_to_cancel.add(number)
        return "queued"


def _is_cancelled(state: SweepState) -> bool:
    """Whether the sweep was cancelled since it was continued the last time."""
    begin = state.continuation.n_requests if state.continuation else 0
    return any(handled.action == CANCEL for handled in state.requests[begin:])


def _left_to_explain(recorder: Recorder) -> list[int]:
    """Give what an agent that died had promised to explain."""
    asked = [one.iteration for one in recorder.state.requests if one.action == EXPLAIN]
    best, done = recorder.state.best_iteration, recorder.state.explanations
    numbers = (best if number is None else number for number in asked)
    return [number for number in numbers if number is not None and number not in done]
