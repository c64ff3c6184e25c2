"""Packs the user's project folder into one stream, leaving out what is not wanted on a target."""

from __future__ import annotations

import contextlib
import gzip
import io
import logging
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from mlflow_automl_remote.errors import ConfigurationError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_log = logging.getLogger(__name__)

IGNORE_FILES: Final = (".mlflowignore", ".gitignore")
"""The first that exists is honoured, alone."""
BUILT_IN: Final = (
    ".git/",
    ".hg/",
    ".svn/",
    "__pycache__/",
    "*.pyc",
    ".venv/",
    "venv/",
    ".tox/",
    ".nox/",
    "node_modules/",
    "mlruns/",
    "mlartifacts/",
    "mlflow.db*",
    "*.egg-info/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".pytest_cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    ".DS_Store",
)
"""Left out unless the ignore file takes one back with `!`."""
GZIP_LEVEL: Final = 1
"""81 MB/s at a ratio of 3; level 9, tarfile's own choice, does 3 MB/s at 4.2."""
COPY_BYTES: Final = 256 * 1024
SAMPLE_BYTES: Final = 64 * 1024
WORTH: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """A file of the project: its name on the target, and where it is."""

    name: str
    path: Path
    size_bytes: int
    is_executable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What of a project folder goes to the target.

    Attributes:
        folder: The project folder.
        files: In order of their names.
        skipped: Links that lead out of the folder or to folders, and things that are no files.
    """

    folder: Path
    files: tuple[PackedFile, ...]
    skipped: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        """The size of all files, before compression."""
        return sum(file.size_bytes for file in self.files)


_WHAT: Final = {"data_script": "data script", "training_data": "file of training data"}
_REMEDY: Final = {"data_script": "Write it with a function get_data()"}


def scan_project(folder: Path, needed: Mapping[str, str]) -> Project:
    """Choose the files of a project.

    Args:
        folder: The project folder.
        needed: Files that have to be among them, relative to the folder, by their setting.

    Raises:
        ConfigurationError: There is no such folder, or no such file in it, or it is ignored.
    """
    from pathspec import GitIgnoreSpec  # not on targets, which only take projects

    if not folder.is_dir():
        raise ConfigurationError(f"The project folder '{folder}' does not exist.")
    ignore_file = next((name for name in IGNORE_FILES if (folder / name).is_file()), None)
    lines = (
        (folder / ignore_file).read_text("utf-8", "replace").splitlines() if ignore_file else ()
    )
    spec = GitIgnoreSpec.from_lines([*BUILT_IN, *lines])
    files: list[PackedFile] = []
    skipped: list[str] = []
    for name, path in _walk(folder, "", spec):
        packed = _packed(name, path, folder)
        if packed is None:
            skipped.append(name)
        else:
            files.append(packed)
    if skipped:
        _log.warning("Not sent, because they lead out of %s: %s", folder, ", ".join(skipped[:10]))
    names = {file.name for file in files}
    for setting, name in needed.items():
        if name not in names:
            raise ConfigurationError(_why_missing(folder, setting, name, ignore_file))
    return Project(
        folder=folder,
        files=tuple(sorted(files, key=lambda file: file.name)),
        skipped=tuple(skipped),
    )


def _walk(folder: Path, prefix: str, spec: GitIgnoreSpec) -> Iterator[tuple[str, Path]]:
    """Give (name in the project, path) of everything but folders and what is ignored."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigurationError(
            f"The folder '{folder}' cannot be read: {error.strerror}."
        ) from error
    for entry in entries:
        name = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if not spec.match_file(name + "/"):
                yield from _walk(Path(entry.path), name + "/", spec)
        elif not spec.match_file(name):
            yield name, Path(entry.path)


def _packed(name: str, path: Path, folder: Path) -> PackedFile | None:
    """Describe a file; None for what cannot be sent as one."""
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        return None
    if not path.is_file():
        return None
    found = path.stat()
    return PackedFile(
        name=name,
        path=path,
        size_bytes=found.st_size,
        is_executable=bool(found.st_mode & 0o100),
    )


def _why_missing(folder: Path, setting: str, name: str, ignore_file: str | None) -> str:
    path = folder / name
    what = f"{_WHAT.get(setting, setting)} '{name}'"
    if not path.exists():
        return (
            f"The {what} is missing from the project folder '{folder}'. "
            f"{_REMEDY.get(setting, 'Put it there')}, or name another with '{setting}'."
        )
    if path.is_symlink():
        return f"The {what} is a link that leads out of the project folder '{folder}'."
    by = f"the project's {ignore_file}" if ignore_file else "the built-in list of ignored files"
    return (
        f"The {what} is ignored by {by}, so it would not be sent. "
        f"Take it back with a line '!/{name}' in {ignore_file or IGNORE_FILES[0]}."
    )


def is_worth_compressing(files: tuple[PackedFile, ...]) -> bool:
    """Tell by a sample of the largest file whether compression would make much of a difference."""
    largest = max(files, key=lambda file: file.size_bytes, default=None)
    if largest is None:
        return False
    try:
        with largest.path.open("rb") as source:
            source.seek(largest.size_bytes // 2)
            sample = source.read(SAMPLE_BYTES)
    except OSError:
        return True  # what is wrong with it is said when it is sent
    return len(zlib.compress(sample, GZIP_LEVEL)) < WORTH * len(sample)


def write_archive(
    files: tuple[PackedFile, ...], write: Callable[[bytes], None], *, compress: bool = True
) -> None:
    """Give a tar of the files to `write`; the same files give the same bytes.

    Args:
        files: What is in it.
        write: Gets it in pieces.
        compress: Whether with gzip.

    Raises:
        ConfigurationError: A file cannot be read, or changed meanwhile.
    """
    with contextlib.ExitStack() as open_files:
        sink: IO[bytes] = cast("IO[bytes]", _Sink(write))
        if compress:
            packed = gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=GZIP_LEVEL, mtime=0)
            sink = cast("IO[bytes]", open_files.enter_context(packed))
        archive = open_files.enter_context(
            tarfile.TarFile(
                fileobj=sink,
                mode="w",  # of "w|" each piece would be copied twice more
                format=tarfile.GNU_FORMAT,  # a third faster than PAX to write
                copybufsize=COPY_BYTES,
            )
        )
        for file in files:
            member = tarfile.TarInfo(file.name)
            member.size = file.size_bytes
            member.mode = 0o755 if file.is_executable else 0o644
            try:
                with file.path.open("rb") as source:
                    archive.addfile(member, source)
            except (OSError, tarfile.TarError) as error:
                raise ConfigurationError(
                    f"'{file.path}' cannot be sent: unreadable, or changed meanwhile: {error}."
                ) from error


class _Sink(io.RawIOBase):
    """A file that hands everything on."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._n_bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._n_bytes

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]  # tarfile gives bytes
        self._write(bytes(data))
        self._n_bytes += len(data)
        return len(data)
