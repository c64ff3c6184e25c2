"""How commands and bytes reach a machine, whatever the machine: two small protocols."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

from mlflow_automl_remote.errors import CommandFailed, ConnectionLost

if TYPE_CHECKING:
    from types import TracebackType

SILENCE_S: Final = 20.0
"""After this long without a byte a connection that should be talking is given up."""
CONNECT_S: Final = 15.0
"""For each step of making a connection: TCP, banner, login, channel."""
READ_BYTES: Final = 256 * 1024
STDERR_TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedCommand:
    """What became of a command.

    Attributes:
        argv: The command, as a list.
        exit_status: Its exit status; None when it is not known, which is not the same as failed.
        stdout: All that it wrote to its standard output.
        stderr: The end of what it wrote to its standard error.
    """

    argv: tuple[str, ...]
    exit_status: int | None
    stdout: bytes
    stderr: str

    def check(self) -> Self:
        """Return this command if it succeeded.

        Raises:
            CommandFailed: It did not.
            ConnectionLost: How it ended is not known.
        """
        if self.exit_status is None:
            raise ConnectionLost(f"It is not known how {self.argv[0]!r} ended.")
        if self.exit_status != 0:
            raise CommandFailed(
                f"{self.argv[0]!r} ended with status {self.exit_status}: {self.stderr.strip()}",
                argv=self.argv,
                exit_status=self.exit_status,
                stderr=self.stderr,
            )
        return self


class Channel(Protocol):
    """The standard input and output of one command on a machine."""

    def read_some(self, max_bytes: int, timeout_s: float) -> bytes:
        """Return what there is, waiting for a first byte; b"" at the end.

        Raises:
            ConnectionLost: Nothing came in time, or the connection broke.
        """
        ...

    def write(self, data: bytes, timeout_s: float) -> None:
        """Write all of `data`.

        Raises:
            ConnectionLost: The other end took nothing in time, or is gone.
        """
        ...

    def finish_input(self) -> None:
        """Tell the command that its input ends here."""
        ...

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status once the output has ended; None when it is not known."""
        ...

    def stderr_tail(self) -> str:
        """Return the end of what the command wrote to its standard error."""
        ...

    def close(self) -> None:
        """Give the command up; closing twice is fine."""
        ...


class Transport(Protocol):
    """A machine that commands can be run on."""

    @property
    def label(self) -> str:
        """The machine, as a person would name it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the key by which the machine has shown who it is; empty where there is none."""
        ...

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a command and return the channel to it."""
        ...

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float
    ) -> CompletedCommand:
        """Run a command to its end."""
        ...

    def close(self) -> None:
        """Close every channel and the connection; closing twice is fine."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def run_over(
    channel: Channel, argv: Sequence[str], *, stdin: bytes, timeout_s: float
) -> CompletedCommand:
    """Run the command of an open channel to its end.

    Raises:
        ConnectionLost: It has not ended after `timeout_s`, or the connection broke.
    """
    deadline = time.monotonic() + timeout_s
    try:
        if stdin:
            channel.write(stdin, timeout_s)
        channel.finish_input()
        parts = []
        while part := channel.read_some(READ_BYTES, max(0.0, deadline - time.monotonic())):
            parts.append(part)
        status = channel.wait(max(0.0, deadline - time.monotonic()))
        return CompletedCommand(
            argv=tuple(argv),
            exit_status=status,
            stdout=b"".join(parts),
            stderr=channel.stderr_tail(),
        )
    finally:
        channel.close()
