"""What holds for every executor, wherever its calls run; and what a cluster adds to it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import calls
import cloudpickle
import pytest
from calls import (
    DEADLINE_S,
    die_by,
    double,
    eat_memory,
    exit_with,
    fill_memory,
    give_a_lock,
    give_a_trap,
    give_bytes,
    is_alive,
    leave_by_system_exit,
    linger,
    parent,
    poll,
    raise_error,
    raise_frozen,
    raise_value_error,
    read_and_write,
    read_pids,
)

from mlflow_automl_remote.automl.executor import Call, Executor, Finished
from mlflow_automl_remote.automl.keeper import LOG_NAME, MAX_RESULT_BYTES
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.errors import ClusterUnusable
from mlflow_automl_remote.states import IterationState

if TYPE_CHECKING:
    from ray_cluster import RayCluster

START_S = 120.0
"""For a node to start, and import the engine, on a machine that is busy."""

cloudpickle.register_pickle_by_value(calls)  # where they run they cannot be imported by name


@pytest.fixture(scope="module")
def on_ray(
    ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Executor]:
    """An executor on the cluster of all tests."""
    from mlflow_automl_remote.automl.cluster.ray_executor import RayExecutor

    with RayExecutor(ray_cluster.address, tmp_path_factory.getbasetemp(), grace_s=0.3) as made:
        yield made


@pytest.fixture(scope="module", params=["local", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """One warm executor of each kind."""
    if request.param == "ray":
        yield request.getfixturevalue("on_ray")
        return
    with LocalExecutor(grace_s=0.3) as made:
        yield made


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


class TestExecutor:
    """The contract."""

    def test_a_function_gives_its_value_and_its_output_is_logged(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """Print, file descriptor and warnings all end in the log; times are true."""
        before_ms = time.time_ns() // 1_000_000
        done = executor.run(Call(double, 21, output_dir=tmp_path / "new"))
        assert (done.state, done.value, done.reason) == (IterationState.COMPLETED, 42, "")
        log = (tmp_path / "new" / LOG_NAME).read_text()
        assert "to standard output" in log
        assert "to the file descriptor" in log
        assert "a library complains" in log
        assert before_ms <= done.started_at_ms <= done.ended_at_ms <= time.time_ns() // 1_000_000

    @pytest.mark.parametrize(("function", "argument", "state", "reason"), ENDINGS)
    def test_every_way_to_fail_is_a_value_with_its_reason(
        self,
        executor: Executor,
        tmp_path: Path,
        function: Callable[[object], object],
        argument: object,
        state: IterationState,
        reason: str,
    ) -> None:
        """The state tells the kinds apart, and the reason is one line."""
        done = executor.run(Call(function, argument, output_dir=tmp_path))
        assert state is done.state
        assert reason in done.reason
        assert "\n" not in done.reason
        assert done.value is None

    def test_an_exception_comes_with_its_traceback(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """As text, for the record and in the log."""
        done = executor.run(Call(raise_value_error, "why", output_dir=tmp_path))
        assert done.error_type == "ValueError"
        assert "raise_value_error" in done.traceback_text
        assert "ValueError: why" in (tmp_path / LOG_NAME).read_text()

    def test_a_time_limit_kills_the_whole_tree(self, executor: Executor, tmp_path: Path) -> None:
        """Those that ignore SIGTERM and those in a session of their own too."""
        done = executor.run(
            Call(linger, str(tmp_path / "pids"), output_dir=tmp_path, timeout_s=1.5)
        )
        assert done.state is IterationState.TIMED_OUT
        assert done.reason == "Killed at its time limit of 1.5 s."
        assert [is_alive(pid) for pid in read_pids(tmp_path / "pids", 3)] == [False] * 3

    def test_cancelling_kills_the_whole_tree(self, executor: Executor, tmp_path: Path) -> None:
        """From another thread than the one that waits; a second time changes nothing."""
        ticket = executor.submit(Call(linger, str(tmp_path / "pids"), output_dir=tmp_path))
        got: list[Finished] = []
        waiter = threading.Thread(target=lambda: got.extend(executor.wait_any(tickets=[ticket])))
        waiter.start()
        pids = read_pids(tmp_path / "pids", 3)
        assert executor.cancel(ticket)
        assert executor.cancel(ticket)
        waiter.join(DEADLINE_S)
        assert [each.state for each in got] == [IterationState.CANCELLED]
        assert [is_alive(pid) for pid in pids] == [False] * 3
        assert not executor.cancel(ticket)

    def test_wait_any_gives_each_call_once_in_the_order_of_their_ends(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """A short call does not wait for a long one; nothing to wait for is no error."""
        long = executor.submit(Call(time.sleep, 600, output_dir=tmp_path / "long"))
        short = executor.submit(Call(double, 1, output_dir=tmp_path / "short"))
        first = executor.wait_any(DEADLINE_S, tickets=[long, short])
        assert [short] == [each.ticket for each in first]
        assert executor.wait_any(0.05, tickets=[long, short]) == []
        assert executor.wait_any(tickets=[short]) == []
        executor.cancel(long)
        assert [long] == [each.ticket for each in executor.wait_any(DEADLINE_S, tickets=[long])]

    def test_a_memory_limit_kills_what_uses_more(self, executor: Executor, tmp_path: Path) -> None:
        """Without harm to what runs beside it."""
        done = executor.run(Call(fill_memory, 200, output_dir=tmp_path, memory_mb=100))
        assert done.state is IterationState.OUT_OF_MEMORY
        assert done.reason == "Killed at its memory limit of 100 MB (mem_in_mb)."

    def test_a_result_that_is_too_large_is_refused(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """A large one that is allowed comes whole."""
        done = executor.run(Call(give_bytes, MAX_RESULT_BYTES, output_dir=tmp_path))
        assert done.state is IterationState.FAILED
        assert "more than the 67 MB that may be given back" in done.reason
        done = executor.run(Call(give_bytes, MAX_RESULT_BYTES // 2, output_dir=tmp_path))
        assert done.value == bytes(MAX_RESULT_BYTES // 2)

    def test_a_call_whose_keeper_is_lost_ends_as_crashed(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """The executor goes on."""
        ticket = executor.submit(Call(linger, str(tmp_path / "pids"), output_dir=tmp_path / "a"))
        pids = read_pids(tmp_path / "pids", 3)
        for keeper in {parent(pid) for pid in pids} - set(pids):
            os.kill(keeper, signal.SIGKILL)
        done = executor.wait_any(DEADLINE_S, tickets=[ticket])
        assert [each.state for each in done] == [IterationState.CRASHED]
        for pid in pids:
            if is_alive(pid):  # only the worker itself dies with its keeper
                os.kill(pid, signal.SIGKILL)
        assert executor.run(Call(double, 1, output_dir=tmp_path / "b")).value == 2

    def test_what_a_call_reads_is_there_and_what_it_writes_comes_back(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """Also when what it reads has changed since; nothing else is in its folder."""
        for text in ("first", "second one"):
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / "data.txt").write_text(text)
            output = tmp_path / text
            ticket = executor.submit(
                Call(
                    read_and_write,
                    (tmp_path / "data", output),
                    output_dir=output,
                    reads=[tmp_path / "data"],
                )
            )
            done = executor.wait_any(DEADLINE_S, tickets=[ticket])[0]
            assert (done.value, done.reason) == (text, "")
            assert (output / "model/deep/large").read_bytes() == b"x" * 2_000_000
            found = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
            assert found == {LOG_NAME, "model/deep/large"}

    def test_a_call_that_cannot_be_pickled_is_refused_at_once(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """It is the caller's mistake."""
        with pytest.raises(TypeError, match="cannot pickle"):
            executor.submit(Call(double, threading.Lock(), output_dir=tmp_path))


def test_nodes_say_how_busy_they_are(on_ray: Executor) -> None:
    """Each of them, by its name."""
    busy = on_ray.usage()
    assert len(busy) == 2
    for values in busy.values():
        assert 0 <= values["cpu_utilization_percentage"] <= 100
        assert 0 < values["system_memory_usage_percentage"] < 100


def test_calls_on_a_cluster_wait_for_their_cores_and_use_all_nodes(
    on_ray: Executor, tmp_path: Path
) -> None:
    """One that waits can be cancelled; each says which node it ran on."""
    n_cores = on_ray.capacity().n_cores
    tickets = [
        on_ray.submit(Call(time.sleep, 2, output_dir=tmp_path / str(n)))
        for n in range(n_cores + 1)
    ]
    assert on_ray.cancel(tickets[-1])
    ended = on_ray.wait_any(DEADLINE_S, tickets=tickets[-1:])
    assert [each.state for each in ended] == [IterationState.CANCELLED]
    ended = []
    while len(ended) < n_cores:
        ended += on_ray.wait_any(DEADLINE_S, tickets=tickets)
    assert len({each.node for each in ended}) == 2
    assert {each.state for each in ended} == {IterationState.COMPLETED}
    spread_ms = max(one.started_at_ms for one in ended) - min(one.ended_at_ms for one in ended)
    assert spread_ms < 0  # all ran at the same time


def test_a_node_that_joins_is_used_and_one_that_dies_gives_its_calls_back(
    on_ray: Executor, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    """They end as lost, at once; nothing that they had started lives on."""
    n_cores = on_ray.capacity().n_cores
    node = ray_cluster.add(2)
    poll(lambda: on_ray.capacity().n_cores == n_cores + 2, "the node is there", START_S)
    pids = [tmp_path / f"pids{n}" for n in range(n_cores + 2)]
    tickets = [
        on_ray.submit(Call(linger, str(file), output_dir=tmp_path / f"of_{file.name}"))
        for file in pids
    ]
    running = [read_pids(file, 3) for file in pids]
    ray_cluster.kill(node)
    lost: list[Finished] = []
    while len(lost) < 2:
        lost += on_ray.wait_any(DEADLINE_S, tickets=tickets)
    assert [(each.is_lost, each.state) for each in lost] == [(True, IterationState.CRASHED)] * 2
    assert all("was lost" in each.reason for each in lost)
    gone = [running[tickets.index(each.ticket)] for each in lost]
    poll(lambda: not any(is_alive(pid) for pids in gone for pid in pids), "nobody is left")
    for ticket in tickets:
        on_ray.cancel(ticket)
    left = set(tickets) - {each.ticket for each in lost}
    while left:
        ended = on_ray.wait_any(DEADLINE_S, tickets=left)
        assert {each.state for each in ended} == {IterationState.CANCELLED}
        left -= {each.ticket for each in ended}
    poll(lambda: on_ray.capacity().n_cores == n_cores, "the node is not counted any more")


def test_without_ray_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is an extra."""
    from mlflow_automl_remote.automl.cluster.ray_executor import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ClusterUnusable, match=r"pip install 'mlflow-automl-remote\[ray\]'"
    ) as told:
        RayExecutor("auto", tmp_path)
    assert "\n" not in str(told.value)
