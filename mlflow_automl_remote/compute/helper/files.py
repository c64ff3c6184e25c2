"""What the helper does to files: whole or not at all, for this account only."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH102, PTH104, PTH105, PTH108, PTH112, PTH114, PTH118, PTH120

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import threading
from typing import TYPE_CHECKING, cast

from mlflow_automl_remote.compute.helper.wire import CHUNK_BYTES, Inflow, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO


PLAIN_BYTES = 64 * 1024
GZIP_BYTES = 8 * 1024


def make_folder(path: str) -> None:
    """Make a folder and its parents; the new ones are 0700."""
    parent = os.path.dirname(path)
    if parent and not os.path.isdir(parent):
        make_folder(parent)  # os.makedirs gives its mode to the last folder alone
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    if not os.path.isdir(path):
        raise Refused(f"{path} is in the way: it is not a folder")


def sync_folder(path: str) -> None:
    """Make a rename in a folder outlast a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def written_aside(path: str, mode: int) -> Iterator[IO[bytes]]:
    """Give a file to write to, that takes the place of `path` when all went well."""
    make_folder(os.path.dirname(path))
    aside = f"{path}.tmp-{os.getpid()}-{threading.get_ident()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(aside, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        remove(aside)
        raise
    sync_folder(os.path.dirname(path))


def put(path: str, content: bytes, mode: int) -> None:
    """Replace a file at once: write aside, fsync, rename."""
    with written_aside(path, mode) as file:
        file.write(content)


def receive_file(path: str, inflow: Inflow, sha256: str, mode: int) -> None:
    """Write a large file from a stream.

    Raises:
        Refused: It does not have the expected checksum.
    """
    digest = hashlib.sha256()
    with written_aside(path, mode) as file:
        for part in inflow.chunks():
            digest.update(part)
            file.write(part)
        if digest.hexdigest() != sha256:
            raise Refused("the file arrived damaged")


def receive_tree(path: str, inflow: Inflow, *, keep: bool, plain: bool) -> int:
    """Unpack a tar stream aside, rename it into place, and return the number of files.

    Args:
        path: Where the tree belongs.
        inflow: The stream.
        keep: Whether a tree that is there already stays, or gives way to the new one.
        plain: Whether the stream is not compressed.
    """
    aside = f"{path}.tmp-{os.getpid()}"
    remove(aside)
    try:
        make_folder(aside)
        n_files = _extract(inflow, aside, plain=plain)
        inflow.drain()
        if not (keep and os.path.isdir(path)):
            remove(path)
            os.rename(aside, path)
        sync_folder(os.path.dirname(path))
    finally:
        remove(aside)
    return n_files


def _extract(inflow: Inflow, folder: str, *, plain: bool) -> int:
    n_files = 0
    known = set()
    source = cast("IO[bytes]", inflow)
    # tarfile copies what it has buffered at each read: small pieces of what will be decompressed
    with tarfile.open(
        fileobj=source,
        mode="r|" if plain else "r|gz",
        bufsize=PLAIN_BYTES if plain else GZIP_BYTES,
    ) as archive:
        for member in archive:
            parts = member.name.split("/")
            is_usual = member.isfile() or member.isdir()
            if not is_usual or member.name.startswith("/") or ".." in parts:
                raise Refused(f"refused to unpack {member.name!r}")
            target = os.path.join(folder, *parts)
            if member.isdir():
                make_folder(target)
                continue
            parent = os.path.dirname(target)
            if parent not in known:
                make_folder(parent)
                known.add(parent)
            content = archive.extractfile(member)
            if content is not None:
                _write_member(content, target, member.mode)
            n_files += 1
    return n_files


def _write_member(source: IO[bytes], target: str, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600 | (mode & 0o100)), "wb") as file:
        shutil.copyfileobj(source, file, CHUNK_BYTES)


def read_part(path: str, offset: int, limit: int) -> tuple[bytes, int]:
    """Return up to `limit` bytes from `offset`, and the file's size; a missing one is empty."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b"", 0
    with os.fdopen(fd, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= offset:
            return b"", size
        file.seek(offset)
        return file.read(limit), size


def remove(path: str) -> None:
    """Remove a file or a tree; one that is not there is fine."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    shutil.rmtree(path)
