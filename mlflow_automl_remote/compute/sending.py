"""Sends a tree of files as one stream, without those of a good size that are there already."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.progress import TransferMeter
from mlflow_automl_remote.compute.project import (
    PackedFile,
    is_worth_compressing,
    write_archive,
)
from mlflow_automl_remote.errors import ConfigurationError

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control, Write

NEAR_S: Final = 0.003
"""Round trip of a request up to which a link is that of one room, or of one machine."""
STORED_BYTES: Final = 64 * 1024
"""From this size on a file is kept on the target, so that it need not be sent again."""
MAX_ALIKE: Final = 4
"""Files of one size on the target that are compared with one of ours."""


def send_files(
    control: Control,
    files: Sequence[PackedFile],
    place: PurePosixPath,
    meter: TransferMeter,
    *,
    keep: bool = False,
    store: PurePosixPath | None = None,
) -> int:
    """Send files as one stream, compressed where that pays; return what went over the channel.

    Args:
        control: The helper on the target.
        files: What is sent.
        place: Where the tree belongs.
        meter: Is told of each piece.
        keep: Whether a tree that is there already stays.
        store: Folder on the target of files by their contents; None sends all of them. A file of
            it is a link to its place in the tree, read-only.
    """
    begin = time.monotonic()
    control.request("status", paths=["/"])
    # zlib does 80 MB/s: on a link without distance it would be what is waited for
    is_far = time.monotonic() - begin > NEAR_S
    links = {} if store is None else _there_already(control, files, store)
    sent = tuple(file for file in files if file.name not in links)
    compress = is_far and is_worth_compressing(sent)

    def produce(write: Write) -> None:
        def metered(data: bytes) -> None:
            write(data)
            meter.add(len(data))

        write_archive(sent, metered, compress=compress)

    control.send_stream(
        "receive_tree",
        produce,
        path=str(place),
        keep=keep,
        plain=not compress,
        store="" if store is None else str(store),
        store_from=STORED_BYTES,
        links=links,
    )
    meter.finish()
    return meter.n_bytes


def _there_already(
    control: Control, files: Sequence[PackedFile], store: PurePosixPath
) -> Mapping[str, str]:
    """Give those files that the store has, by their names in the tree, with their names there.

    What is in the store is named by its size, and read again before it counts.
    """
    large = [file for file in files if file.size_bytes >= STORED_BYTES and not file.is_executable]
    if not large:
        return {}
    there: dict[int, list[str]] = {}
    for name in control.request("list", path=str(store))[0]["names"]:
        size = str(name).partition("-")[0]
        if size.isdigit():
            there.setdefault(int(size), []).append(str(name))
    alike = {name for file in large for name in there.get(file.size_bytes, ())[-MAX_ALIKE:]}
    if not alike:
        return {}
    reply = control.request("digests", folder=str(store), names=sorted(alike))[0]
    by_digest = {str(digest): name for name, digest in reply["digests"].items() if name in alike}
    ours = {file.name: _digest(file) for file in large if file.size_bytes in there}
    return {name: by_digest[digest] for name, digest in ours.items() if digest in by_digest}


def _digest(file: PackedFile) -> str:
    try:
        with file.path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"'{file.path}' cannot be sent: {error.strerror}.") from error
