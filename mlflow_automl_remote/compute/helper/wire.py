"""Frames between a client and the helper, the same for both ends.

A frame is two unsigned 32-bit lengths, then a JSON header, then a payload of bytes. The client
sends requests one after the other; each is answered by frames of which the last has "ok" or
"error" in its header. While a request is under way a frame {"beat": 1} comes every few seconds, so
that silence means a dead connection.
"""

from __future__ import annotations

import json
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    Header = dict[str, Any]  # JSON of a dozen shapes; each request documents its own

FRAME = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 256 * 1024


class Refused(Exception):
    """The request cannot be done; the text is for the user."""


def encode(header: Header, payload: bytes = b"") -> bytes:
    """Make one frame."""
    text = json.dumps(header).encode("ascii")
    return FRAME.pack(len(text), len(payload)) + text + payload


def decode_lengths(data: bytes) -> tuple[int, int]:
    """Read the lengths of header and payload.

    Raises:
        ValueError: They are too large to be meant.
    """
    n_header, n_payload = FRAME.unpack(data)
    if n_header > MAX_HEADER_BYTES or n_payload > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a frame of {n_header} and {n_payload} bytes is not one of ours")
    return n_header, n_payload


class Wire:
    """The helper's end of the channel; replies may be written by several threads."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()

    def receive(self) -> tuple[Header, bytes] | None:
        """Return the next header and payload, or None when the client is gone."""
        lengths = self._source.read(FRAME.size)
        if len(lengths) < FRAME.size:
            return None
        n_header, n_payload = decode_lengths(lengths)
        header = self._source.read(n_header)
        payload = self._source.read(n_payload)
        if len(header) < n_header or len(payload) < n_payload:
            return None
        return json.loads(header.decode("utf-8")), payload

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Write one frame, whole."""
        with self._lock:
            self._sink.write(encode(header, payload))
            self._sink.flush()


class Inflow:
    """The payloads of the frames that follow a request, up to an empty one, as a readable stream.

    Attributes:
        n_bytes: What has arrived so far.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = memoryview(b"")  # of which a part is taken without a copy of the others
        self._ended = False
        self.n_bytes = 0

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer only at the end of the stream."""
        parts = []
        while size > 0 and not self._ended:
            if not self._rest:
                self._next()
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def chunks(self) -> Iterator[bytes]:
        """Give the whole stream in pieces."""
        while not self._ended:
            part = self.read(CHUNK_BYTES)
            if part:
                yield part

    def drain(self) -> None:
        """Read what is left, so that the next frame is a request again."""
        while not self._ended:
            self._next()

    def _next(self) -> None:
        frame = self._wire.receive()
        if frame is None:
            self._ended = True
            raise EOFError("the client went away in the middle of a transfer")
        self._rest = memoryview(frame[1])
        self.n_bytes += len(frame[1])
        self._ended = not frame[1]
