"""This package itself, as files for a target: the installed ones, in whichever way installed."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Final

import mlflow_automl_remote
from mlflow_automl_remote.compute.project import PackedFile
from mlflow_automl_remote.compute.requirements import DISTRIBUTION

IGNORED: Final = ("__pycache__",)
DIGEST_LENGTH: Final = 32


def package_files() -> tuple[PackedFile, ...]:
    """List the files of this package and of its metadata, named as in a `site-packages`."""
    folder = Path(mlflow_automl_remote.__file__).parent
    own = [
        path for path in folder.rglob("*") if path.is_file() and not set(IGNORED) & set(path.parts)
    ]
    files = [_packed(path, f"{folder.name}/{path.relative_to(folder).as_posix()}") for path in own]
    return tuple(sorted([*files, *_metadata_files()], key=lambda file: file.name))


def _metadata_files() -> list[PackedFile]:
    """Give METADATA and entry points, so that the version can be asked for there as well."""
    distribution = metadata.distribution(DISTRIBUTION)
    place = f"{DISTRIBUTION.replace('-', '_')}-{distribution.version}.dist-info"
    found = []
    for name in ("METADATA", "entry_points.txt"):
        path = Path(str(distribution.locate_file(f"{place}/{name}")))
        if path.is_file():
            found.append(_packed(path, f"{place}/{name}"))
    return found


def _packed(path: Path, name: str) -> PackedFile:
    return PackedFile(name=name, path=path, size_bytes=path.stat().st_size, is_executable=False)


def package_digest(files: tuple[PackedFile, ...]) -> str:
    """Name this version of the package by what is in it."""
    digest = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        digest.update(f"{content} {file.name}\n".encode())
    return digest.hexdigest()[:DIGEST_LENGTH]
