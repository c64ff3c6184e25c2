"""What the helper knows of processes: who lives, how to start one that stays, how to end all."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH112, PTH116, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper.files import make_folder, read_part, remove
from mlflow_automl_remote.compute.helper.wire import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from mlflow_automl_remote.compute.helper.wire import Header

    Identity = dict[str, Any]  # as an agent wrote it, so not to be trusted to have any shape

POLL_S = 0.03
LOG_TAIL_BYTES = 4096
FULL_BYTES = 1024 * 1024  # free disk below which what ended may have ended by that
LOCK_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
LIBRARY_PATH = "LD_LIBRARY_PATH"


def read_text(path: str) -> str:
    """Read a small file of the kernel's or of ours; a missing one is empty."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536).strip()
    except OSError:
        return ""


def boot_id() -> str:
    """Name the current boot of this kernel, or "" where there is no such name."""
    return read_text("/proc/sys/kernel/random/boot_id")


def process_stat(pid: int) -> tuple[str, int, int, int] | None:
    """Return state, parent, session and start time of a process, or None if there is none."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def same_process(identity: Identity) -> bool:
    """Whether the process that `identity` names still runs; never true of a later one."""
    try:
        pid = int(identity["pid"])
        recorded = int(identity.get("starttime") or 0)
    except (KeyError, TypeError, ValueError):
        return False
    if identity.get("boot_id") and boot_id() and identity["boot_id"] != boot_id():
        return False
    if not os.path.isdir("/proc/self"):
        return _answers(pid)
    found = process_stat(pid)
    return found is not None and found[0] not in "ZX" and recorded in (0, found[3])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def read_identity(path: str) -> Identity | None:
    """Return what an agent wrote about itself, or None."""
    try:
        identity = json.loads(read_text(path) or "null")
    except ValueError:
        return None
    return identity if isinstance(identity, dict) else None


def lock_is_held(path: str) -> bool:
    """Whether some process holds the lock file; a moment's shared lock is how to know."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in LOCK_BUSY:
            raise
        return True
    finally:
        os.close(fd)
    return False


@contextlib.contextmanager
def locked(path: str, wait_s: float) -> Iterator[None]:
    """Hold a lock file.

    Raises:
        Refused: Another process holds it for longer than `wait_s`.
    """
    fd = take_lock(path, wait_s)
    try:
        yield
    finally:
        os.close(fd)


def take_lock(path: str, wait_s: float) -> int:
    """Take a lock file and return its descriptor, whose closing gives it back."""
    make_folder(os.path.dirname(path))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in LOCK_BUSY or time.monotonic() >= deadline:
                os.close(fd)
                raise Refused(f"{path} is held by another process") from error
            time.sleep(POLL_S)
        else:
            return fd


def sign(fd: int, client: str) -> None:
    """Write into a lock file which process has it, and for whom."""
    found = process_stat(os.getpid())
    identity = {
        "pid": os.getpid(),
        "starttime": found[3] if found else 0,
        "boot_id": boot_id(),
        "client": client,
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(identity).encode("ascii"), 0)


def end_holder(path: str, client: str | None) -> bool:
    """Kill the helper that has signed a lock file, if it still runs; say whether it did.

    Args:
        path: The lock file.
        client: Only if it was for this one; None for anyone.
    """
    holder = read_identity(path)
    if holder is None or client not in (None, holder.get("client")):
        return False
    if not same_process(holder) or int(holder["pid"]) == os.getpid():
        return False
    _signal({int(holder["pid"])}, signal.SIGKILL)
    return True


def take_over(path: str, client: str | None, wait_s: float) -> int:
    """Take a lock file that nobody has, or that the helper of a client has, which is ended.

    Args:
        path: The lock file.
        client: Whose helper may be ended; None for anyone's.
        wait_s: For such a helper to end. Another client may be quicker to take what it leaves.

    Raises:
        Refused: Somebody else has it.
    """
    deadline = time.monotonic() + wait_s
    ended = client is None
    while True:
        ended = end_holder(path, client) or ended
        try:
            return take_lock(path, 0.0)
        except Refused:
            if not ended or time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)


def liveness_of(job: Header) -> str:
    """Answer "alive", "dead" or "unknown" for an agent: a lock, and a process of that start time.

    The lock alone would not do: a child that inherited it keeps it. Nor the process alone: before
    it has the lock it may still give up.
    """
    identity = read_identity(job["agent"])
    if identity is None:
        starting = lock_is_held(job["lock"]) or lock_is_held(job["lock"] + ".launch")
        return "unknown" if starting else "dead"
    if not same_process(identity):
        return "dead"
    return "alive" if lock_is_held(job["lock"]) else "unknown"


def chosen_environment(keep: Iterable[str], extra: dict[str, str]) -> dict[str, str]:
    """Make an environment of the named variables (`LC_*` names a family) and of `extra`."""
    exact = {name for name in keep if not name.endswith("*")}
    families = tuple(name[:-1] for name in keep if name.endswith("*"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in exact or (families and name.startswith(families))
    }
    return extended(kept, extra)


def extended(environment: dict[str, str], extra: dict[str, str]) -> dict[str, str]:
    """Add `extra`, which wins; but its LD_LIBRARY_PATH goes before what is there already."""
    result = dict(environment, **extra)
    paths = [each[LIBRARY_PATH] for each in (extra, environment) if each.get(LIBRARY_PATH)]
    if paths:
        result[LIBRARY_PATH] = os.pathsep.join(paths)
    return result


def launch(request: Header, told: bytes) -> Header:
    """Start an agent that outlives this helper, and return once it has said who it is.

    An agent that lives already is left alone and returned. It is told something by its standard
    input, or nothing.

    Raises:
        Refused: It ended, or said nothing in time; the text has the end of its log.
    """
    with locked(request["lock"] + ".launch", 10.0):
        if liveness_of(request) == "alive":
            return {"identity": read_identity(request["agent"]), "was_running": True}
        remove(request["agent"])
        with open(request["log"], "ab") as log:
            process = subprocess.Popen(
                request["argv"],
                cwd=request["cwd"],
                env=chosen_environment(request["keep"], request["env"]),
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if process.stdin is not None:
            with contextlib.suppress(OSError), process.stdin as stdin:
                stdin.write(told)
        return _acknowledged(process, request)


def _acknowledged(process: subprocess.Popen[bytes], request: Header) -> Header:
    deadline = time.monotonic() + request["timeout_s"]
    while time.monotonic() < deadline:
        status = process.poll()
        identity = read_identity(request["agent"])
        if identity is not None and (status is None or not same_process(identity)):
            # one that was quick enough to end by now has been started as well
            return {"identity": identity, "was_running": False}
        if status is not None:
            raise Refused(_last_words(f"ended with status {status}", request["log"]))
        time.sleep(POLL_S)
    process.kill()
    process.wait()
    raise Refused(_last_words(f"was not ready after {request['timeout_s']} s", request["log"]))


def _last_words(what: str, log: str) -> str:
    size = os.stat(log).st_size
    tail = read_part(log, max(0, size - LOG_TAIL_BYTES), LOG_TAIL_BYTES)[0]
    words = "{}. The end of its log:\n{}".format(what, tail.decode("utf-8", "replace").rstrip())
    if shutil.disk_usage(os.path.dirname(log)).free < FULL_BYTES:
        words += "\nThe disk there is full: make room first."
    return words


def family_of(identity: Identity, cookie: bytes) -> set[int]:
    """Find a job's processes: its session, whoever carries its cookie, and their descendants."""
    stats = {}
    for name in os.listdir("/proc"):
        found = process_stat(int(name)) if name.isdigit() else None
        if found is not None and found[0] not in "ZX":
            stats[int(name)] = found
    family = {each for each in stats if cookie in _start_environment(each)}
    if same_process(identity):
        leader = int(identity["pid"])
        family |= {leader} | {each for each, found in stats.items() if found[2] == leader}
    more = family
    while more:
        more = {each for each, found in stats.items() if found[1] in family} - family
        family = family | more
    return family - {os.getpid()}


def _start_environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def kill(request: Header) -> Header:
    """End an agent and everything it has started; return who is left in spite of it.

    First the agent alone is asked, since it ends its own children best; after the grace everything
    is killed until nothing is found.
    """
    identity = read_identity(request["agent"]) or {}
    cookie = request["cookie"].encode()
    deadline = time.monotonic() + request["grace_s"]
    if same_process(identity):
        _signal({int(identity["pid"])}, signal.SIGTERM)
    while time.monotonic() < deadline and family_of(identity, cookie):
        time.sleep(POLL_S)
    deadline = time.monotonic() + 5.0
    left = family_of(identity, cookie)
    while left and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(POLL_S)
        left = family_of(identity, cookie)
    return {"left": sorted(left)}


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
