"""What the helper finds below our root: sweeps and how they stand, and what takes up room."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH110, PTH112, PTH114, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper import files, processes

if TYPE_CHECKING:
    from typing import Any

    Facts = dict[str, Any]  # JSON; the client's housekeeping documents it

TAIL_BYTES = 1024 * 1024  # of a journal; its last event is in there
LAST_EVENT = b'"type":"SweepFinished"'
SHARED = ("environments", "packages", "uv", "data", "wheels")


def sweeps(root: str) -> list[Facts]:
    """Describe every workspace."""
    folder = os.path.join(root, "sweeps")
    return [_sweep(os.path.join(folder, name), name) for name in _names(folder)]


def _sweep(path: str, name: str) -> Facts:
    signs = {"lock": os.path.join(path, "agent.lock"), "agent": os.path.join(path, "agent.json")}
    liveness = processes.liveness_of(signs)
    return {
        "sweep_id": name,
        "liveness": liveness,
        "finished": _has_ended(os.path.join(path, "journal.jsonl")),
        "published": os.path.exists(os.path.join(path, "published")),
        "run_id": _run_id(os.path.join(path, "client.json")),
        "python": _interpreter(signs["agent"]) if liveness != "dead" else "",
        "n_bytes": size_of(path),
    }


def _has_ended(journal: str) -> bool:
    try:
        size = os.stat(journal).st_size
    except OSError:
        return False
    tail = files.read_part(journal, max(0, size - TAIL_BYTES), TAIL_BYTES)[0]
    return LAST_EVENT in tail.rstrip(b"\n").rpartition(b"\n")[2]


def _run_id(path: str) -> str:
    try:
        return str(json.loads(processes.read_text(path))["run_id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _interpreter(agent: str) -> str:
    """Give the interpreter that a living agent was started with."""
    identity = processes.read_identity(agent) or {}
    try:
        with open("/proc/{}/cmdline".format(int(identity["pid"])), "rb") as file:
            return os.fsdecode(file.read().split(b"\0")[0])
    except (OSError, KeyError, TypeError, ValueError):
        return ""


def shared(root: str) -> list[Facts]:
    """Describe what sweeps share: environments, versions of our package, uv, data files."""
    found = []
    for kind in SHARED:
        folder = os.path.join(root, kind)
        for name in _names(folder):
            path = os.path.join(folder, name)
            found.append({"kind": kind, "name": name, "n_bytes": size_of(path)})
    return found


def size_of(path: str) -> int:
    """Add up what a tree takes on disk; what cannot be seen counts nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    total = found.st_blocks * 512
    if os.path.isdir(path) and not os.path.islink(path):
        total += sum(size_of(os.path.join(path, name)) for name in _names(path))
    return total


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
