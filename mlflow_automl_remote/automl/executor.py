"""What a sweep asks of whatever runs its functions in processes of their own.

A failing function is a value, never an exception. Knows no place where they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from mlflow_automl_remote.states import IterationState

MOST_LOST: Final = 2
"""How often a call runs again because its machine was lost: it may be why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function to be run in a process of its own.

    Attributes:
        function: Picklable; a function of a script's `__main__` works too.
        argument: Picklable.
        output_dir: Made if need be; `iteration.log` in it gets all output. What the function
            leaves in it is there when the call is given by `wait_any`.
        reads: Folders that the function reads, which are not written to meanwhile.
        timeout_s: The hard limit, or None.
        n_threads: Threads that native libraries may use.
        memory_mb: Megabytes that it and all that it starts may use beyond what they share with the
            process they are forked from; None for no limit.
    """

    function: Callable[[Any], object]
    argument: object
    _: KW_ONLY
    output_dir: Path
    reads: Collection[Path] = ()
    timeout_s: float | None = None
    n_threads: int = 1
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Stands for one call that was submitted.

    Attributes:
        number: Counts the calls of an executor.
        output_dir: The folder of its log.
    """

    number: int
    output_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a call ended.

    Attributes:
        ticket: Of the call.
        state: COMPLETED, or how it failed; never RUNNING.
        value: What the function returned; None unless COMPLETED.
        reason: One line; empty if COMPLETED.
        error_type: Name of the exception's class, if one was raised.
        traceback_text: Of that exception.
        started_at_ms: Milliseconds since 1970.
        ended_at_ms: Milliseconds since 1970, when the whole process tree was gone.
        node: Name of the machine that ran it; empty if there is only one.
        is_lost: Whether it ended because that machine was lost: another can run it again.
    """

    ticket: Ticket
    state: IterationState
    value: object = None
    reason: str = ""
    error_type: str = ""
    traceback_text: str = ""
    started_at_ms: int
    ended_at_ms: int
    node: str = ""
    is_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What there is to run calls on, at this moment.

    Attributes:
        n_cores: Of all machines together.
        n_cores_of_one: Of the largest machine: no call gets more.
        memory_bytes: That may still be used; None if it is not known.
        is_reserved: Whether calls wait until their cores are free; else all begin at once.
    """

    n_cores: int
    n_cores_of_one: int
    memory_bytes: int | None = None
    is_reserved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process is asked for.

    Attributes:
        function: Picklable.
        argument: Of it.
        reads: Folders that it reads.
        limit_s: Its own limit of time in seconds, if it has one.
    """

    function: Callable[[Any], object]
    argument: object
    reads: tuple[Path, ...]
    limit_s: float | None = None


class Executor(Protocol):
    """Runs picklable functions of one argument, each in a process of its own.

    All methods may be called from any thread. Use it as a context manager: leaving it kills what
    still runs.
    """

    def capacity(self) -> Capacity:
        """Say what there is to run calls on now; how many run at a time is the caller's choice."""
        ...

    def usage(self) -> Mapping[str, Mapping[str, float]]:
        """Say how busy the other machines are that it uses, by their name; see `Usage.read`."""
        ...

    def submit(self, call: Call) -> Ticket:
        """Begin to run a call.

        Raises:
            RuntimeError: The executor is closed.
            Exception: The function or the argument cannot be pickled.
        """
        ...

    def wait_any(
        self, timeout_s: float | None = None, *, tickets: Collection[Ticket] | None = None
    ) -> list[Finished]:
        """Wait until at least one call has ended, and give those that have; each is given once.

        Args:
            timeout_s: Give an empty list after that long; None waits for as long as it takes.
            tickets: Only these calls; None means all. Empty at once when there is none.
        """
        ...

    def cancel(self, ticket: Ticket) -> bool:
        """Have a call killed with all that it started; `wait_any` gives it once that is done.

        Returns:
            Whether it was still running, as far as is known.
        """
        ...

    def close(self) -> None:
        """Kill all that still runs and wait for its end; calling it again does nothing."""
        ...

    def run(self, call: Call) -> Finished:
        """Submit and wait."""
        return self.wait_any(tickets=(self.submit(call),))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def loaded(done: Finished, load: Callable[[], object]) -> Finished:
    """Give a call with what its function returned; if that cannot be loaded, it has failed.

    Args:
        done: How it ended, without a value.
        load: Gives the value; not called unless it is COMPLETED.
    """
    if done.state is not IterationState.COMPLETED:
        return done
    try:
        return replace(done, value=load())
    # Loading runs code of the result's own class, the user's: whatever it raises is a value.
    except Exception as error:  # noqa: BLE001 - any failure is
        reason = f"Its result cannot be loaded: {type(error).__name__}: {error}"
        return replace(done, state=IterationState.FAILED, reason=reason)


def end_all(executor: Executor, running: Callable[[], Collection[Ticket]], limit_s: float) -> None:
    """Cancel calls, and wait for their ends.

    Args:
        executor: That runs them.
        running: Gives those that have not been given by `wait_any` yet.
        limit_s: Seconds to wait.
    """
    for ticket in running():
        executor.cancel(ticket)
    deadline = time.monotonic() + limit_s
    while running() and time.monotonic() < deadline:
        executor.wait_any(1.0)
