"""Files of a sweep that its iterations share: the first that needs them makes them.

A lock that the kernel takes back when its holder is killed keeps others waiting until they are
whole; half-made ones have another name. What was used longest ago goes when the disk gets full.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import cloudpickle
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mlflow_automl_remote.automl import pages

SHARE_OF_DISK: Final = 0.25
"""Of what is free on the disk of the sweep, what shared features may take; the oldest go first."""
SMALL_BYTES: Final = 1 << 20
"""An array below this is read, not mapped."""
_STEP: Final = "step.pkl"
_ROWS: Final = "rows.npy"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class FeatureStore:
    """Fitted steps and the rows that they made, in a folder that goes with the sweep.

    Args:
        folder: Made if need be.
        data_dir: Of the dataset, whose pages are let go once they have been read.
    """

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self._folder = folder
        self._data_dir = data_dir
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str, make: Callable[[Path], object]) -> tuple[Any, NDArray[Any]] | None:
        """Give a fitted step and the rows that it made, mapped; made now if nobody has.

        Args:
            key: Of what is made.
            make: Writes the file that it is given, and gives the step.

        Returns:
            None where the disk has no room for it.
        """
        place = self._folder / hashlib.sha256(key.encode()).hexdigest()[:32]
        with self._locked(place.name):
            if not place.exists() and not self._made(place, make):
                return None
            os.utime(place)
            step = pickle.loads((place / _STEP).read_bytes())
            return step, _opened(place / _ROWS)

    def write(self, path: Path, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
        """Write an array piece by piece: its pages are nobody's memory."""
        with path.open("wb") as file:
            for number, piece in enumerate(pieces):
                if number == 0:
                    self._make_room(int(np.prod(shape)) * piece.dtype.itemsize)
                    about = {"descr": npy.dtype_to_descr(piece.dtype), "fortran_order": False}
                    npy.write_array_header_1_0(file, {**about, "shape": shape})
                np.ascontiguousarray(piece).tofile(file)
                if piece.nbytes > SMALL_BYTES:
                    self.let_go()

    def let_go(self) -> None:
        """Let go of pages of the data and of features."""
        pages.release(self._data_dir)
        pages.release(self._folder)

    def _made(self, place: Path, make: Callable[[Path], object]) -> bool:
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of one that was killed
        part.mkdir()
        try:
            step = make(part / _ROWS)
            (part / _STEP).write_bytes(cloudpickle.dumps(step))
        except OSError as error:
            shutil.rmtree(part)
            if error.errno not in _FULL:
                raise
            return False
        part.rename(place)
        self.let_go()
        return True

    def _make_room(self, n_bytes: int) -> None:
        """Remove what was used longest ago, where there would be too much."""
        kept = {place: _about(place) for place in self._folder.iterdir() if place.is_dir()}
        taken = sum(size for _, size in kept.values())
        room = SHARE_OF_DISK * (shutil.disk_usage(self._folder).free + taken) - taken
        oldest = sorted((each for each in kept if not each.suffix), key=lambda each: kept[each])
        while n_bytes > room and oldest:
            place = oldest.pop(0)
            with self._locked(place.name, wait=False) as locked:
                if locked and place.exists():
                    shutil.rmtree(place)  # who has it mapped keeps it
                    room += kept[place][1]
        if n_bytes > room:
            raise OSError(errno.ENOSPC, "no room for shared features")

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        file = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            locked = False
        try:
            yield locked
        finally:
            os.close(file)


def _opened(path: Path) -> NDArray[Any]:
    """Map an array; a small one is read."""
    mode: Literal["r"] | None = "r" if path.stat().st_size > SMALL_BYTES else None
    return np.asarray(np.load(path, mmap_mode=mode, allow_pickle=False))


def _about(place: Path) -> tuple[float, int]:
    """Give when a folder was used last, and its bytes; zeros if it has just been removed."""
    try:
        return place.stat().st_mtime, sum(file.stat().st_size for file in place.glob("*"))
    except FileNotFoundError:
        return 0.0, 0
