"""Ends, with status 0, when the machine that it runs on is to be switched off.

A program of its own, which a created machine runs as root, with a Python of 3.8 or newer.
"""

# paths are plain text here, as the system gives them
# ruff: noqa: PTH110, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pwd
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLL_S = 10.0
ALWAYS_THERE = ("systemd", "(sd-pam)", "dbus-daemon")
"""Processes of an account that nobody uses."""


def keeps_sweeps(root: str) -> bool:
    """Say whether a sweep runs, or has results that are not in MLflow."""
    sweeps = os.path.join(root, "sweeps")
    try:
        names = os.listdir(sweeps)
    except FileNotFoundError:
        return False
    return any(_is_kept(os.path.join(sweeps, name)) for name in names)


def _is_kept(sweep: str) -> bool:
    if os.path.exists(os.path.join(sweep, "published")):
        return _is_held(os.path.join(sweep, "agent.lock"))
    try:
        with open(os.path.join(sweep, "client.json")) as file:
            return bool(json.load(file)["run_id"]) or _is_held(os.path.join(sweep, "agent.lock"))
    except (OSError, ValueError, KeyError, TypeError):
        return _is_held(os.path.join(sweep, "agent.lock"))


def _is_held(lock: str) -> bool:
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def has_processes(uid: int) -> bool:
    """Say whether an account runs anything: a session, a transfer, a sweep that begins."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            if os.stat("/proc/" + pid).st_uid != uid:
                continue
            with open("/proc/" + pid + "/comm") as file:
                if file.read().strip() not in ALWAYS_THERE:
                    return True
        except OSError:
            continue  # it has ended
    return False


def wait_until_due(
    *,
    ttl_s: float,
    idle_s: float,
    has_sweeps: Callable[[], bool],
    is_used: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the time is up or nobody has used the machine for long; never with sweeps."""
    begun = used = clock()
    limits = [limit for limit in (ttl_s, idle_s) if limit]
    while True:
        now = clock()
        kept = has_sweeps()
        if kept or is_used():
            used = now
        is_over = bool(ttl_s) and now - begun >= ttl_s
        is_idle = bool(idle_s) and now - used >= idle_s
        if not kept and (is_over or is_idle):
            return
        sleep(min([POLL_S, *limits]))


def main(argv: Sequence[str] | None = None) -> None:
    """Watch over the machine until it is to be switched off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--account", required=True)
    parser.add_argument("--ttl-hours", type=float, default=0.0)
    parser.add_argument("--idle-minutes", type=float, default=0.0)
    given = parser.parse_args(argv)
    account = pwd.getpwnam(given.account)
    root = os.path.join(account.pw_dir, ".automl-remote")
    wait_until_due(
        ttl_s=given.ttl_hours * 3600,
        idle_s=given.idle_minutes * 60,
        has_sweeps=lambda: keeps_sweeps(root),
        is_used=lambda: has_processes(account.pw_uid),
    )


if __name__ == "__main__":
    main()
