"""Proof that an agent lives: the lock it holds, the file that says who it is, its heartbeat."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mlflow_automl_remote import __version__

HEARTBEAT_S: Final = 5.0
"""Between two touches of the heartbeat file."""


class AlreadyRunning(RuntimeError):
    """Another agent holds the lock of this workspace."""


@contextmanager
def alive(workspace: Path, name: str = "agent") -> Iterator[None]:
    """Hold the workspace's lock, say who holds it, and keep its heartbeat going.

    The lock goes with the process, however it ends. It is not inherited: a process of an iteration
    that outlives the agent must not keep a dead agent looking alive.

    Raises:
        AlreadyRunning: Another agent works here.
    """
    fd = os.open(workspace / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AlreadyRunning(f"Another agent works in {workspace}.") from error
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(_heartbeat(workspace, name), stop), daemon=True)
    try:
        write_aside(workspace / f"{name}.json", json.dumps(identity()).encode())
        beat.start()
        yield
    finally:
        stop.set()
        os.close(fd)


def _heartbeat(workspace: Path, name: str) -> Path:
    return workspace / ("heartbeat" if name == "agent" else f"{name}.heartbeat")


def identity() -> dict[str, object]:
    """Name this process so that a later one cannot be taken for it: pid, start time, boot."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": os.getpid(),
        "starttime": int(stat.rpartition(")")[2].split()[19]),
        "boot_id": boot_id.read_text(encoding="ascii").strip() if boot_id.exists() else "",
        "version": __version__,
    }


def write_aside(path: Path, content: bytes) -> None:
    """Replace a file at once: whoever reads it sees the old or the new contents, whole."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _beat(path: Path, stop: threading.Event) -> None:
    while True:
        with suppress(OSError):  # a full disk
            path.touch()
        if stop.wait(HEARTBEAT_S):
            return
