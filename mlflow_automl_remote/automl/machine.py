"""What this machine, or the container that it is, has left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_GROUP: Final = Path("/sys/fs/cgroup")


def free_bytes(*, meminfo: Path = Path("/proc/meminfo"), group: Path = _GROUP) -> int | None:
    """Give the memory that may still be used, the limit of a container heeded; None if unknown.

    Args:
        meminfo: The kernel's count of the machine's memory.
        group: Folder of the control group (version 2) of this process.
    """
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        stat = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        # Not `memory.current`: it counts cached files, which the kernel gives up when asked.
        found += [limit - int(line.split()[1]) for line in stat if line.startswith("anon ")]
    except (OSError, ValueError):  # no group of our own, or "max": no limit
        pass
    return max(0, min(found)) if found else None
