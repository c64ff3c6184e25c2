"""LightGBM's OpenMP library for machines without one: a link to the one that scikit-learn has.

LightGBM's wheel wants `libgomp.so.1` of the system. A minimal system, such as Debian's, has it
only with a compiler, and installing it would need root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePosixPath

LIBRARY: Final = "libgomp.so.1"
FOLDER: Final = "openmp"
"""Of an environment; it is there only when the system had no such library."""
LINK_PROGRAM: Final = f"""
import ctypes, glob, os, sys, sysconfig
try:
    ctypes.CDLL({LIBRARY!r})
except OSError:
    site = sysconfig.get_path("platlib")
    brought = sorted(glob.glob(os.path.join(site, "scikit_learn.libs", "libgomp*.so*")))
    if brought:
        folder = os.path.join(sys.prefix, {FOLDER!r})
        os.makedirs(folder, exist_ok=True)
        link = os.path.join(folder, {LIBRARY!r})
        os.symlink(os.path.relpath(brought[0], folder), link)
"""
"""For the environment's own interpreter, once everything is installed."""


def library(environment: PurePosixPath) -> PurePosixPath:
    """Return where an environment has the link, if it has one."""
    return environment / FOLDER / LIBRARY


def variables(environment: PurePosixPath) -> Mapping[str, str]:
    """Return what makes the loader find the link; the helper keeps what the account has set."""
    return {"LD_LIBRARY_PATH": str(library(environment).parent)}
