"""A small file system of its own, for tests of full disks."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a file system of its own, which only root can."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path, left: int = 0) -> Path:
    """Take the room of a disk away, but for so many bytes; give the file that takes it."""
    filler = disk / "filler"
    with filler.open("ab") as file:
        room = shutil.disk_usage(disk).free - left
        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), room)
    return filler
