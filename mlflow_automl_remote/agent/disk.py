"""A disk that is full: how it is noticed, and the room that is kept back to say so."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Final

from mlflow_automl_remote.states import IterationState

LEAST_BYTES: Final = 16 * 1024**2
"""Free disk below which nothing more is begun: what is written last, the journal, must fit."""
RESERVE_BYTES: Final = 256 * 1024
"""Given back when not even an event can be written any more."""
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_WORDS: Final = re.compile("|".join(re.escape(os.strerror(number)) for number in _NO_ROOM))


class DiskFull(OSError):
    """There is too little room to go on; like the error of a write that found none."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.ENOSPC, what)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is used up."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_low(folder: Path) -> bool:
    """Whether the file system of a folder has too little room to go on."""
    return shutil.disk_usage(folder).free < LEAST_BYTES


def check(folder: Path) -> None:
    """Raise `DiskFull` where there is too little room to go on."""
    if is_low(folder):
        raise DiskFull(f"less than {LEAST_BYTES // 1024**2} MiB are free")


def failed_by_it(state: IterationState, reason: str) -> bool:
    """Whether a full disk can be why an iteration failed: it says so, or came to no answer."""
    if state is IterationState.CRASHED:
        return True
    return state is IterationState.FAILED and _WORDS.search(reason) is not None


def keep_reserve(workspace: Path) -> None:
    """Make sure that the reserve is there, as far as there is room for it."""
    place = _reserve(workspace)
    try:
        if not place.exists() or place.stat().st_size < RESERVE_BYTES:
            place.write_bytes(os.urandom(RESERVE_BYTES))  # nothing that could be compressed
    except OSError as error:
        if not is_full(error):
            raise


def give_reserve_back(workspace: Path) -> None:
    """Make the room of the reserve free."""
    _reserve(workspace).unlink(missing_ok=True)


def _reserve(workspace: Path) -> Path:
    return workspace / "reserve"
