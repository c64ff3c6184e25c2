"""Gives back memory that is not in use: pages of mapped files, and what libraries have freed.

Pages of files stay in the kernel's cache, from which they come back when they are touched.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

EVERY_S: Final = 0.5
"""Seconds between two times that a process over large data gives back what it does not use."""
_MADV_DONTNEED: Final = 4
_MAPS: Final = Path("/proc/self/maps")


def release(folder: Path) -> None:
    """Unmap, until they are touched again, all pages of files in a folder that this process maps.

    Only for files that are mapped to be read: nothing that was written is lost.
    """
    libc = ctypes.CDLL(None)
    inside = f"{folder.resolve()}/"
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        place, access, _, _, _, *path = line.split(maxsplit=5)
        if path and path[0].startswith(inside) and access.startswith("r--"):
            begin, end = (int(each, 16) for each in place.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_DONTNEED)


@contextmanager
def given_back(*folders: Path) -> Iterator[None]:
    """Give back what is not in use again and again, as long as the context lasts.

    A booster reads its features once and then works on bins; what it had for that it frees, and
    the C library keeps.
    """
    end = threading.Event()

    def tidy() -> None:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU library only
        while not end.wait(EVERY_S):
            for folder in folders:
                release(folder)
            if trim is not None:
                trim(0)

    thread = threading.Thread(target=tidy, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
