"""Folders as values that travel between the nodes of a cluster, piece by piece if they are large.

Knows not Ray, but functions that put bytes into its object store and get them out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

PIECE_BYTES: Final = 32 << 20
"""Of a large file, what is in memory at a time."""
INLINE_BYTES: Final = 1 << 20
"""A folder up to this size travels within the message itself."""

Put = Callable[[bytes], Any]
Get = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelFile:
    """A file of a folder.

    Attributes:
        name: Relative to the folder, with `/` between its parts.
        pieces: Its bytes, or references to them in the object store.
    """

    name: str
    pieces: tuple[Any, ...]


Parcel = tuple[ParcelFile, ...]


def pack(folder: Path, put: Put, *, leave_out: Collection[str] = ()) -> Parcel:
    """Take up all regular files of a folder; nothing if it is not there.

    Args:
        folder: What to take up.
        put: Puts bytes into the object store and gives a reference.
        leave_out: Folders in it that are not taken up, by their relative paths.
    """
    files = [path for path in _files(folder) if not _is_in(path.relative_to(folder), leave_out)]
    is_small = sum(path.stat().st_size for path in files) <= INLINE_BYTES
    return tuple(
        ParcelFile(
            name=path.relative_to(folder).as_posix(),
            pieces=tuple(piece if is_small else put(piece) for piece in _pieces(path)),
        )
        for path in files
    )


def unpack(parcel: Parcel, folder: Path, get: Get, *, append: Collection[str] = ()) -> None:
    """Write the files of a parcel into a folder.

    Args:
        parcel: What `pack` took up.
        folder: Made if need be; files that have the same name are replaced.
        get: Gets bytes out of the object store by their reference.
        append: Names of files that go on where one of the same name ends.

    Raises:
        ValueError: A file would be outside of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in parcel:
        name = PurePosixPath(file.name)
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"'{file.name}' is not the name of a file in a folder.")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if file.name in append else "wb") as opened:
            for piece in file.pieces:
                opened.write(piece if isinstance(piece, bytes) else get(piece))


def version_of(folder: Path) -> str:
    """Name what is in a folder, by the names, sizes and times of its files."""
    digest = hashlib.sha256()
    for path in _files(folder):
        status = path.stat()
        about = f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(about.encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_in(path: Path, folders: Collection[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
