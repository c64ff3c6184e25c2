"""A container that is there for one command, as a transport with a channel to it."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self

from docker.errors import APIError

from mlflow_automl_remote.compute.transport import STDERR_TAIL_BYTES, CompletedCommand, run_over
from mlflow_automl_remote.errors import ConnectionLost

if TYPE_CHECKING:
    from types import TracebackType

    from docker import DockerClient

    from mlflow_automl_remote.compute.transport import Channel, Transport

HEADER_BYTES: Final = 8
STDERR: Final = 2


class ContainerChannel:
    """The attached streams of a container; closing it removes the container.

    Args:
        client: The engine.
        container_id: Created with an open input, and not started yet.
        label: For messages.
    """

    def __init__(self, client: DockerClient, container_id: str, label: str) -> None:
        self._client, self._id, self._label = client, container_id, label
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        self._attached = client.api.attach_socket(container_id, params=params)
        self._socket = socket.socket(fileno=os.dup(self._attached.fileno()))
        self._kind, self._left, self._buffer, self._stderr = 0, 0, b"", b""
        try:
            client.api.start(container_id)
        except BaseException:
            self.close()
            raise

    def read_some(self, max_bytes: int, timeout_s: float) -> bytes:
        """See `Channel`."""
        deadline = time.monotonic() + timeout_s
        while True:
            while self._left == 0 and len(self._buffer) >= HEADER_BYTES:
                header, self._buffer = self._buffer[:HEADER_BYTES], self._buffer[HEADER_BYTES:]
                self._kind, self._left = header[0], int.from_bytes(header[4:], "big")
            if self._left and self._buffer:
                n_bytes = min(self._left, max_bytes)
                part, self._buffer = self._buffer[:n_bytes], self._buffer[n_bytes:]
                self._left -= len(part)
                if self._kind != STDERR:
                    return part
                self._stderr = (self._stderr + part)[-STDERR_TAIL_BYTES:]
                continue
            try:
                if not select.select(
                    [self._socket], [], [], max(0.0, deadline - time.monotonic())
                )[0]:
                    raise ConnectionLost(
                        f"A command in {self._label} said nothing for {timeout_s:.0f} s."
                    )
                data = self._socket.recv(max_bytes)
            except (OSError, ValueError) as error:
                raise ConnectionLost(f"The channel to {self._label} was closed.") from error
            if not data:
                return b""
            self._buffer += data

    def write(self, data: bytes, timeout_s: float) -> None:
        """See `Channel`."""
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(data)
            self._socket.settimeout(None)
        except OSError as error:
            raise ConnectionLost(f"A command in {self._label} has ended: {error}.") from error

    def finish_input(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self, timeout_s: float) -> int | None:
        """See `Channel`."""
        try:
            return int(self._client.api.wait(self._id, timeout=math.ceil(timeout_s))["StatusCode"])
        except (APIError, OSError, KeyError):  # requests' errors are OSErrors; or it is removed
            return None

    def stderr_tail(self) -> str:
        """See `Channel`."""
        return self._stderr.decode("utf-8", "replace")

    def close(self) -> None:
        """See `Channel`."""
        self._socket.close()
        response = getattr(self._attached, "_response", None)
        if response is not None:  # the SDK leaves it open, and with it the socket
            response.close()
        self._attached.close()
        with contextlib.suppress(APIError, OSError):  # it removes itself, too
            self._client.api.remove_container(self._id, force=True)


class ContainerTransport:
    """Runs each command in a new container.

    Args:
        client: The engine.
        create: Creates a container for a command and gives its id.
        label: For messages.
    """

    fingerprint = ""

    def __init__(
        self, client: DockerClient, create: Callable[[Sequence[str]], str], label: str
    ) -> None:
        self._client, self._create, self.label = client, create, label

    def open(self, argv: Sequence[str]) -> Channel:
        """See `Transport`."""
        return ContainerChannel(self._client, self._create(argv), self.label)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float
    ) -> CompletedCommand:
        """See `Transport`."""
        return run_over(self.open(argv), argv, stdin=stdin, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Transport`; channels are closed by whoever opened them."""

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
    _transport: type[Transport] = ContainerTransport
