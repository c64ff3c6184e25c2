"""One event as one line of JSON with a schema version, a sequence number and a checksum, and back.

A line is `{"v":1,"seq":0,"time_ms":...,"type":"...","data":{...},"crc32":"........"}`; the
checksum is that of the line without its last field.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mlflow_automl_remote.errors import JournalFromNewerVersion
from mlflow_automl_remote.journal.events import EVENT_TYPES, Event

SCHEMA_VERSION: Final = 1
_TAIL: Final = b',"crc32":"%08x"}'
_TAIL_LENGTH: Final = len(_TAIL % 0)


class LineDamaged(ValueError):
    """A line is not one that `encode` wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An event in its place.

    Attributes:
        seq: Its position in the journal, from 0.
        time_ms: When it was recorded, in milliseconds since 1970, by the target's clock.
        event: What happened; None for a kind that only a newer version knows.
    """

    seq: int
    time_ms: int
    event: Event | None


_ADAPTERS: Final[Mapping[str, TypeAdapter[Event]]] = {
    name: TypeAdapter(kind) for name, kind in EVENT_TYPES.items()
}


def encode(record: Record) -> bytes:
    """Write a record as one line, the line feed included."""
    event = record.event
    if event is None:
        raise ValueError("A record without an event cannot be written.")
    envelope = {
        "v": SCHEMA_VERSION,
        "seq": record.seq,
        "time_ms": record.time_ms,
        "type": type(event).__name__,
        "data": _ADAPTERS[type(event).__name__].dump_python(event, mode="json"),
    }
    body = json.dumps(envelope, separators=(",", ":"), allow_nan=False).encode()
    return body[:-1] + _TAIL % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> Record:
    """Read a line without its line feed.

    Raises:
        LineDamaged: It is not what `encode` wrote.
        JournalFromNewerVersion: It is whole, but its schema is newer than this version knows.
    """
    envelope = _checked(line)
    if envelope["v"] > SCHEMA_VERSION:
        raise JournalFromNewerVersion(
            f"The journal has schema version {envelope['v']}; this mlflow-automl-remote reads "
            f"up to {SCHEMA_VERSION}. Upgrade it: pip install -U mlflow-automl-remote"
        )
    adapter = _ADAPTERS.get(envelope["type"])
    try:
        event = None if adapter is None else adapter.validate_python(envelope["data"])
    except ValidationError as error:
        raise LineDamaged(f"{envelope['type']}: {error.errors()[0]['msg']}") from error
    return Record(seq=envelope["seq"], time_ms=envelope["time_ms"], event=event)


def _checked(line: bytes) -> dict[str, Any]:
    """Give the envelope of a line whose checksum is right."""
    body = line[:-_TAIL_LENGTH] + b"}"
    if line[-_TAIL_LENGTH:] != _TAIL % zlib.crc32(body):
        raise LineDamaged("the checksum does not match")
    try:
        envelope = json.loads(body)
        if all(isinstance(envelope[key], int) for key in ("v", "seq", "time_ms")) and isinstance(
            envelope["type"], str
        ):
            return dict(envelope)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LineDamaged("the checksum matches, but it is not an event") from error
    raise LineDamaged("the checksum matches, but it is not an event")
