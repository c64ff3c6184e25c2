"""The keeper: a small process that runs one function in a worker of its own and answers for it.

It ends the worker, and everything that the worker started, at a time limit, when asked to, or when
the process that asked for the work is gone. It always answers, whatever happens to the worker.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final

import cloudpickle
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlflow_automl_remote.automl import process_tree
from mlflow_automl_remote.automl.template import THREAD_VARIABLES
from mlflow_automl_remote.errors import AutoMLRemoteError
from mlflow_automl_remote.states import IterationState

LOG_NAME: Final = "iteration.log"
CANCEL: Final = b"cancel"
_LEFTOVER_GRACE_S: Final = 0.5  # for what a worker that ended by itself left behind
_MEMORY_POLL_S: Final = 0.1  # between two looks at the memory of a worker that has a limit
MAX_PROCESSES: Final = 64 + 4 * (os.cpu_count() or 1)
"""A worker that has started more is a fork bomb, and is killed: no library starts so many."""
_CROWD_POLL_S: Final = 0.2  # between two looks at how many processes there are
_BYTES_PER_MB: Final = 1_000_000
MAX_LOG_BYTES: Final = 32 << 20
"""Of a log while it is written to; a longer one loses its middle, again and again."""
_LOG_HEAD_BYTES: Final = 1 << 20
_LOG_TAIL_BYTES: Final = 64 << 10
MAX_RESULT_BYTES: Final = 64 << 20
"""Of what a function returns, pickled: whoever asked holds it in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a keeper is asked for.

    Attributes:
        payload: A pickled pair of function and argument.
        log: File for everything that the worker writes.
        timeout_s: The hard limit, or None.
        grace_s: Between SIGTERM and SIGKILL.
        n_threads: Threads that native libraries may use.
        memory_mb: Megabytes that the worker and all that it starts may use, or None.
    """

    payload: bytes
    log: Path
    timeout_s: float | None
    grace_s: float
    n_threads: int
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the worker ended.

    Attributes:
        state: Any but RUNNING.
        payload: The pickled result; empty unless COMPLETED.
        reason: One line; empty if COMPLETED.
        error_type: Name of the exception's class, if one was raised.
        traceback_text: Of that exception.
        started_at_ms: Milliseconds since 1970 at which the worker began; the keeper puts it in.
        ended_at_ms: Milliseconds since 1970 at which it had ended; likewise.
    """

    state: IterationState
    payload: bytes = b""
    reason: str = ""
    error_type: str = ""
    traceback_text: str = ""
    started_at_ms: int = 0
    ended_at_ms: int = 0


def keep(connection: Connection) -> None:
    """Run the pickled `Order` that comes and send one pickled `Report`.

    The main function of a keeper's process, which ends when it returns.
    """
    try:
        order: Order = pickle.loads(connection.recv_bytes())
    except EOFError:
        return  # whoever asked is gone
    os.setsid()  # Ctrl-C in a terminal is for the process that asked, not for its iterations
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process_tree.become_subreaper()
    _redirect_output(order.log)
    oom_kills = _count_oom_kills()
    started_at_ms = _now_ms()
    report_file = os.memfd_create("report")
    worker = _fork_worker(order, report_file, connection)
    ended_by, left_out = _watch(connection, worker, order)
    grace_s = order.grace_s if ended_by is not None else _LEFTOVER_GRACE_S
    if ended_by is IterationState.CRASHED:
        grace_s = 0.0  # a fork bomb grows while it is asked
    statuses: dict[int, int] = {}
    process_tree.kill_descendants(grace_s, reaped=statuses.__setitem__)
    _bound(order.log, left_out)  # what was written faster than it was looked at
    if ended_by is not None:
        report = Report(state=ended_by, reason=_reason(ended_by, order))
    else:
        killed_for_memory = _count_oom_kills() > oom_kills
        report = _read_report(report_file) or _post_mortem(statuses.get(worker), killed_for_memory)
    report = replace(report, started_at_ms=started_at_ms, ended_at_ms=_now_ms())
    with suppress(OSError):  # nobody is left to hear it
        connection.send_bytes(pickle.dumps(report))


def _watch(connection: Connection, worker: int, order: Order) -> tuple[IterationState | None, int]:
    """Wait for the end of the worker (None), a limit of it, or the wish to cancel it.

    CRASHED stands for a worker that has started far too many processes. The number is that of the
    bytes that were cut out of its log.
    """
    pidfd = os.pidfd_open(worker)
    end = None if order.timeout_s is None else time.monotonic() + order.timeout_s
    shared = process_tree.private_bytes() if order.memory_mb is not None else 0
    crowd = process_tree.tasks_of_machine() + MAX_PROCESSES
    poll_s = _CROWD_POLL_S if order.memory_mb is None else _MEMORY_POLL_S
    left_out = 0
    while True:
        if _is_long(order.log):
            with process_tree.stopped(worker):  # what it wrote while it is cut would be lost
                left_out = _bound(order.log, left_out)
        left_s = poll_s if end is None else min(poll_s, max(0.0, end - time.monotonic()))
        ready = wait([connection, pidfd], left_s)
        if ready:
            # If not the worker, it is the word to cancel, or the end of who would have said it.
            return (None if pidfd in ready else IterationState.CANCELLED), left_out
        if end is not None and time.monotonic() >= end:
            return IterationState.TIMED_OUT, left_out
        if order.memory_mb is not None and _uses_more(order.memory_mb, shared):
            return IterationState.OUT_OF_MEMORY, left_out
        if process_tree.tasks_of_machine() > crowd and _has_too_many():
            return IterationState.CRASHED, left_out


def _is_long(log: Path) -> bool:
    try:
        return log.stat().st_size > MAX_LOG_BYTES
    except OSError:  # the user's code has removed it
        return False


def _bound(log: Path, left_out: int) -> int:
    """Cut the middle out of a log that has grown too long; who writes to it goes on at its end.

    Nobody should write to it meanwhile.

    Args:
        log: The file.
        left_out: Bytes that were cut out of it before.

    Returns:
        Bytes that were cut out of it so far.
    """
    with suppress(OSError), log.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_LOG_BYTES:
            tail = os.pread(file.fileno(), _LOG_TAIL_BYTES, size - _LOG_TAIL_BYTES)
            left_out += size - _LOG_HEAD_BYTES - len(tail)
            note = b"\n[... %d bytes were left out ...]\n" % left_out
            file.truncate(_LOG_HEAD_BYTES)
            with log.open("ab") as end:
                end.write(note + tail)
    return left_out


def _has_too_many() -> bool:
    return len(process_tree.descendants()) > MAX_PROCESSES


def _uses_more(memory_mb: int, shared: int) -> bool:
    """Whether the worker and what it started use more, what they share with it not counted."""
    used = process_tree.private_bytes_of_descendants() - shared
    return used > memory_mb * _BYTES_PER_MB


def _reason(state: IterationState, order: Order) -> str:
    if state is IterationState.TIMED_OUT:
        return f"Killed at its time limit of {order.timeout_s:g} s."
    if state is IterationState.OUT_OF_MEMORY:
        return f"Killed at its memory limit of {order.memory_mb} MB (mem_in_mb)."
    if state is IterationState.CRASHED:
        return f"Killed because it had started more than {MAX_PROCESSES} processes."
    return "Cancelled on request."


def _fork_worker(order: Order, report_file: int, connection: Connection) -> int:
    keeper = os.getpid()
    worker = os.fork()
    if worker:
        return worker
    try:
        os.setpgid(0, 0)  # a group that can be killed at a stroke, without the keeper
        process_tree.die_with_parent(keeper)
        connection.close()
        _write_report(report_file, _run(order))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # nothing of the keeper's own clean-up may run here


def _prepare_worker(n_threads: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
    if n_threads > 1:  # the template has loaded the libraries with one
        threadpool_limits(n_threads)


def _run(order: Order) -> Report:
    """Call the function; whatever comes of it is a report."""
    try:
        _prepare_worker(order.n_threads)
        function, argument = pickle.loads(order.payload)
        result: object = function(argument)
        payload = cloudpickle.dumps(result)
        if len(payload) > MAX_RESULT_BYTES:
            return Report(state=IterationState.FAILED, reason=_too_large(len(payload)))
        return Report(state=IterationState.COMPLETED, payload=payload)
    except BaseException as error:  # noqa: BLE001 - the worker's edge: any failure is a value
        with suppress(OSError):  # the disk of the log is full
            traceback.print_exc()
        return _describe(error)


def _too_large(n_bytes: int) -> str:
    return (
        f"Its result has {n_bytes / 1e6:,.0f} MB, more than the {MAX_RESULT_BYTES / 1e6:,.0f} MB "
        "that may be given back; write it to a file of its folder."
    )


def _describe(error: BaseException) -> Report:
    name = type(error).__name__
    text = " ".join(str(error).split())
    out_of_memory = isinstance(error, MemoryError) or "bad_alloc" in text
    ours = isinstance(error, AutoMLRemoteError)
    return Report(
        state=IterationState.OUT_OF_MEMORY if out_of_memory else IterationState.FAILED,
        reason=text if ours else f"{name}: {text}".rstrip(": "),
        error_type=name,
        traceback_text="".join(traceback.format_exception(error)),
    )


def _write_report(report_file: int, report: Report) -> None:
    with os.fdopen(report_file, "wb") as file:
        pickle.dump(report, file)


def _read_report(report_file: int) -> Report | None:
    """Give the worker's report, or None if it ended before it had written all of it."""
    with os.fdopen(report_file, "rb") as file:
        file.seek(0)
        try:
            report = pickle.load(file)
        except (EOFError, pickle.UnpicklingError):
            return None
    return report if isinstance(report, Report) else None


def _post_mortem(status: int | None, killed_for_memory: bool) -> Report:
    """Say how a worker ended that gave no report."""
    code = os.waitstatus_to_exitcode(status) if status is not None else 0
    if code == -signal.SIGKILL and killed_for_memory:
        return Report(
            state=IterationState.OUT_OF_MEMORY,
            reason="Killed by the kernel: the machine or its container had no memory left.",
        )
    if code < 0:
        return Report(
            state=IterationState.CRASHED, reason=f"Ended by {signal.Signals(-code).name}."
        )
    return Report(
        state=IterationState.CRASHED, reason=f"Ended without an answer, with exit code {code}."
    )


def _redirect_output(log: Path) -> None:
    """Send what this process and its descendants write to the log, native code included."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    os.close(file)
    os.close(nothing)


def _count_oom_kills() -> int:
    """Give the kernel's count of processes killed for memory, by machine or container limit."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
