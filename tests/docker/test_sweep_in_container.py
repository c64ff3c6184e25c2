"""A sweep in a container of a target's engine, over SSH and on this machine.

The engine is one of its own, because it is stopped and started again. It leaves the rules of the
network alone: they are the other engine's, and these containers have no network of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import DEFAULT_URL, Daemon, ensure_image, own_engine
from sshd import SshServer
from user_terminal import Terminal
from waiting import wait_until

from mlflow_automl_remote import compute
from mlflow_automl_remote.errors import EnvironmentSetupFailed

pytestmark = pytest.mark.docker

DATA = """
import os
import numpy as np

def get_data():
    assert os.environ["PLANTED"] == "yes" and open("/planted/file").read() == "inside"
    draw = np.random.default_rng(0)
    return {"X": draw.normal(size=(8000, 4)), "y": draw.integers(0, 150, size=8000)}
"""
"""Noise of many classes: a forest that learns it by heart takes gigabytes, a line nothing."""
PROJECT = """
name: contained
docker_env:
  image: %s
  volumes: ["%s:/planted:ro"]
  environment: [["PLANTED", "yes"], "NOT_SET_HERE"]
entry_points:
  main:
    command: "automl-remote sweep --settings sweep.yaml"
"""
SETTINGS = """
task: classification
data_script: get_data.py
primary_metric: accuracy
iterations: 40
validation_size: 0.2
max_concurrent_iterations: 1
allowed_models: [BernoulliNaiveBayes, ExtremeRandomTrees, RandomForest]
enable_racing: false
model_explainability: false
charts: none
"""


@pytest.fixture(scope="module")
def daemon(pytestconfig: pytest.Config) -> Iterator[tuple[Daemon, str]]:
    """An engine with the image of a minimal system, and the name of the image."""
    folder = pytestconfig.cache.mkdir("automl-remote-test-vm")
    with own_engine(DEFAULT_URL, "--iptables=false", "--ip6tables=false") as made:
        with made.client() as client:
            image = ensure_image(client, folder)
        yield made, image


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our folder on the target, with one environment for all tests."""
    return tmp_path_factory.mktemp("root")


def _containers(daemon: Daemon) -> list[str]:
    with daemon.client() as client:
        return [str(each.name) for each in client.containers.list(all=True)]


def test_a_sweep_over_ssh_outlives_the_engine_that_runs_it(
    daemon: tuple[Daemon, str], own_sshd: SshServer, terminal: Terminal, root: Path
) -> None:
    """It is followed all the time; nothing is left but files of the account that logged in."""
    engine, image = daemon
    config = own_sshd.config(
        environment="docker",
        image=image,
        docker_socket=str(engine.socket),
        root=str(root),
        memory_gib=4,
    )
    argv = terminal.mlflow_run_argv(config=config, iterations=6, n_cross_validations=3)
    process = terminal.start(*argv)
    wait_until(lambda: process.poll() is not None or len(terminal.runs()) > 1, 200)
    (name,) = _containers(engine)
    with engine.client() as client:
        found = client.api.inspect_container(name)
    assert found["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    assert found["HostConfig"]["Memory"] == 4 * 2**30
    engine.stop()
    engine.start()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    children = terminal.children(terminal.parent().info.run_id)
    assert len(children) == 6, output
    assert {run.info.status for run in (terminal.parent(), *children)} == {"FINISHED"}
    assert not _containers(engine)
    assert {path.lstat().st_uid for path in root.rglob("*")} == {os.getuid()}
    (journal,) = root.glob("sweeps/*/journal.jsonl")
    assert journal.read_text().count('"type":"SweepResumed"') == 1


def _went_on(terminal: Terminal) -> bool:
    """Whether an iteration ran out of memory, and a later one has a model."""
    parents = [run for run in terminal.runs() if "mlflow.parentRunId" not in run.data.tags]
    states = [
        run.data.tags.get("automl_remote.state", run.info.status)
        for parent in parents
        for run in terminal.children(parent.info.run_id)
    ]
    if "OUT_OF_MEMORY" not in states:
        return False
    return bool({"FINISHED", "COMPLETED"} & set(states[states.index("OUT_OF_MEMORY") :]))


def test_an_mlproject_says_what_its_container_is(
    daemon: tuple[Daemon, str],
    terminal: Terminal,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Image, volumes and variables are those of its docker_env.

    Where its limit of memory is too little for one iteration, the others go on. A cancel leaves no
    container.
    """
    monkeypatch.setenv("AUTOML_REMOTE_HOME", str(root))
    engine, image = daemon
    project, planted = tmp_path / "project", tmp_path / "planted"
    project.mkdir()
    planted.mkdir()
    (planted / "file").write_text("inside")
    (project / "get_data.py").write_text(DATA)
    (project / "sweep.yaml").write_text(SETTINGS)
    (project / "MLproject").write_text(PROJECT % (image, planted))
    config = {"docker_socket": str(engine.socket), "memory_gib": 1}
    process = terminal.start(*terminal.mlflow_run_argv(project, config))
    wait_until(lambda: process.poll() is not None or _went_on(terminal), 200)
    assert process.poll() is None, process.communicate()
    assert len(_containers(engine)) == 1
    status, said = terminal.automl_remote("cancel", terminal.parent().info.run_id)
    assert status == 0, said
    output, _ = process.communicate(timeout=60)
    assert terminal.parent().info.status == "KILLED", output
    assert not _containers(engine)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"docker_socket": "/nowhere"}, "No Docker engine answers"),
        ({"image": "no-such-image:here"}, "Check its name"),
        ({"python": "python9"}, "needs /bin/sh and a Python"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(
    daemon: tuple[Daemon, str], tmp_path: Path, changes: dict[str, str], words: str
) -> None:
    engine, image = daemon
    config = {"environment": "docker", "image": image, "docker_socket": str(engine.socket)}
    spec = compute.parse_target({**config, **changes})
    begin = time.monotonic()
    with (
        compute.connect(spec) as connection,
        pytest.raises(EnvironmentSetupFailed, match=words),
    ):
        connection.prepare()
    assert time.monotonic() - begin < 60
    assert not _containers(engine)
