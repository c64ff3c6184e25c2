"""What this machine, or the container that it is, has left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_GROUP: Final = Path("/sys/fs/cgroup")


def n_cores(*, group: Path = _GROUP) -> int:
    """Give the cores that this process may use, the quota of a container heeded; at least one.

    Args:
        group: Folder of the control group of this process, of version 2 or 1.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        if (group / "cpu.max").exists():
            quota, period = map(int, (group / "cpu.max").read_text(encoding="ascii").split())
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = (int((group / "cpu" / each).read_text("ascii")) for each in names)
        limit = quota / period if quota > 0 else cores
    except (OSError, ValueError):  # no group of our own, or "max": no limit
        limit = cores
    return max(1, min(cores, round(limit)))


def free_bytes(*, meminfo: Path = Path("/proc/meminfo"), group: Path = _GROUP) -> int | None:
    """Give the memory that may still be used, the limit of a container heeded; None if unknown.

    Args:
        meminfo: The kernel's count of the machine's memory.
        group: Folder of the control group of this process, of version 2 or 1.
    """
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    # Not what is in use: it counts cached files, which the kernel gives up when asked.
    for folder, limit, used in (
        (group, "memory.max", "anon "),
        (group / "memory", "memory.limit_in_bytes", "total_rss "),
    ):
        try:
            most = int((folder / limit).read_text(encoding="ascii"))
            stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            found += [most - int(line.split()[1]) for line in stat if line.startswith(used)]
        except (OSError, ValueError):  # no group of our own, or "max": no limit
            continue
    return max(0, min(found)) if found else None
