"""Brings files from a target in one stream, and trusts neither their names nor their contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.errors import ArtifactRefused, CommandFailed, LocalDiskFailed
from mlflow_automl_remote.journal.events import ArtifactFile

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control

MAX_FILES: Final = 100_000
MAX_PATH_LENGTH: Final = 1024
MAX_NAME_BYTES: Final = 255
MAX_FILE_BYTES: Final = 64 * 1024**3


def check_names(files: Sequence[ArtifactFile]) -> None:
    """Accept a list of files that a target has named.

    Raises:
        ArtifactRefused: One has a name that could lead out of a folder or fool a terminal, a size
            that cannot be, or there are too many.
    """
    if len(files) > MAX_FILES:
        raise ArtifactRefused(
            f"The target lists {len(files)} files; at most {MAX_FILES} are taken."
        )
    for file in files:
        if not _is_plain_name(file.path):
            raise ArtifactRefused(
                f"The target names a file {file.path[:200]!r}, which is not a plain "
                "relative path. It was not brought here."
            )
        if not 0 <= file.size_bytes <= MAX_FILE_BYTES:
            raise ArtifactRefused(
                f"The target gives {file.path!r} a size of {file.size_bytes} bytes."
            )
    if len({file.path for file in files}) != len(files):
        raise ArtifactRefused("The target names one file twice.")


def _is_plain_name(path: str) -> bool:
    if not path or len(path) > MAX_PATH_LENGTH or "\\" in path or not path.isprintable():
        return False
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return False
    try:
        return all(len(part.encode()) <= MAX_NAME_BYTES for part in parts)
    except UnicodeEncodeError:
        return False


def fetch_files(
    control: Control,
    folder: PurePosixPath,
    files: Sequence[ArtifactFile],
    into: Path,
    on_bytes: Callable[[int], None],
) -> None:
    """Bring files into a folder; those that are there already, whole, are not brought again.

    Args:
        control: The helper on the target.
        folder: On the target; the names are relative to it.
        files: With the sizes and checksums that they were recorded with.
        into: On this machine.
        on_bytes: Is told the size of each piece that arrives.

    Raises:
        ArtifactRefused: A name, a size or a checksum is not as it should be. What is whole stays.
    """
    check_names(files)
    missing = [file for file in files if not _is_whole(into / file.path, file)]
    if not missing:
        return
    control.begin("send_files", folder=str(folder), names=[file.path for file in missing])
    frames = control.frames("send_files")
    expected = iter(missing)
    try:
        for header, _payload in frames:
            if "ok" in header:
                break
            file = next(expected, None)
            if file is None or header.get("name") != file.path:
                raise ArtifactRefused("The target sent another file than it was asked for.")
            if header.get("size") != file.size_bytes:
                raise ArtifactRefused(_changed(file, f"has {header.get('size')} bytes"))
            _receive(file, (payload for _, payload in frames), into / file.path, on_bytes)
    except CommandFailed as error:
        raise ArtifactRefused(f"A recorded file is not there any more. {error}") from error
    if next(expected, None) is not None:
        raise ArtifactRefused("The target sent fewer files than it was asked for.")


def _receive(
    file: ArtifactFile,
    chunks: Iterator[bytes],
    place: Path,
    on_bytes: Callable[[int], None],
) -> None:
    """Write one file aside, and rename it once its size and checksum are right."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f"{place.name[:200]}.part")
    aside.unlink(missing_ok=True)
    digest = hashlib.sha256()
    left = file.size_bytes
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(aside, flags, 0o600), "wb") as target:
            while left:
                chunk = next(chunks, b"")
                if not chunk or len(chunk) > left:
                    raise ArtifactRefused(_changed(file, "came with another size"))
                digest.update(chunk)
                target.write(chunk)
                left -= len(chunk)
                on_bytes(len(chunk))
        if digest.hexdigest() != file.sha256:
            raise ArtifactRefused(_changed(file, f"has SHA-256 {digest.hexdigest()}"))
        aside.replace(place)
    except OSError as error:
        raise LocalDiskFailed(
            f"What the target sent cannot be kept in {place.parent}: {error.strerror or error}. "
            "Make room or name another folder with TMPDIR; then follow the sweep: it goes on."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _is_whole(path: Path, file: ArtifactFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256


def _changed(file: ArtifactFile, how: str) -> str:
    return (
        f"{file.path!r} on the target {how}; it was recorded with {file.size_bytes} bytes and "
        f"SHA-256 {file.sha256}. It was changed after it was recorded, and is not used."
    )
