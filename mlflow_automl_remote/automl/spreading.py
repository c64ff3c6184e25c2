"""Runs parts of a call side by side before the call itself: the folds of an iteration."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from mlflow_automl_remote.automl.executor import (
    MOST_LOST,
    Call,
    Capacity,
    Executor,
    Finished,
    Ticket,
)
from mlflow_automl_remote.states import IterationState


@dataclass(slots=True, kw_only=True, eq=False)
class _Spread:
    """A call with parts that has not been given back yet."""

    ticket: Ticket
    call: Call
    parts: Sequence[Call]
    running: dict[Ticket, Call] = field(default_factory=dict)
    n_lost: Counter[int] = field(default_factory=Counter)
    begun: float = field(default_factory=time.monotonic)
    started_at_ms: int = 0
    failed: Finished | None = None
    is_cancelled: bool = False


class Spreading:
    """Submits calls to an executor, some of them with parts that come first.

    A call that has parts is one to whoever submits it: it has one ticket, is cancelled as one, and
    ends once. What its parts leave in their folders it can read; then they are gone.

    Args:
        executor: Runs calls and parts.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._spreads: dict[Ticket, _Spread] = {}
        self._of_part: dict[Ticket, _Spread] = {}
        self._n_spread = 0

    def capacity(self) -> Capacity:
        """Say what there is to run calls on now."""
        return self._executor.capacity()

    def submit(self, call: Call, parts: Sequence[Call] = ()) -> Ticket:
        """Begin to run a call, or its parts; see `Executor.submit`."""
        if not parts:
            return self._executor.submit(call)
        with self._lock:
            self._n_spread += 1
            ticket = Ticket(number=-self._n_spread, output_dir=call.output_dir)
            spread = _Spread(ticket=ticket, call=call, parts=tuple(parts))
            self._spreads[ticket] = spread
            for part in parts:
                self._begin(spread, part)
        return ticket

    def wait_any(self, *, tickets: Collection[Ticket]) -> list[Finished]:
        """Wait until at least one of some calls has ended, and give those that have."""
        while True:
            with self._lock:
                own = [one for each in tickets for one in self._runs_for(each)]
            ends = self._executor.wait_any(tickets=own)
            given = [end for each in ends if (end := self._took(each)) is not None]
            if given or not ends:
                return given

    def cancel(self, ticket: Ticket) -> None:
        """Have a call killed, with all parts of it."""
        with self._lock:
            spread = self._spreads.get(ticket)
            if spread is not None:
                spread.is_cancelled = True
            own = list(self._runs_for(ticket))
        for each in own:
            self._executor.cancel(each)

    def _runs_for(self, ticket: Ticket) -> Collection[Ticket]:
        spread = self._spreads.get(ticket)
        return (ticket,) if spread is None else tuple(spread.running)

    def _begin(self, spread: _Spread, call: Call) -> None:
        ticket = self._executor.submit(call)
        spread.running[ticket] = call
        self._of_part[ticket] = spread

    def _took(self, end: Finished) -> Finished | None:
        """Take in how something ended; gives the call that has ended with it."""
        with self._lock:
            spread = self._of_part.pop(end.ticket, None)
            if spread is None:
                return end
            call = spread.running.pop(end.ticket)
            if spread.started_at_ms == 0:
                spread.started_at_ms = end.started_at_ms
            if call is spread.call:
                return self._ended(spread, end)
            return self._took_part(spread, call, end)

    def _took_part(self, spread: _Spread, part: Call, end: Finished) -> Finished | None:
        number = spread.parts.index(part)
        if end.is_lost and spread.n_lost[number] < MOST_LOST and not spread.is_cancelled:
            spread.n_lost[number] += 1
            self._begin(spread, part)
        elif end.state is not IterationState.COMPLETED:
            spread.failed = spread.failed or end
            for other in spread.running:
                self._executor.cancel(other)
        if spread.running:
            return None
        if spread.failed is not None:
            return self._ended(spread, spread.failed)
        if spread.is_cancelled:
            reason = "Cancelled on request."
            return self._ended(
                spread, replace(end, state=IterationState.CANCELLED, value=None, reason=reason)
            )
        self._begin(spread, self._last(spread))
        return None

    def _last(self, spread: _Spread) -> Call:
        """Give the call itself, with what is left of its time."""
        call = spread.call
        left_s = None
        if call.timeout_s is not None:
            left_s = max(1.0, call.timeout_s - (time.monotonic() - spread.begun))
        reads = (*call.reads, *(part.output_dir for part in spread.parts))
        spread.call = replace(call, reads=reads, timeout_s=left_s)
        return spread.call

    def _ended(self, spread: _Spread, end: Finished) -> Finished:
        del self._spreads[spread.ticket]
        for part in spread.parts:
            shutil.rmtree(part.output_dir, ignore_errors=True)
        with suppress(OSError):  # there is something else in it
            spread.parts[0].output_dir.parent.rmdir()
        return replace(end, ticket=spread.ticket, started_at_ms=spread.started_at_ms)
