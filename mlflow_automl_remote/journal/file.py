"""The journal as a file: append an event, and read from an offset."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mlflow_automl_remote.errors import JournalCorrupted
from mlflow_automl_remote.journal.codec import LineDamaged, Record, decode, encode
from mlflow_automl_remote.journal.events import Event

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""No honest event comes near it; more than this without a line feed is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a journal has been read: everything before `offset` was whole."""

    offset: int = 0
    n_lines: int = 0


def read(data: bytes, cursor: Cursor | None = None) -> tuple[list[Record], Cursor]:
    """Read what follows a cursor.

    A last line that is not whole is left for the next call: it may still be in the making. So
    read on from the returned cursor's offset, not from the end of `data`.

    Args:
        data: The bytes of the journal from `cursor.offset` on; they may end anywhere.
        cursor: Where `data` begins; the start of the journal by default.

    Returns:
        The whole records in order, and the cursor after them.

    Raises:
        JournalCorrupted: A line that is not the last one is damaged or out of sequence.
        JournalFromNewerVersion: The journal has a schema that this version does not know.
    """
    offset, n_lines = (cursor.offset, cursor.n_lines) if cursor else (0, 0)
    records: list[Record] = []
    lines = data.split(b"\n")
    if len(lines[-1]) > MAX_LINE_BYTES:
        raise _corrupted(n_lines + len(lines), f"it is longer than {MAX_LINE_BYTES} bytes")
    for position, line in enumerate(lines[:-1]):
        try:
            record = decode(line)
            if record.seq != n_lines:
                raise LineDamaged(f"event {n_lines} was expected, got {record.seq}")
        except LineDamaged as damage:
            if not any(lines[position + 1 :]):
                break
            raise _corrupted(n_lines + 1, str(damage)) from damage
        records.append(record)
        offset += len(line) + 1
        n_lines += 1
    return records, Cursor(offset=offset, n_lines=n_lines)


def _corrupted(line_number: int, why: str) -> JournalCorrupted:
    message = (
        f"Line {line_number} of the journal is damaged: {why}. What comes before it is whole."
    )
    return JournalCorrupted(message, line_number=line_number)


class JournalWriter:
    """Appends events to a journal; one process at a time has one.

    An event counts once `append` has returned: it is then on disk. Opening an existing journal
    goes on after its last whole event; a torn last line is moved to a file beside it.

    Args:
        path: The journal; made when it is missing.
        now_ms: Clock in milliseconds since 1970.

    Raises:
        JournalCorrupted: An existing journal is damaged in the middle.
    """

    def __init__(self, path: Path, *, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.records = self._recover(path)
        except BaseException:
            os.close(self._fd)
            raise
        self._next_seq = len(self.records)
        self._size = os.fstat(self._fd).st_size
        _sync_folder(path.parent)

    def append(self, event: Event) -> Record:
        """Write an event and wait until it is on disk.

        Raises:
            OSError: It cannot be written; the journal is as it was, and can be written to again.
        """
        record = Record(seq=self._next_seq, time_ms=self._now_ms(), event=event)
        line = encode(record)
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._next_seq += 1
        return record

    def close(self) -> None:
        """Close the file; `append` cannot be called any more."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _recover(self, path: Path) -> list[Record]:
        data = path.read_bytes()
        records, cursor = read(data)
        if cursor.offset < len(data):
            torn = path.with_name(f"{path.name}.torn-{cursor.n_lines}")
            torn.write_bytes(data[cursor.offset :])
            os.ftruncate(self._fd, cursor.offset)
            os.fsync(self._fd)
        return records


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its contents."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
