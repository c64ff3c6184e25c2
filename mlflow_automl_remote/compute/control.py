"""The client's end of the control channel: starts the helper on a machine and asks it things."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.helper.wire import CHUNK_BYTES, FRAME, decode_lengths, encode
from mlflow_automl_remote.compute.transport import CONNECT_S, READ_BYTES, SILENCE_S
from mlflow_automl_remote.errors import (
    CommandFailed,
    ConnectionLost,
    EnvironmentSetupFailed,
    TransportError,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.helper.wire import Header
    from mlflow_automl_remote.compute.transport import Channel, Transport

Write = Callable[[bytes], None]
Produce = Callable[[Write], None]

BOOTSTRAP: Final = "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"
"""Understood by every Python 3, and quoted the same way by sh, csh and fish."""
MODULES: Final = (
    "wire",
    "files",
    "processes",
    "probe",
    "inventory",
    "boot",
    "containers",
    "ports",
    "server",
)
MIN_PYTHON: Final = (3, 8)
TOO_OLD_STATUS: Final = 86
NOT_FOUND_STATUS: Final = 127
START_S: Final = 30.0
"""For the helper to start; a slow disk or long start-up files are why it takes seconds."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Header of an answer, and half of its payload; more is not one of ours, and costs memory."""
MAX_NOISE_BYTES: Final = 1024 * 1024
"""What start-up files may print before the helper speaks."""


@functools.cache
def helper_source() -> str:
    """Return the helper as one program that makes its modules in memory, yet to be started."""
    package = __package__ + ".helper"
    folder = files(package)
    parts = [
        (f"{package}.{name}", (folder / f"{name}.py").read_text(encoding="utf-8"))
        for name in MODULES
    ]
    return (
        "import json, sys, types\n"
        f"if sys.version_info < {MIN_PYTHON}:\n"
        "    sys.stderr.write('Python %d.%d' % sys.version_info[:2])\n"
        f"    sys.exit({TOO_OLD_STATUS})\n"
        f"package = sys.modules[{package!r}] = types.ModuleType({package!r})\n"
        f"for name, source in json.loads({json.dumps(parts)!r}):\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    setattr(package, name.rpartition('.')[2], module)\n"
        "    exec(compile(source, name, 'exec'), module.__dict__)\n"
    )


class Control:
    """A helper that runs on a machine; not to be used by two threads at a time.

    Attributes:
        is_broken: Whether a request was left in the middle, so that no other may follow.
        noise: What start-up files printed before the helper spoke.
    """

    def __init__(self, transport: Transport, python: str) -> None:
        """Start the helper.

        Raises:
            EnvironmentSetupFailed: There is no `python`, or it is too old.
            ConnectionLost: The connection broke, or nothing came in time.
        """
        self._label = transport.label
        self._channel: Channel = transport.open([python, "-I", "-c", BOOTSTRAP])
        self._rest = b""
        self.noise = b""
        self.is_broken = False
        marker = f"automl-remote-{secrets.token_hex(16)}\n"
        program = f"{helper_source()}\nmodule.main({marker!r})\n".encode()
        try:
            with contextlib.suppress(ConnectionLost):  # it ended; why is found out below
                self._channel.write(b"%d\n%s" % (len(program), program), SILENCE_S)
            self._skip_noise(marker.encode(), python)
        except BaseException:
            self._channel.close()
            raise

    def _skip_noise(self, marker: bytes, python: str) -> None:
        deadline = time.monotonic() + START_S
        noise = b""
        while marker not in noise:
            part = self._channel.read_some(READ_BYTES, max(0.1, deadline - time.monotonic()))
            noise += part
            if not part:
                raise _not_started(self._channel, self._label, python)
            if len(noise) > MAX_NOISE_BYTES:
                raise ConnectionLost(
                    f"The start-up files of the shell on {self._label} print more than "
                    f"{MAX_NOISE_BYTES} bytes. Let them print nothing when there is no terminal."
                )
        self.noise, _, self._rest = noise.partition(marker)

    def request(
        self,
        do: str,
        payload: bytes = b"",
        *,
        on_frame: Callable[[Header], None] | None = None,
        **fields: object,
    ) -> tuple[Header, bytes]:
        """Ask for one thing, and return the header and payload of the last frame of the answer.

        Args:
            do: The request's name.
            payload: Bytes that go with it.
            on_frame: Gets the headers of the frames before the last.
            fields: The rest of the request's header.

        Raises:
            CommandFailed: The helper could not do it; the message says why.
            ConnectionLost: The connection broke.
        """
        return self.finish(self.begin(do, payload, **fields), on_frame)

    def begin(self, do: str, payload: bytes = b"", **fields: object) -> str:
        """Send a request of which the answer or more input is dealt with by the caller."""
        self.is_broken = True  # until its answer has been read to the end
        self._write(encode({"do": do, **fields}, payload))
        return do

    def send_stream(self, do: str, produce: Produce, **fields: object) -> Header:
        """Send a request with a stream of any length, and return the answer.

        Args:
            do: The request's name.
            produce: Called with a function that it gives the bytes to, in any pieces.
            fields: The rest of the request's header.
        """
        self.begin(do, b"", **fields)
        pending = bytearray()

        def write(data: bytes) -> None:
            if not pending and len(data) >= CHUNK_BYTES:
                self._write(encode({}, data))
                return
            pending.extend(data)
            if len(pending) >= CHUNK_BYTES:
                self._write(encode({}, bytes(pending)))
                pending.clear()

        produce(write)
        if pending:
            self._write(encode({}, bytes(pending)))
        self._write(encode({}))
        return self.finish(do)[0]

    def finish(
        self, do: str, on_frame: Callable[[Header], None] | None = None
    ) -> tuple[Header, bytes]:
        """Read the answer to its last frame."""
        for header, payload in self.frames(do):
            if "ok" in header:
                return header, payload
            if on_frame is not None:
                on_frame(header)
        raise ConnectionLost(f"The answer of {self._label} ended too early.")

    def frames(self, do: str) -> Iterator[tuple[Header, bytes]]:
        """Give the frames of an answer, the last one included.

        Raises:
            CommandFailed: The last one is an error.
        """
        while True:
            header, payload = self._read_frame()
            if "error" in header:
                self.is_broken = False
                raise CommandFailed(
                    f"{self._label}: {header['error']}",
                    argv=(do,),
                    exit_status=int(header.get("errno") or -1),
                )
            if "beat" in header:
                continue
            if "ok" in header:
                self.is_broken = False
                yield header, payload
                return
            yield header, payload

    def _read_frame(self) -> tuple[Header, bytes]:
        try:
            n_header, n_payload = decode_lengths(self._read(FRAME.size))
            if n_header > MAX_ANSWER_BYTES or n_payload > 2 * MAX_ANSWER_BYTES:
                raise ValueError(f"an answer of {n_header} and {n_payload} bytes")
            header = json.loads(self._read(n_header))
            if not isinstance(header, dict):
                raise ValueError("a header that is no object")  # noqa: TRY004 - like no JSON
        except (ValueError, RecursionError) as error:
            raise ConnectionLost(
                f"{self._label} sent something else than frames: {error}."
            ) from error
        return header, self._read(n_payload)

    def _read(self, n_bytes: int) -> bytes:
        parts = [self._rest]
        n_missing = n_bytes - len(self._rest)
        while n_missing > 0:
            part = self._channel.read_some(max(n_missing, READ_BYTES), SILENCE_S)
            if not part:
                raise ConnectionLost(
                    f"The connection to {self._label} was closed by the other side."
                )
            parts.append(part)
            n_missing -= len(part)
        data = b"".join(parts)
        self._rest = data[n_bytes:]
        return data[:n_bytes]

    def _write(self, data: bytes) -> None:
        self._channel.write(data, SILENCE_S)

    def close(self) -> None:
        """End the helper, and with it the command that it may be running."""
        self.is_broken = True
        self._channel.close()


def _not_started(
    channel: Channel, label: str, python: str
) -> TransportError | EnvironmentSetupFailed:
    """Say why the helper ended before it spoke."""
    status = channel.wait(CONNECT_S)
    words = channel.stderr_tail().strip()
    last = words.splitlines()[-1] if words else "nothing"
    if status == TOO_OLD_STATUS:
        return EnvironmentSetupFailed(
            f"'{python}' on {label} is {last}; {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer is "
            "needed. Install a newer one there, and name it with 'python' in the backend config."
        )
    if status == NOT_FOUND_STATUS or "not found" in last.lower():
        return EnvironmentSetupFailed(
            f"'{python}' was not found on {label}. Install it there (apt-get install python3), or "
            "name an interpreter with 'python' in the backend config."
        )
    if status is None:
        return ConnectionLost(f"The connection to {label} was lost while it was being set up.")
    return CommandFailed(
        f"'{python}' on {label} ended with status {status} before it could be used; "
        f"it said: {last}",
        argv=(python,),
        exit_status=status,
        stderr=words,
    )
