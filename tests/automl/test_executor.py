"""Processes with hard limits: whatever a function does, it ends, and how it ended is known."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path

import cloudpickle
import pytest

from mlflow_automl_remote.automl.executor import Executor, Finished
from mlflow_automl_remote.automl.keeper import LOG_NAME, MAX_PROCESSES
from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.states import IterationState

# The functions below travel by value: test modules cannot be imported by name elsewhere.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One warm executor for all tests here."""
    with Executor(grace_s=0.3) as made:
        yield made


def _poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s until {what}"
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _read_pids(path: Path, n_pids: int) -> list[int]:
    """Wait until a function under test has written down its processes."""
    _poll(
        lambda: path.exists() and len(path.read_text().split()) >= n_pids, f"{path} has {n_pids}"
    )
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


def give_threads(_: object) -> tuple[str, int]:
    from threadpoolctl import threadpool_info

    return os.environ["OMP_NUM_THREADS"], max(each["num_threads"] for each in threadpool_info())


def linger(path: Path) -> None:
    """Ignore SIGTERM, start a child, a daemon in a session of its own, and wait for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
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


def test_a_function_gives_its_value_and_its_output_is_logged(
    executor: Executor, tmp_path: Path
) -> None:
    """Print, file descriptor and warnings all end in the log; times are true."""
    before_ms = time.time_ns() // 1_000_000
    done = executor.run(double, 21, output_dir=tmp_path / "new")
    assert (done.state, done.value, done.reason) == (IterationState.COMPLETED, 42, "")
    log = (tmp_path / "new" / LOG_NAME).read_text()
    assert "to standard output" in log
    assert "to the file descriptor" in log
    assert "a library complains" in log
    assert before_ms <= done.started_at_ms <= done.ended_at_ms <= time.time_ns() // 1_000_000


ENDINGS = [
    (raise_value_error, "two\nlines", IterationState.FAILED, "ValueError: two lines"),
    (raise_error, "for a person", IterationState.FAILED, "for a person"),
    (raise_frozen, 7, IterationState.FAILED, "FrozenError: code 7"),
    (leave_by_system_exit, 4, IterationState.FAILED, "SystemExit: 4"),
    (give_a_lock, None, IterationState.FAILED, "TypeError: cannot pickle"),
    (give_a_trap, None, IterationState.FAILED, "cannot be loaded: ValueError: gone off"),
    (exit_with, 3, IterationState.CRASHED, "exit code 3"),
    (exit_with, 0, IterationState.CRASHED, "without an answer"),
    (die_by, signal.SIGSEGV, IterationState.CRASHED, "Ended by SIGSEGV"),
    (die_by, signal.SIGKILL, IterationState.CRASHED, "Ended by SIGKILL"),
    (eat_memory, None, IterationState.OUT_OF_MEMORY, "MemoryError"),
]


@pytest.mark.parametrize(("function", "argument", "state", "reason"), ENDINGS)
def test_every_way_to_fail_is_a_value_with_its_reason(
    executor: Executor,
    tmp_path: Path,
    function: Callable[[object], object],
    argument: object,
    state: IterationState,
    reason: str,
) -> None:
    """The state tells the kinds apart, and the reason is one line."""
    done = executor.run(function, argument, output_dir=tmp_path)
    assert state is done.state
    assert reason in done.reason
    assert "\n" not in done.reason
    assert done.value is None


def shout(n_megabytes: int) -> None:
    line = b"\x00 gr\xfc\xdfe \x1b[2J" + b"x" * 2**20
    for _ in range(n_megabytes):
        os.write(1, line)
        time.sleep(0.005)  # 200 MB/s, as a disk would take it; memory takes all of it at once
    print("the last words")


def test_endless_output_does_not_fill_the_disk(executor: Executor, tmp_path: Path) -> None:
    """Of half a gigabyte of NUL, latin-1 and colours the log keeps the beginning and the end."""
    assert executor.run(shout, 500, output_dir=tmp_path).state is IterationState.COMPLETED
    log = (tmp_path / LOG_NAME).read_bytes()
    assert len(log) < 400 * 2**20
    assert log.startswith(b"\x00 gr\xfc\xdfe")
    assert b" bytes were left out ...]\n" in log
    assert log.endswith(b"the last words\n")


def test_an_exception_comes_with_its_traceback(executor: Executor, tmp_path: Path) -> None:
    """As text, for the record and in the log."""
    done = executor.run(raise_value_error, "why", output_dir=tmp_path)
    assert done.error_type == "ValueError"
    assert "raise_value_error" in done.traceback_text
    assert "ValueError: why" in (tmp_path / LOG_NAME).read_text()


def test_a_crash_in_native_code_leaves_its_traceback_in_the_log(
    executor: Executor, tmp_path: Path
) -> None:
    """Python's fault handler is on."""
    executor.run(die_by, signal.SIGSEGV, output_dir=tmp_path)
    assert "Segmentation fault" in (tmp_path / LOG_NAME).read_text()


def test_a_time_limit_kills_the_whole_tree(executor: Executor, tmp_path: Path) -> None:
    """Those that ignore SIGTERM and those in a session of their own too."""
    done = executor.run(linger, tmp_path / "pids", output_dir=tmp_path, timeout_s=1.5)
    assert done.state is IterationState.TIMED_OUT
    assert done.reason == "Killed at its time limit of 1.5 s."
    assert [_is_alive(pid) for pid in _read_pids(tmp_path / "pids", 3)] == [False] * 3


def test_a_fork_bomb_is_killed_with_all_that_it_started(
    executor: Executor, tmp_path: Path
) -> None:
    """No limit has to be set for that."""
    if MAX_PROCESSES >= 2**8:
        pytest.skip("so many cores need a bigger bomb than is good for a test")
    begun = time.monotonic()
    done = executor.run(multiply, 8, output_dir=tmp_path)
    assert done.state is IterationState.CRASHED
    assert f"started more than {MAX_PROCESSES} processes" in done.reason
    assert time.monotonic() - begun < DEADLINE_S


def test_cancelling_kills_the_whole_tree(executor: Executor, tmp_path: Path) -> None:
    """From another thread than the one that waits; a second time changes nothing."""
    ticket = executor.submit(linger, tmp_path / "pids", output_dir=tmp_path)
    got: list[Finished] = []
    waiter = threading.Thread(target=lambda: got.extend(executor.wait_any(tickets=[ticket])))
    waiter.start()
    pids = _read_pids(tmp_path / "pids", 3)
    assert executor.cancel(ticket)
    assert executor.cancel(ticket)
    waiter.join(DEADLINE_S)
    assert [each.state for each in got] == [IterationState.CANCELLED]
    assert [_is_alive(pid) for pid in pids] == [False] * 3
    assert not executor.cancel(ticket)


def test_a_daemon_does_not_outlive_the_function_that_left_it(
    executor: Executor, tmp_path: Path
) -> None:
    """The function's value counts all the same."""
    done = executor.run(leave_a_daemon, tmp_path / "pid", output_dir=tmp_path)
    assert done.value == "done"
    assert not _is_alive(_read_pids(tmp_path / "pid", 1)[0])


def test_a_killed_keeper_takes_its_function_along(executor: Executor, tmp_path: Path) -> None:
    """Even then there is an answer."""
    ticket = executor.submit(linger, tmp_path / "pids", output_dir=tmp_path)
    workers = _read_pids(tmp_path / "pids", 3)
    keepers = {_parent(pid) for pid in workers} - set(workers)
    for keeper in keepers:
        os.kill(keeper, signal.SIGKILL)
    done = executor.wait_any(DEADLINE_S, tickets=[ticket])
    assert [each.state for each in done] == [IterationState.CRASHED]
    for pid in workers:  # only the worker itself dies with its keeper; the rest is ours to end
        if _is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    _poll(lambda: not any(map(_is_alive, workers)), "all are gone")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def give_grandparent(_: object) -> int:
    return _parent(os.getppid())


def give_open_files_of(folder: str) -> list[str]:
    found = Path("/proc/self/fd").iterdir()
    return [name for fd in found if fd.is_symlink() and folder in (name := str(fd.readlink()))]


FORKING = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from functions import double, give_open_files_of
from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.template import Template
name = {folder!r} + "/held"
held = open(name, "w")
with Executor(Template.fork()) as executor:
    doubled = executor.run(double, 21, output_dir=Path({folder!r}, "a")).value
    files = executor.run(give_open_files_of, name, output_dir=Path({folder!r}, "b"))
    print(doubled, files.value)
"""


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from functions import linger
from mlflow_automl_remote.automl.executor import Executor
if __name__ == "__main__":
    executor = Executor()
    executor.submit(linger, Path({pids!r}), output_dir=Path({folder!r}))
    time.sleep(600)
"""


def test_nothing_survives_the_death_of_the_process_that_asked(tmp_path: Path) -> None:
    """Killed without warning, it cannot clean up: its keepers do."""
    (tmp_path / "functions.py").write_text(Path(__file__).read_text())
    program = PROGRAM.format(folder=str(tmp_path), pids=str(tmp_path / "pids"))
    (tmp_path / "program.py").write_text(program)
    asking = subprocess.Popen([sys.executable, str(tmp_path / "program.py")])
    pids = _read_pids(tmp_path / "pids", 3)
    keeper = _parent(pids[0])
    asking.kill()
    asking.wait(DEADLINE_S)
    _poll(lambda: not any(map(_is_alive, [*pids, keeper])), "nobody is left")


def test_wait_any_gives_each_call_once_in_the_order_of_their_ends(
    executor: Executor, tmp_path: Path
) -> None:
    """A short call does not wait for a long one; nothing to wait for is no error."""
    long = executor.submit(time.sleep, 600, output_dir=tmp_path / "long")
    short = executor.submit(double, 1, output_dir=tmp_path / "short")
    first = executor.wait_any(DEADLINE_S, tickets=[long, short])
    assert [short] == [each.ticket for each in first]
    assert executor.wait_any(0.05, tickets=[long, short]) == []
    assert executor.wait_any(tickets=[short]) == []
    executor.cancel(long)
    assert [long] == [each.ticket for each in executor.wait_any(DEADLINE_S, tickets=[long])]


def test_a_warm_start_imports_nothing(executor: Executor, tmp_path: Path) -> None:
    """Some 50 ms on a quiet machine, from submit to result; importing the engine takes 1.5 s."""
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        executor.run(double, 1, output_dir=tmp_path)
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 0.4


@pytest.mark.parametrize("n_threads", [1, 2])
def test_native_threads_are_limited(executor: Executor, tmp_path: Path, n_threads: int) -> None:
    """By environment for children, and in the libraries that are loaded already."""
    done = executor.run(give_threads, None, output_dir=tmp_path, n_threads=n_threads)
    assert done.value == (str(n_threads), n_threads)


def test_a_killed_template_is_made_anew(tmp_path: Path) -> None:
    """The kernel may choose it when memory runs out; what comes after is run all the same."""
    with Executor(grace_s=0.1) as executor:
        before = executor.run(give_grandparent, None, output_dir=tmp_path).value
        assert isinstance(before, int)
        gone = os.pidfd_open(before)
        os.kill(before, signal.SIGKILL)
        assert wait([gone], DEADLINE_S)  # with all its threads, which a look at /proc does not say
        os.close(gone)
        after = executor.run(give_grandparent, None, output_dir=tmp_path)
        assert after.state is IterationState.COMPLETED, after.reason
        assert after.value != before


def test_a_fork_of_this_process_is_a_template_too(tmp_path: Path) -> None:
    """As the agent does it: what it has imported is there, and none of its files is open."""
    (tmp_path / "functions.py").write_text(Path(__file__).read_text())
    program = FORKING.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.stdout == "42 []\n", done.stderr


def test_closing_kills_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    """Closing twice is closing once."""
    with Executor(grace_s=0.1) as executor:
        executor.submit(linger, tmp_path / "pids", output_dir=tmp_path)
        pids = _read_pids(tmp_path / "pids", 3)
    executor.close()
    assert not any(map(_is_alive, pids))
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(double, 1, output_dir=tmp_path)
