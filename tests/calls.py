"""Functions that executors are given in tests, and what looks at the processes they leave."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from mlflow_automl_remote.errors import DataError

DEADLINE_S = 30.0


def poll(condition: Callable[[], object], what: str, limit_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s until {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def read_pids(path: Path, n_pids: int) -> list[int]:
    """Wait until a function under test has written down its processes."""
    poll(lambda: path.exists() and len(path.read_text().split()) >= n_pids, f"{path} has {n_pids}")
    return [int(text) for text in path.read_text().split()]


def double(number: int) -> int:
    print("to standard output")
    os.write(2, b"to the file descriptor\n")
    warnings.warn("a library complains", UserWarning, stacklevel=1)
    return 2 * number


def raise_error(message: str) -> None:
    raise DataError(message)


def raise_value_error(message: str) -> None:
    raise ValueError(message)


class FrozenError(Exception):
    """An exception that cannot be made again from its arguments, as a pickle would."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__traceback__":
            raise AttributeError(name)
        super().__setattr__(name, value)


def raise_frozen(code: int) -> None:
    raise FrozenError(code=code)


def give_a_lock(_: object) -> object:
    return threading.Lock()


class Trap:
    """A result that pickles, and raises when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (raise_value_error, ("gone off",))


def give_a_trap(_: object) -> Trap:
    return Trap()


def exit_with(code: int) -> None:
    os._exit(code)


def leave_by_system_exit(code: int) -> None:
    sys.exit(code)


def die_by(number: int) -> None:
    os.kill(os.getpid(), number)


def eat_memory(_: object) -> None:
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = in_use + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept = []
    while True:
        kept.append(bytearray(2**24))


def give_modules(_: object) -> tuple[str, ...]:
    return tuple(sys.modules)


def give_threads(_: object) -> tuple[str, int]:
    from threadpoolctl import threadpool_info

    return os.environ["OMP_NUM_THREADS"], max(each["num_threads"] for each in threadpool_info())


def linger(file: str) -> None:
    """Ignore SIGTERM, start a child, a daemon in a session of its own, and wait for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path = Path(file)
    write_down = f"import os, time; open({str(path)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    wait = "import signal; signal.signal(15, signal.SIG_IGN)\nwhile True: time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", write_down + wait])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, [sys.executable, "-c", write_down + wait])
        os._exit(0)
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        time.sleep(60)


def multiply(n_generations: int) -> None:
    """Be a fork bomb, but one that stops by itself: two to the power of so many processes."""
    for _ in range(n_generations):
        os.fork()
        time.sleep(0.01)
    time.sleep(60)


def leave_a_daemon(path: Path) -> str:
    """Start a daemon in a session of its own, and return."""
    done = subprocess.Popen(["sleep", "600"], start_new_session=True)
    path.write_text(f"{done.pid}\n")
    return "done"


def shout(n_megabytes: int) -> None:
    line = b"\x00 gr\xfc\xdfe \x1b[2J" + b"x" * 2**20
    for _ in range(n_megabytes):
        os.write(1, line)
        time.sleep(0.005)  # 200 MB/s, as a disk would take it; memory takes all of it at once
    print("the last words")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def give_grandparent(_: object) -> int:
    return parent(os.getppid())


def give_open_files_of(folder: str) -> list[str]:
    found = Path("/proc/self/fd").iterdir()
    return [name for fd in found if fd.is_symlink() and folder in (name := str(fd.readlink()))]


def fill_memory(n_megabytes: int) -> None:
    kept = bytearray(n_megabytes * 10**6)
    for at in range(0, len(kept), 4096):
        kept[at] = 1
    time.sleep(60)


def give_bytes(n_bytes: int) -> bytes:
    return bytes(n_bytes)


def read_and_write(places: tuple[Path, Path]) -> str:
    """Read a file of a folder, and leave one of a megabyte and two folders deep in another."""
    source, target = places
    (target / "model" / "deep").mkdir(parents=True)
    (target / "model" / "deep" / "large").write_bytes(b"x" * 2_000_000)
    return (source / "data.txt").read_text()
