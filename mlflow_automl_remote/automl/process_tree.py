"""Kills a process with everything that it ever started, daemons included. Linux only.

A keeper makes itself the *subreaper* of its descendants: whoever loses its parent, by a double
fork or in a session of its own, becomes the keeper's child. So no child left means nobody left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.01
_PRIVATE: Final = ("RssAnon:", "RssShmem:")
_STANDS_STILL: Final = ("T", "t", "Z", "X", "")
STOP_LIMIT_S: Final = 1.0  # for a process that is told to stop; one that writes ends that first
KILL_LIMIT_S: Final = 20.0  # after SIGKILL; only a process stuck in the kernel lives longer


def become_subreaper() -> None:
    """Make every orphaned descendant of this process its child.

    Raises:
        OSError: The kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent `parent` dies.

    Raises:
        OSError: The kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def descendants() -> set[int]:
    """Give the ids of all living descendants of this process, those that wait to be reaped too."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - called in a tight loop
        if entry.isdigit():
            parent = _parent_of(int(entry))
            children.setdefault(parent, []).append(int(entry))
    found: set[int] = set()
    unseen = [os.getpid()]
    while unseen:
        new = [pid for pid in children.get(unseen.pop(), []) if pid not in found]
        found.update(new)
        unseen.extend(new)
    return found


def tasks_of_machine() -> int:
    """Give how many threads all processes that can be seen have together; cheap to ask often."""
    return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])


def private_bytes(pid: int | str = "self") -> int:
    """Give the memory of a process that is no file's: what it allocated; 0 once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = [line.split() for line in status.splitlines() if line.startswith(_PRIVATE)]
    return sum(int(words[1]) * 1024 for words in found)


def private_bytes_of_descendants() -> int:
    """Give the same for all descendants of this process together."""
    return sum(private_bytes(pid) for pid in descendants())


def kill_descendants(grace_s: float, *, reaped: Callable[[int, int], None]) -> bool:
    """Ask all descendants of this subreaper to end, then kill them, and reap every one.

    Args:
        grace_s: Between SIGTERM and SIGKILL; 0 for SIGKILL at once.
        reaped: Called with the process id and the wait status of each one.

    Returns:
        Whether none is left.
    """
    if _reap_until(0, reaped):
        return True
    if grace_s > 0:
        _signal_all(signal.SIGTERM)
        if _reap_until(time.monotonic() + grace_s, reaped):
            return True
    deadline = time.monotonic() + KILL_LIMIT_S
    while time.monotonic() < deadline:
        # Again and again: a process may fork between the look and the kill.
        _signal_all(signal.SIGKILL)
        if _reap_until(time.monotonic() + _POLL_S, reaped):
            return True
    return False


@contextmanager
def stopped(leader: int) -> Iterator[None]:
    """Let no process of a group go on meanwhile; it may have ended before, or end now.

    Args:
        leader: Of the group, and a child of this process.
    """
    _signal_group(leader, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_LIMIT_S
    while _state_of(leader) not in _STANDS_STILL and time.monotonic() < deadline:
        time.sleep(_POLL_S / 10)
    try:
        yield
    finally:
        _signal_group(leader, signal.SIGCONT)


def _signal_group(leader: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # gone, or of another user by setuid
        os.killpg(leader, number)


def _state_of(pid: int) -> str:
    """Give the letter of a process's state; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[0].decode()


def _reap_until(deadline: float, reaped: Callable[[int, int], None]) -> bool:
    """Reap children until none is left (True) or the deadline has passed (False)."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid:
            reaped(pid, status)
        elif time.monotonic() >= deadline:
            return False
        else:
            time.sleep(_POLL_S / 2)


def _signal_all(number: signal.Signals) -> None:
    """Signal all descendants; their groups first: none in it can fork on meanwhile."""
    found = descendants()
    groups = set()
    for pid in found:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    for group in groups - {os.getpgrp()}:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):  # gone, or of another user by setuid
            os.kill(pid, number)


def _parent_of(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # The name, in brackets, may hold spaces and brackets itself.
    return int(stat.rpartition(b")")[2].split()[1])


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")
