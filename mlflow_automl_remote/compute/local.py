"""This machine as a compute target: commands are child processes, bytes go through their pipes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from mlflow_automl_remote.compute.helper.processes import chosen_environment
from mlflow_automl_remote.compute.launching import KEPT_VARIABLES
from mlflow_automl_remote.compute.transport import (
    STDERR_TAIL_BYTES,
    CompletedCommand,
    run_over,
)
from mlflow_automl_remote.errors import ConnectFailed, ConnectionLost

if TYPE_CHECKING:
    from types import TracebackType

    from mlflow_automl_remote.compute.transport import Channel, Transport

LABEL = "this machine"


class LocalChannel:
    """Pipes to a child process in a session of its own, so that Ctrl-C is not sent to it.

    It gets of the environment what an agent gets, so that a password of the tracking server is not
    in there for all its life.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                env=chosen_environment((*KEPT_VARIABLES, "PYTHONPATH"), {}),
                bufsize=0,
            )
        except OSError as error:
            self._stderr.close()
            raise ConnectFailed(f"{argv[0]!r} cannot be run: {error.strerror}.") from error
        if self._process.stdin is None or self._process.stdout is None:
            raise ConnectFailed(f"{argv[0]!r} was started without pipes.")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def read_some(self, max_bytes: int, timeout_s: float) -> bytes:
        """See `Channel`."""
        if self._stdout.closed:
            raise ConnectionLost(f"The channel to {LABEL} was closed.")
        if not select.select([self._stdout], [], [], timeout_s)[0]:
            raise ConnectionLost(f"A command on {LABEL} said nothing for {timeout_s:.0f} s.")
        return os.read(self._stdout.fileno(), max_bytes)

    def write(self, data: bytes, timeout_s: float) -> None:
        """See `Channel`."""
        view = memoryview(data)
        try:
            while view:
                if not select.select([], [self._stdin], [], timeout_s)[1]:
                    raise ConnectionLost(
                        f"A command on {LABEL} read nothing for {timeout_s:.0f} s."
                    )
                view = view[os.write(self._stdin.fileno(), view) :]
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"A command on {LABEL} has ended: {error}.") from error

    def finish_input(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def wait(self, timeout_s: float) -> int | None:
        """See `Channel`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stderr_tail(self) -> str:
        """See `Channel`."""
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), STDERR_TAIL_BYTES, max(0, size - STDERR_TAIL_BYTES))
        return tail.decode("utf-8", "replace")

    def close(self) -> None:
        """See `Channel`."""
        self.finish_input()
        self._stdout.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if not self._stderr.closed:
            self._stderr.close()


class LocalTransport:
    """Runs commands on this machine."""

    label = LABEL
    fingerprint = ""

    def __init__(self) -> None:
        self._channels: list[LocalChannel] = []

    def open(self, argv: Sequence[str]) -> Channel:
        """See `Transport`."""
        channel = LocalChannel(argv)
        self._channels.append(channel)
        return channel

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float
    ) -> CompletedCommand:
        """See `Transport`."""
        return run_over(LocalChannel(argv), argv, stdin=stdin, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Transport`."""
        while self._channels:
            self._channels.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


if TYPE_CHECKING:
    _transport: Transport = LocalTransport()
