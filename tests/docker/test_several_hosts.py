"""A sweep on several machines that are one Ray cluster for as long as it lasts."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from data_scripts import DIGITS, QUICK
from docker_engine import Engine, Vm, private_network, running_vm
from user_terminal import BIN, REPOSITORY, Terminal
from waiting import wait_until

pytestmark = pytest.mark.docker

N_ITERATIONS = 60
BUILD_S = 500.0
"""For environments on all machines; packages come from an index the first time."""
LEAVE_S = 150.0
"""For a machine that was away to find out that the sweep has ended."""
SETTINGS = QUICK | {
    "iterations": N_ITERATIONS,
    "allowed_models": ["KNN", "LogisticRegression", "RandomForest", "ExtremeRandomTrees"],
}
ASK = """
import sys, ray
ray.init(sys.argv[1], log_to_driver=False)
print(len(ray.nodes()), "nodes")
"""


@pytest.fixture
def machines(
    docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sequence[Vm]]:
    """Four machines of one core in a network of their own; what they download they share."""
    shared = tmp_path_factory.mktemp("shared")
    shared.chmod(0o777)
    client = docker_engine.client
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, shared, ignore_errors=True)
        network = stack.enter_context(private_network(client))
        yield [
            stack.enter_context(
                running_vm(
                    client,
                    docker_engine.image,
                    tmp_path_factory.mktemp(f"vm{number}"),
                    network,
                    {"UV_CACHE_DIR": "/shared/cache"},
                    hostname=f"vm{number}",
                    cpuset_cpus=str(number % 2),
                    shm_size="256m",
                    volumes={str(shared): {"bind": "/shared", "mode": "rw"}},
                )
            )
            for number in range(1, 5)
        ]


@pytest.mark.timeout(1200)
def test_a_sweep_outlives_machines_that_are_lost_stand_still_or_come_later(
    machines: Sequence[Vm], terminal: Terminal, tmp_path: Path
) -> None:
    """Each iteration is there once, and nothing of the sweep is left on any machine."""
    first, lost, paused, late = machines
    hosts = [_host(vm, number) for number, vm in enumerate(machines, 1)]
    config = {"hosts": hosts[:3]}
    _automl_remote(terminal, "target", "doctor", json.dumps(config))
    running = terminal.start(*terminal.mlflow_run_argv(_project(tmp_path), config))
    _wait_for_nodes(running, first, ("vm1", "vm2", "vm3"))
    lost.container.kill()
    paused.container.pause()
    _check_that_strangers_are_kept_out(first)
    _automl_remote(terminal, "join", terminal.parent().info.run_id, json.dumps(hosts[3]))
    _wait_for_nodes(running, first, ("vm4",))
    paused.container.unpause()
    output, _ = running.communicate(timeout=BUILD_S)
    assert running.returncode == 0, output

    _check_store(terminal)
    for vm in (first, paused, late):
        wait_until(partial(_is_clean, vm), LEAVE_S)
    lost.container.start()
    lost.wait_until_up()
    _automl_remote(terminal, "target", "clean", json.dumps({"hosts": hosts}))
    for number in range(1, 5):
        assert first.sh(f"ls /shared/vm{number}/sweeps") == (0, "")


def _automl_remote(terminal: Terminal, *words: str) -> None:
    status, output = terminal.run(BIN / "automl-remote", *words)
    assert status == 0, output


def _wait_for_nodes(running: subprocess.Popen[str], head: Vm, names: Sequence[str]) -> None:
    """Wait until machines have run an iteration each."""

    def have_run() -> bool:
        if running.poll() is not None:
            pytest.fail(f"It ended early: {running.communicate()[0]}")
        journal = head.sh("cat /shared/vm1/sweeps/*/journal.jsonl")[1]
        return all(f'"node":"{name} (' in journal for name in names)

    wait_until(have_run, BUILD_S)


def _check_store(terminal: Terminal) -> None:
    """Each iteration has one run; all machines have run some, and some ran twice."""
    parent = terminal.parent()
    children = terminal.children(parent.info.run_id)
    numbers = [int(run.data.tags["automl_remote.iteration"]) for run in children]
    assert numbers == list(range(N_ITERATIONS))
    assert {run.info.status for run in children} == {"FINISHED"}
    nodes = Counter(run.data.tags["automl_remote.node"].split()[0] for run in children)
    assert {"vm1", "vm2", "vm3", "vm4"} == set(nodes), nodes
    assert {run.data.tags["automl_remote.attempt"] for run in children} > {"1"}
    metrics = parent.data.metrics
    assert any(name.startswith("system/vm4") for name in metrics), metrics


def _host(vm: Vm, number: int) -> dict[str, object]:
    """Give what leads to a machine, each with a folder of its own on the disk that they share."""
    return {**vm.config(), "root": f"/shared/vm{number}"}


def _project(folder: Path) -> Path:
    project = folder / "project"
    project.mkdir()
    (project / "MLproject").write_text((REPOSITORY / "MLproject").read_text())
    (project / "conda.yaml").write_text("dependencies: [python=3.11]\n")
    (project / "automl.yaml").write_text(json.dumps(SETTINGS))
    (project / "get_data.py").write_text(DIGITS)
    return project


def _check_that_strangers_are_kept_out(vm: Vm) -> None:
    """Whoever reaches Ray's port is let in with the word of this sweep, and not without."""
    _, about = vm.sh("cat /shared/vm1/sweeps/*/ray.json")
    ask = f"/shared/vm1/environments/*/bin/python -c '{ASK}' {json.loads(about)['address']} 2>&1"
    known = "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$(echo /shared/vm1/sweeps/*/ray-token)"
    assert "InvalidAuthToken" in vm.sh(f"RAY_AUTH_MODE=disabled timeout 8 {ask}")[1]
    assert "nodes" in vm.sh(f"{known} timeout 60 {ask}")[1].splitlines()[-1]


def _is_clean(vm: Vm) -> bool:
    """Whether no process of a sweep is on a machine, and nothing that Ray has left there."""
    marked = "grep -l AUTOML_REMOTE_SWEEP= /proc/[0-9]*/environ 2>/dev/null"
    left = vm.sh(f"{marked}; ls -d /tmp/automl-remote* 2>/dev/null", user="root")[1]
    return not left
