"""A sweep in a container of a target's engine: of a machine over SSH, and of this one.

The engine here is one of its own, because it is stopped and started again. It leaves the rules of
the network alone: they are the other engine's, and these containers have no network of their own.
The machine is a container of it that has an engine itself.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest
from docker_engine import (
    ACCOUNT,
    DEFAULT_URL,
    Daemon,
    Vm,
    ensure_image,
    own_engine,
    vm_with_engine,
)
from docker_registry import PASSWORD, USERNAME, Registry, running_registry
from small_disk import small_disk
from user_terminal import Terminal
from waiting import wait_until

from mlflow_automl_remote import compute
from mlflow_automl_remote.compute.containers import ContainerSpec
from mlflow_automl_remote.compute.engine import refuse_unsupported
from mlflow_automl_remote.compute.images import ensure_image as bring_image
from mlflow_automl_remote.compute.progress import ignore
from mlflow_automl_remote.compute.registries import RegistryLogin
from mlflow_automl_remote.errors import EnvironmentSetupFailed

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.docker

DATA = """
import os
import numpy as np

def get_data():
    if "PLANTED" in os.environ:
        assert open("/planted/file").read() == "inside"
    draw = np.random.default_rng(0)
    return {"X": draw.normal(size=(8000, 4)), "y": draw.integers(0, 150, size=8000)}
"""
"""Noise of many classes: a forest that learns it by heart takes gigabytes, neighbours nothing."""
PROJECT = """
name: contained
docker_env:
  image: %s
  volumes: %s
  environment: %s
entry_points:
  main:
    parameters:
      iterations: {type: float, default: 40}
    command: "automl-remote sweep --settings sweep.yaml --iterations {iterations}"
"""
WITHOUT_RULES = ("--iptables=false", "--ip6tables=false")
SETTINGS = """
task: classification
data_script: get_data.py
primary_metric: accuracy
validation_size: 0.2
max_concurrent_iterations: 1
allowed_models: %s
enable_racing: false
model_explainability: false
charts: none
"""


@pytest.fixture(scope="module")
def image_folder(pytestconfig: pytest.Config) -> Path:
    """Keeps the root file system of the image."""
    return pytestconfig.cache.mkdir("automl-remote-test-vm")


@pytest.fixture(scope="module")
def daemon(image_folder: Path) -> Iterator[tuple[Daemon, str]]:
    """An engine with the image of a minimal system, and the name of the image."""
    with own_engine(DEFAULT_URL, *WITHOUT_RULES) as made:
        with made.client() as client:
            image = ensure_image(client, image_folder)
        yield made, image


@pytest.fixture(scope="module")
def machine(
    daemon: tuple[Daemon, str], image_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vm, DockerClient]]:
    """A machine whose engine has the image too, and a client of that engine."""
    engine, image = daemon
    with (
        engine.client() as client,
        vm_with_engine(client, image, tmp_path_factory.mktemp("vm")) as (vm, socket),
        contextlib.closing(docker.DockerClient(f"unix://{socket}")) as inside,
    ):
        ensure_image(inside, image_folder)
        yield vm, inside


def _project(
    folder: Path, image: str, models: str, volumes: str = "[]", environment: str = "[]"
) -> Path:
    """Write an MLproject whose sweep runs in a container."""
    folder.mkdir()
    (folder / "get_data.py").write_text(DATA)
    (folder / "sweep.yaml").write_text(SETTINGS % models)
    (folder / "MLproject").write_text(PROJECT % (image, volumes, environment))
    return folder


def _states(terminal: Terminal) -> list[str]:
    """Give what became of the iterations of the one sweep."""
    return [
        run.data.tags.get("automl_remote.state", run.info.status)
        for run in terminal.children(terminal.parent().info.run_id)
    ]


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read what a command prints until a text is there."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    pytest.fail(seen)


def test_an_account_that_may_not_use_the_engine_is_told_how_to(
    machine: tuple[Vm, DockerClient], daemon: tuple[Daemon, str], terminal: Terminal
) -> None:
    """The doctor says it as the sweep does; one who may gets a look at all that is needed."""
    vm, _ = machine
    config = {**vm.config(), "environment": "docker", "image": daemon[1]}
    (terminal.folder / "vm.json").write_text(json.dumps(config))
    vm.sh(f"gpasswd -d {ACCOUNT} docker", user="root")
    with (
        compute.connect(compute.parse_target(config)) as connection,
        pytest.raises(EnvironmentSetupFailed, match=r"may not use.*usermod -aG docker") as refused,
    ):
        connection.prepare()
    status, output = terminal.automl_remote("target", "doctor", "vm.json")
    assert status == 1
    assert str(refused.value) in output
    assert vm.sh(f"usermod -aG docker {ACCOUNT}", user="root") == (0, "")
    status, output = terminal.automl_remote("target", "doctor", "vm.json")
    assert status == 0, output
    assert "answers at /var/run/docker.sock" in output
    assert f"{daemon[1]} is there" in output
    assert "/var/lib/docker: " in output


def test_a_sweep_on_a_machine_over_ssh_outlives_the_machine(
    machine: tuple[Vm, DockerClient], daemon: tuple[Daemon, str], terminal: Terminal
) -> None:
    """An iteration that takes too much memory fails alone, and so does a boot in mid-sweep.

    It is followed all the time. Nothing is left but files of the account that logged in, and a
    second sweep that is cancelled leaves nothing else either.
    """
    vm, inside = machine
    vm.sh(f"usermod -aG docker {ACCOUNT}", user="root")
    models = "[LogisticRegression, ExtremeRandomTrees, KNN, SGD]"
    project = _project(terminal.folder / "project", daemon[1], models)
    config = {**vm.config(), "memory_gib": 1}
    process = terminal.start(*terminal.mlflow_run_argv(project, config, iterations=6))
    seen = _read_until(process, "OUT_OF_MEMORY")
    (container,) = inside.containers.list(all=True)
    vm.cut_power()
    _, account = vm.sh(f"echo $(id -u {ACCOUNT}):$(id -g {ACCOUNT})")
    assert container.attrs["Config"]["User"] == account != "0:0"
    assert container.attrs["HostConfig"]["Memory"] == 2**30
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, seen + output
    others = ["COMPLETED"] * 4
    assert _states(terminal) == ["COMPLETED", "OUT_OF_MEMORY", *others], seen + output
    assert terminal.parent().info.status == "FINISHED"
    assert not inside.containers.list(all=True)
    _, resumed = vm.sh("cat $HOME/.automl-remote/sweeps/*/journal.jsonl | grep -c SweepResumed")
    assert resumed == "1"
    assert not vm.sh(f"find $HOME -not -user {ACCOUNT}")[1]


def test_a_cancelled_sweep_leaves_no_container_and_no_process(
    machine: tuple[Vm, DockerClient], daemon: tuple[Daemon, str], terminal: Terminal
) -> None:
    """Nor does one that runs leave dead processes behind iterations that were killed."""
    vm, inside = machine
    vm.sh(f"usermod -aG docker {ACCOUNT}", user="root")
    project = _project(terminal.folder / "project", daemon[1], "[ExtremeRandomTrees, KNN]")
    config = {**vm.config(), "memory_gib": 1}
    process = terminal.start(*terminal.mlflow_run_argv(project, config))
    seen = _read_until(process, "OUT_OF_MEMORY")
    assert len(inside.containers.list()) == 1
    wait_until(lambda: not vm.sh("ps -eo stat= | grep ^Z")[1])
    status, said = terminal.automl_remote("cancel", terminal.parent().info.run_id)
    assert status == 0, said
    output, _ = process.communicate(timeout=60)
    assert terminal.parent().info.status == "KILLED", seen + output
    assert not inside.containers.list(all=True)
    assert not vm.sh("ps -eo args | grep [m]lflow_automl_remote")[1]


def test_an_mlproject_says_what_its_container_is(
    daemon: tuple[Daemon, str],
    terminal: Terminal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Image, volumes and variables are those of its docker_env.

    The sweep outlives a restart of the engine that runs it.
    """
    root, planted = tmp_path / "root", tmp_path / "planted"
    monkeypatch.setenv("AUTOML_REMOTE_HOME", str(root))
    engine, image = daemon
    planted.mkdir()
    (planted / "file").write_text("inside")
    project = _project(
        terminal.folder / "project",
        image,
        "[KNN, SGD, LogisticRegression]",
        f'["{planted}:/planted:ro"]',
        '[["PLANTED", "yes"], "NOT_SET_HERE"]',
    )
    config = {"docker_socket": str(engine.socket)}
    process = terminal.start(*terminal.mlflow_run_argv(project, config, iterations=8))
    seen = _read_until(process, "StandardScaler LogisticRegression")
    engine.stop()
    engine.start()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, seen + output
    assert _states(terminal) == ["COMPLETED"] * 8, seen + output
    assert terminal.parent().info.status == "FINISHED"
    with engine.client() as client:
        assert not client.containers.list(all=True, filters={"label": "automl-remote.sweep"})
    (journal,) = root.glob("sweeps/*/journal.jsonl")
    assert journal.read_text().count('"type":"SweepResumed"') == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"docker_socket": "/nowhere"}, "No Docker engine answers"),
        ({"image": "no-such-image:here"}, "Check its name"),
        ({"image": None, "base_image": "no-such-base:1"}, "Check the name of the 'base_image'"),
        ({"python": "python9"}, "needs /bin/sh and a Python"),
        ({"volumes": ["/not-there:/data"]}, "A volume has to be there before"),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(
    daemon: tuple[Daemon, str], changes: dict[str, object], words: str
) -> None:
    """By a sweep, and by the doctor where it does not take a container to find it out."""
    engine, image = daemon
    config = {"environment": "docker", "image": image, "docker_socket": str(engine.socket)}
    chosen = {key: value for key, value in {**config, **changes}.items() if value is not None}
    spec = compute.parse_target(chosen)
    begin = time.monotonic()
    with (
        compute.connect(spec) as connection,
        pytest.raises(EnvironmentSetupFailed, match=words),
    ):
        connection.prepare()
    assert time.monotonic() - begin < 60
    if not {"python", "volumes"} & set(changes):
        checks = compute.examine(spec)
        (said,) = (each.text for each in checks if each.verdict is compute.Verdict.PROBLEM)
        assert words in said
    with engine.client() as client:
        assert not client.containers.list(all=True, filters={"label": "automl-remote.sweep"})


def test_an_account_of_a_private_registry_is_for_its_engine_alone(
    daemon: tuple[Daemon, str], terminal: Terminal
) -> None:
    """The right account brings the image; no other does, and nobody is told the password."""
    with running_registry(n_bytes=1000) as registry:
        without = _doctor(daemon[0], registry, terminal, None)
        assert "log in to its registry" in without
        with _docker_login(registry):
            assert "can be pulled" in _doctor(daemon[0], registry, terminal, None)
        wrong = _doctor(daemon[0], registry, terminal, "planted-wrong")
        assert "401" in wrong
        right = _doctor(daemon[0], registry, terminal, PASSWORD)
        assert f"{registry.image} can be pulled" in right
        config = _config(daemon[0], registry, PASSWORD)
        status, said = terminal.mlflow_run(config=config)
        assert status != 0
        assert "Pulling the image" in said
        assert "needs /bin/sh and a Python" in said  # it came, but there is nothing in it
        assert "planted" not in without + wrong + right + said
    with daemon[0].client() as client:
        client.images.remove(registry.image)
    assert not terminal.runs()
    assert not [path for path in Path.home().rglob("*") if _holds(path, PASSWORD)]


@contextlib.contextmanager
def _docker_login(registry: Registry) -> Iterator[None]:
    """Leave behind what `docker login` does, for a while."""
    auth = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    file = Path.home() / ".docker" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {registry.image.partition("/")[0]: {"auth": auth}}}))
    yield
    file.unlink()


def _config(engine: Daemon, registry: Registry, password: str | None) -> dict[str, object]:
    auth = {} if password is None else {"username": USERNAME, "password": password}
    return {
        "environment": "docker",
        "image": registry.image,
        "docker_socket": str(engine.socket),
        **({"docker_auth": auth} if auth else {}),
    }


def _doctor(engine: Daemon, registry: Registry, terminal: Terminal, password: str | None) -> str:
    (terminal.folder / "vm.json").write_text(json.dumps(_config(engine, registry, password)))
    return terminal.automl_remote("target", "doctor", "vm.json")[1]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and text.encode() in path.read_bytes()


def test_an_engine_whose_disk_is_full_says_so(tmp_path: Path) -> None:
    """It says it in the middle of a pull, when it has answered that all is well."""
    login = RegistryLogin(username=USERNAME, password=PASSWORD)
    with (
        small_disk(tmp_path / "disk", "24m") as disk,
        own_engine(DEFAULT_URL, *WITHOUT_RULES, data=disk) as engine,
        running_registry(n_bytes=40_000_000) as registry,
        engine.client() as client,
    ):
        container = ContainerSpec(image=registry.image)
        with pytest.raises(EnvironmentSetupFailed, match=r"no space.*docker system prune") as full:
            bring_image(client, container, login, "this machine", ignore)
    assert len(str(full.value).splitlines()) == 1


@pytest.mark.parametrize("option", ["name=rootless", "name=userns"])
def test_an_engine_whose_accounts_are_others_is_refused(option: str) -> None:
    info = {"SecurityOptions": ["name=seccomp,profile=default", option]}
    with pytest.raises(EnvironmentSetupFailed, match="would not belong to"):
        refuse_unsupported(info, "ada@vm")
