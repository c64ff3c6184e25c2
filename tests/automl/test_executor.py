"""Processes of this machine: what they are forked from, what they leave, and who ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path

import calls
import cloudpickle
import pytest
from calls import (
    DEADLINE_S,
    die_by,
    double,
    give_grandparent,
    give_modules,
    give_threads,
    is_alive,
    leave_a_daemon,
    linger,
    multiply,
    parent,
    poll,
    read_pids,
    shout,
)

from mlflow_automl_remote.automl import process_tree
from mlflow_automl_remote.automl.executor import Call, Executor
from mlflow_automl_remote.automl.keeper import LOG_NAME, MAX_PROCESSES
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.states import IterationState

cloudpickle.register_pickle_by_value(calls)  # where they run they cannot be imported by name


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One warm executor for all tests here."""
    with LocalExecutor(grace_s=0.3) as made:
        yield made


def test_endless_output_does_not_fill_the_disk(executor: Executor, tmp_path: Path) -> None:
    """Of half a gigabyte of NUL, latin-1 and colours the log keeps the beginning and the end."""
    assert executor.run(Call(shout, 500, output_dir=tmp_path)).state is IterationState.COMPLETED
    log = (tmp_path / LOG_NAME).read_bytes()
    assert len(log) < 33 * 2**20
    assert log.startswith(b"\x00 gr\xfc\xdfe")
    assert b" bytes were left out ...]\n" in log
    assert log.endswith(b"the last words\n")


def test_who_is_stopped_writes_nothing_until_it_goes_on(tmp_path: Path) -> None:
    """A log is cut while its writer stands still: what it wrote in between would be lost."""
    log = tmp_path / "log"
    program = f"import os\nf = os.open({str(log)!r}, 65)\nwhile True: os.write(f, b'x' * 4096)"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as writer:
        try:
            poll(lambda: log.exists() and log.stat().st_size > 10**6, "it writes")
            with process_tree.stopped(writer.pid):
                sizes = {log.stat().st_size for _ in range(2_000)}
                assert len(sizes) == 1
            poll(lambda: log.stat().st_size > max(sizes), "it goes on")
        finally:
            writer.kill()
    with process_tree.stopped(writer.pid):  # long gone
        pass


def test_a_crash_in_native_code_leaves_its_traceback_in_the_log(
    executor: Executor, tmp_path: Path
) -> None:
    """Python's fault handler is on."""
    executor.run(Call(die_by, signal.SIGSEGV, output_dir=tmp_path))
    assert "Segmentation fault" in (tmp_path / LOG_NAME).read_text()


def test_a_fork_bomb_is_killed_with_all_that_it_started(
    executor: Executor, tmp_path: Path
) -> None:
    """No limit has to be set for that."""
    if MAX_PROCESSES >= 2**8:
        pytest.skip("so many cores need a bigger bomb than is good for a test")
    begun = time.monotonic()
    done = executor.run(Call(multiply, 8, output_dir=tmp_path))
    assert done.state is IterationState.CRASHED
    assert f"started more than {MAX_PROCESSES} processes" in done.reason
    assert time.monotonic() - begun < DEADLINE_S


def test_a_daemon_does_not_outlive_the_function_that_left_it(
    executor: Executor, tmp_path: Path
) -> None:
    """The function's value counts all the same."""
    done = executor.run(Call(leave_a_daemon, tmp_path / "pid", output_dir=tmp_path))
    assert done.value == "done"
    assert not is_alive(read_pids(tmp_path / "pid", 1)[0])


def test_a_killed_keeper_takes_its_function_along(executor: Executor, tmp_path: Path) -> None:
    """Even then there is an answer."""
    ticket = executor.submit(Call(linger, str(tmp_path / "pids"), output_dir=tmp_path))
    workers = read_pids(tmp_path / "pids", 3)
    keepers = {parent(pid) for pid in workers} - set(workers)
    for keeper in keepers:
        os.kill(keeper, signal.SIGKILL)
    done = executor.wait_any(DEADLINE_S, tickets=[ticket])
    assert [each.state for each in done] == [IterationState.CRASHED]
    for pid in workers:  # only the worker itself dies with its keeper; the rest is ours to end
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    poll(lambda: not any(map(is_alive, workers)), "all are gone")


FORKING = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from functions import double, give_open_files_of
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.template import Template
name = {folder!r} + "/held"
held = open(name, "w")
with LocalExecutor(Template.fork()) as executor:
    doubled = executor.run(Call(double, 21, output_dir=Path({folder!r}, "a"))).value
    files = executor.run(Call(give_open_files_of, name, output_dir=Path({folder!r}, "b")))
    print(doubled, files.value)
"""


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from functions import linger
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor
if __name__ == "__main__":
    executor = LocalExecutor()
    executor.submit(Call(linger, {pids!r}, output_dir=Path({folder!r})))
    time.sleep(600)
"""


def test_nothing_survives_the_death_of_the_process_that_asked(tmp_path: Path) -> None:
    """Killed without warning, it cannot clean up: its keepers do."""
    (tmp_path / "functions.py").write_text(Path(calls.__file__).read_text())
    program = PROGRAM.format(folder=str(tmp_path), pids=str(tmp_path / "pids"))
    (tmp_path / "program.py").write_text(program)
    asking = subprocess.Popen([sys.executable, str(tmp_path / "program.py")])
    pids = read_pids(tmp_path / "pids", 3)
    keeper = parent(pids[0])
    asking.kill()
    asking.wait(DEADLINE_S)
    poll(lambda: not any(map(is_alive, [*pids, keeper])), "nobody is left")


def test_a_warm_start_imports_nothing(executor: Executor, tmp_path: Path) -> None:
    """What iterations need is there when their process begins; importing it takes 1.5 s."""
    loaded = executor.run(Call(give_modules, None, output_dir=tmp_path)).value
    assert {"sklearn.pipeline", "lightgbm", "pandas"} <= set(loaded)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_native_threads_are_limited(executor: Executor, tmp_path: Path, n_threads: int) -> None:
    """By environment for children, and in the libraries that are loaded already."""
    done = executor.run(Call(give_threads, None, output_dir=tmp_path, n_threads=n_threads))
    assert done.value == (str(n_threads), n_threads)


def test_a_killed_template_is_made_anew(tmp_path: Path) -> None:
    """The kernel may choose it when memory runs out; what comes after is run all the same."""
    with LocalExecutor(grace_s=0.1) as executor:
        before = executor.run(Call(give_grandparent, None, output_dir=tmp_path)).value
        assert isinstance(before, int)
        gone = os.pidfd_open(before)
        os.kill(before, signal.SIGKILL)
        assert wait([gone], DEADLINE_S)  # with all its threads, which a look at /proc does not say
        os.close(gone)
        after = executor.run(Call(give_grandparent, None, output_dir=tmp_path))
        assert after.state is IterationState.COMPLETED, after.reason
        assert after.value != before


def test_a_fork_of_this_process_is_a_template_too(tmp_path: Path) -> None:
    """As the agent does it: what it has imported is there, and none of its files is open."""
    (tmp_path / "functions.py").write_text(Path(calls.__file__).read_text())
    program = FORKING.format(folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.stdout == "42 []\n", done.stderr


def test_closing_kills_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    """Closing twice is closing once."""
    with LocalExecutor(grace_s=0.1) as executor:
        executor.submit(Call(linger, str(tmp_path / "pids"), output_dir=tmp_path))
        pids = read_pids(tmp_path / "pids", 3)
    executor.close()
    assert not any(map(is_alive, pids))
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(Call(double, 1, output_dir=tmp_path))
