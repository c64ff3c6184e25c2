"""Runs functions in processes of this machine, with hard limits, and tells how each ended.

One warm process, the template, has everything imported. Each call is forked from it: first a
keeper, then the keeper's worker.
"""

from __future__ import annotations

import atexit
import logging
import pickle
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, Pipe, wait
from typing import Final

import cloudpickle

from mlflow_automl_remote.automl import keeper
from mlflow_automl_remote.automl.executor import (
    Call,
    Capacity,
    Executor,
    Finished,
    Ticket,
    end_all,
    loaded,
)
from mlflow_automl_remote.automl.keeper import Order, Report
from mlflow_automl_remote.automl.machine import free_bytes, n_cores
from mlflow_automl_remote.automl.template import Template
from mlflow_automl_remote.states import IterationState

TERM_GRACE_S: Final = 2.0  # between SIGTERM and SIGKILL
_CLOSE_LIMIT_S: Final = 30.0

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Running:
    """A call under way, and the connection to its keeper."""

    ticket: Ticket
    connection: Connection
    begun_at_ms: int
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class LocalExecutor(Executor):
    """Runs each call in a process of this machine, at once.

    Args:
        template: What calls are forked from, closed with the executor; by default a fresh
            interpreter, which imports the engine while the caller goes on.
        grace_s: Between SIGTERM and SIGKILL for a call that is ended.
    """

    def __init__(self, template: Template | None = None, *, grace_s: float = TERM_GRACE_S) -> None:
        self._template = template or Template.spawn()
        self._grace_s = grace_s
        self._numbers = count()
        self._calls: dict[int, _Running] = {}
        self._lock = threading.Lock()
        self._closed = False
        atexit.register(self.close)

    def capacity(self) -> Capacity:
        """Say what this machine has left."""
        cores = n_cores()
        return Capacity(n_cores=cores, n_cores_of_one=cores, memory_bytes=free_bytes())

    def usage(self) -> Mapping[str, Mapping[str, float]]:
        """Say nothing: there is no other machine."""
        return {}

    def submit(self, call: Call) -> Ticket:
        """Begin to run a call; see the protocol."""
        call.output_dir.mkdir(parents=True, exist_ok=True)
        order = Order(
            payload=cloudpickle.dumps((call.function, call.argument)),
            log=call.output_dir / keeper.LOG_NAME,
            timeout_s=call.timeout_s,
            grace_s=self._grace_s,
            n_threads=call.n_threads,
            memory_mb=call.memory_mb,
        )
        with self._lock:
            if self._closed:
                raise RuntimeError("The executor is closed; nothing more can be submitted to it.")
            ticket = Ticket(number=next(self._numbers), output_dir=call.output_dir)
            self._calls[ticket.number] = self._start(ticket, order)
        return ticket

    def wait_any(
        self, timeout_s: float | None = None, *, tickets: Collection[Ticket] | None = None
    ) -> list[Finished]:
        """Wait until at least one call has ended; see the protocol."""
        with self._lock:
            numbers = self._calls if tickets is None else [each.number for each in tickets]
            calls = {
                self._calls[number].connection: self._calls[number]
                for number in numbers
                if number in self._calls
            }
        if not calls:
            return []
        ready = wait(list(calls), timeout_s)
        return [
            finished
            for connection, call in calls.items()
            if connection in ready and (finished := self._collect(call)) is not None
        ]

    def cancel(self, ticket: Ticket) -> bool:
        """Have a call killed; see the protocol."""
        with self._lock:
            call = self._calls.get(ticket.number)
        if call is None:
            return False
        with call.lock:
            if call.cancelled or call.connection.closed:
                return call.cancelled
            call.cancelled = True
            try:
                call.connection.send_bytes(keeper.CANCEL)
            except OSError:
                return False  # it has just ended by itself
        return True

    def close(self) -> None:
        """Kill all that still runs and wait for its end; calling it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        end_all(self, self._left, _CLOSE_LIMIT_S)
        self._template.close()
        atexit.unregister(self.close)

    def _left(self) -> list[Ticket]:
        with self._lock:
            return [call.ticket for call in self._calls.values()]

    def _start(self, ticket: Ticket, order: Order) -> _Running:
        begun_at_ms = time.time_ns() // 1_000_000
        try:
            connection = self._ask(order)
        except OSError:
            _log.warning("What iterations are forked from was killed; it is made anew.")
            self._template.close()
            self._template = Template.spawn(self._template.modules)
            connection = self._ask(order)
        return _Running(ticket=ticket, connection=connection, begun_at_ms=begun_at_ms)

    def _ask(self, order: Order) -> Connection:
        ours, theirs = Pipe(duplex=True)
        try:
            self._template.start(theirs)
            ours.send_bytes(pickle.dumps(order))
        except OSError:
            ours.close()
            raise
        return ours

    def _collect(self, call: _Running) -> Finished | None:
        """Read the report of a call that has ended, and forget it; None if another thread has."""
        with self._lock:
            if self._calls.pop(call.ticket.number, None) is None:
                return None
        report = _receive(call)
        with call.lock:
            call.connection.close()
        done = Finished(
            ticket=call.ticket,
            state=report.state,
            reason=report.reason,
            error_type=report.error_type,
            traceback_text=report.traceback_text,
            started_at_ms=report.started_at_ms,
            ended_at_ms=report.ended_at_ms,
        )
        return loaded(done, lambda: pickle.loads(report.payload))


def _receive(call: _Running) -> Report:
    report = None
    with suppress(EOFError, OSError):
        report = pickle.loads(call.connection.recv_bytes())
        call.connection.poll(None)  # its end: the keeper is gone too
    if isinstance(report, Report):
        return report
    return Report(
        state=IterationState.CANCELLED if call.cancelled else IterationState.CRASHED,
        reason="Its keeper process was killed, and the iteration with it.",
        started_at_ms=call.begun_at_ms,
        ended_at_ms=time.time_ns() // 1_000_000,
    )
