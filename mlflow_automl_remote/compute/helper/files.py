"""What the helper does to files: whole or not at all, for this account only."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH102, PTH104, PTH105, PTH108, PTH112, PTH114, PTH118, PTH120
# ruff: noqa: PTH101, PTH123

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tarfile
import threading
import uuid
from typing import TYPE_CHECKING, cast

from mlflow_automl_remote.compute.helper.wire import CHUNK_BYTES, Inflow, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from mlflow_automl_remote.compute.helper.wire import Header

PLAIN_BYTES = 64 * 1024
GZIP_BYTES = 8 * 1024
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)


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


def receive_tree(request: Header, inflow: Inflow) -> int:
    """Unpack a tar stream aside, rename it into place, and return the number of files.

    The request has: `path`, where the tree belongs; `keep`, whether a tree that is there already
    stays or gives way; `plain`, whether the stream is not compressed; `store`, a folder that keeps
    files of `store_from` bytes and more, or ""; `links`, which of them belong where in the tree.
    """
    path, store = request["path"], request["store"]
    aside = f"{path}.tmp-{os.getpid()}"
    remove(aside)
    try:
        make_folder(aside)
        large = []
        n_files = 0
        for target, size in _extract(inflow, aside, plain=request["plain"]):
            n_files += 1
            if store and size >= request["store_from"] and not os.access(target, os.X_OK):
                large.append((target, size))
        inflow.drain()
        for name, stored in request["links"].items():
            _link(os.path.join(store, stored), _inside(aside, name))
        for target, size in large:
            _link(target, os.path.join(store, f"{size}-{uuid.uuid4().hex}"))
        if not (request["keep"] and os.path.isdir(path)):
            remove(path)
            os.rename(aside, path)
        sync_folder(os.path.dirname(path))
    finally:
        remove(aside)
    return n_files


def _inside(folder: str, name: str) -> str:
    """Give the path of a member of a tree.

    Raises:
        Refused: It would be outside.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise Refused(f"refused to unpack {name!r}")
    return os.path.join(folder, *parts)


def _link(source: str, target: str) -> None:
    """Let a file have a second name, and nobody write to it any more."""
    make_folder(os.path.dirname(target))
    os.chmod(source, 0o400)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copy2(source, target)


def digest(path: str) -> str:
    """Give the SHA-256 of a file; nothing for one that is not there or no plain file."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while True:
                part = file.read(CHUNK_BYTES)
                if not part:
                    return found.hexdigest()
                found.update(part)
    except OSError:
        return ""


def _extract(inflow: Inflow, folder: str, *, plain: bool) -> Iterator[tuple[str, int]]:
    """Unpack a stream; give path and size of each file."""
    known = set()
    source = cast("IO[bytes]", inflow)
    # tarfile copies what it has buffered at each read: small pieces of what will be decompressed
    with tarfile.open(
        fileobj=source,
        mode="r|" if plain else "r|gz",
        bufsize=PLAIN_BYTES if plain else GZIP_BYTES,
    ) as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise Refused(f"refused to unpack {member.name!r}")
            target = _inside(folder, member.name)
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
            yield target, member.size


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
