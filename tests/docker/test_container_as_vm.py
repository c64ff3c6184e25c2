"""The main job against a bare machine: a container with nothing but python3 and openssh-server.

One file, because two would each start an engine and make its image.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import pytest
from docker.models.containers import Container
from docker_engine import ACCOUNT, CERTIFICATES, Engine, Vm, pack
from mlflow.artifacts import download_artifacts
from sklearn.datasets import load_digits
from sshd import FORWARDED
from user_terminal import Terminal

from mlflow_automl_remote.compute import connect, parse_target
from mlflow_automl_remote.errors import AuthenticationFailed, ConnectFailed

pytestmark = pytest.mark.docker

BUILT = ("Sending uv", "Making an environment", "Installing")
"""What the terminal says while it builds an environment, and only then; lines in a row may be
left out, but the first one is not."""


def test_the_container_is_as_bare_as_a_new_machine(container_vm: Vm) -> None:
    """There are Python and sshd, but nothing that would build an environment for us."""
    status, version = container_vm.sh("python3 --version && test -x /usr/sbin/sshd")
    assert (status, version.split()[0]) == (0, "Python")
    for missing in ("pip", "pip3", "uv", "gcc", "cc", "c++", "make", "git", "curl"):
        assert container_vm.sh(f"command -v {missing}")[0] != 0, missing
    assert container_vm.sh("python3 -m pip --version")[0] != 0
    assert container_vm.sh("python3 -m venv /tmp/none")[0] != 0
    assert container_vm.sh("id -u")[1] != "0"


def test_a_password_is_enough_where_the_machine_takes_one(
    container_vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is there to be offered; a wrong password is refused without being told."""
    status, output = container_vm.sh(f"echo {ACCOUNT}:planted-4e7a | chpasswd", user="root")
    assert status == 0, output
    config = {key: value for key, value in container_vm.config().items() if key != "key_file"}
    monkeypatch.setenv("AUTOML_REMOTE_PASSWORD", "planted-4e7a")
    with connect(parse_target(config)) as connection:
        assert connection.machine.n_cores >= 1
    monkeypatch.setenv("AUTOML_REMOTE_PASSWORD", "planted-wrong")
    with pytest.raises(AuthenticationFailed, match="with the password") as refused:
        connect(parse_target(config))
    assert "planted" not in str(refused.value)


def test_a_machine_that_stands_still_is_given_up_and_there_again(
    container_vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel takes the connection, and nobody answers."""
    monkeypatch.setattr("mlflow_automl_remote.compute.ssh.CONNECT_S", 1.0)
    spec = parse_target(container_vm.config())
    container_vm.container.pause()
    try:
        begin = time.monotonic()
        with pytest.raises(ConnectFailed):
            connect(spec)
        assert time.monotonic() - begin < 15
    finally:
        container_vm.container.unpause()
    with connect(spec) as connection:
        assert connection.machine.system == "Linux"


def test_a_sweep_on_a_bare_machine_and_a_second_one_in_its_environment(
    container_vm: Vm,
    new_terminal: Callable[[str], Terminal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first sweep builds the environment; the second finds it there and is faster."""
    container_vm.empty_home()
    terminal = new_terminal("here")
    status, output, first_s = _timed_sweep(terminal, container_vm.config())
    assert status == 0, output
    assert BUILT[0] in output, output
    _check_store(terminal, monkeypatch)
    _, strangers = container_vm.sh(f"find $HOME -not -user {ACCOUNT}")
    assert not strangers
    _, journals = container_vm.sh("find $HOME -name 'journal*'")
    assert journals

    again = new_terminal("again")
    status, output, second_s = _timed_sweep(again, container_vm.config())
    assert status == 0, output
    assert not any(text in output for text in BUILT), output
    assert second_s < first_s
    assert len(again.children(again.parent().info.run_id)) == 4


def _timed_sweep(terminal: Terminal, config: Mapping[str, object]) -> tuple[int, str, float]:
    start = time.monotonic()
    status, output = terminal.mlflow_run(config=config, iterations=4, n_cross_validations=3)
    return status, output, time.monotonic() - start


def _check_store(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was promised is in the store, and the models work on this machine."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", terminal.tracking_uri)
    parent = terminal.parent()
    children = terminal.children(parent.info.run_id)
    assert [int(run.data.tags["automl_remote.iteration"]) for run in children] == [0, 1, 2, 3]
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    X, y = load_digits(return_X_y=True)
    for child in children:
        assert child.outputs is not None
        (output_model,) = child.outputs.model_outputs
        model = mlflow.pyfunc.load_model(f"models:/{output_model.model_id}")
        assert (model.predict(X[10:]) == y[10:]).mean() > 0.7
    best = max(children, key=lambda run: run.data.metrics["AUC_weighted"])
    assert parent.data.tags["automl_remote.best_run_id"] == best.info.run_id
    folder = Path(download_artifacts(run_id=best.info.run_id, artifact_path="explanation"))
    assert "shap_values" in json.loads((folder / "summary.json").read_text())
    assert (folder / "explanation.html").exists()


def test_a_sweep_goes_on_after_the_machine_lost_power(
    container_vm: Vm, terminal: Terminal
) -> None:
    """`resume` after a reboot in mid-sweep ends with every iteration, and each of them once."""
    argv = terminal.mlflow_run_argv(
        config=container_vm.config(),
        iterations=6,
        n_cross_validations=3,
        max_concurrent_iterations=1,
        model_explainability="false",
    )
    process = terminal.start(*argv)
    seen = _read_until(process, "\n         1   ")
    pid = int(seen.partition("as process ")[2].split()[0])
    assert container_vm.sh(f"stat -c %U /proc/{pid}") == (0, ACCOUNT)
    container_vm.cut_power()
    output, _ = process.communicate(timeout=120)
    run_id = terminal.parent().info.run_id
    assert process.returncode == 1, output
    assert f"automl-remote resume {run_id}" in output
    assert "Traceback" not in output
    assert terminal.parent().info.status == "RUNNING"
    before = _starts(terminal, run_id)
    assert len(before) < 6

    status, output = terminal.automl_remote("resume", run_id)
    assert status == 0, output
    assert not any(text in output for text in BUILT), output
    children = terminal.children(run_id)
    assert [int(run.data.tags["automl_remote.iteration"]) for run in children] == list(range(6))
    assert {run.info.status for run in (terminal.parent(), *children)} == {"FINISHED"}
    assert all(run.outputs and len(run.outputs.model_outputs) == 1 for run in children)
    after = _starts(terminal, run_id)
    assert before.items() <= after.items(), "a finished iteration has run again"


def _starts(terminal: Terminal, run_id: str) -> dict[str, int]:
    """Give the run ids of the finished iterations and when they started, in ms."""
    return {
        run.info.run_id: run.info.start_time
        for run in terminal.children(run_id)
        if run.info.status == "FINISHED"
    }


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read what a command prints until a text is there."""
    assert process.stdout is not None
    seen = ""
    deadline = time.monotonic() + 120
    while text not in seen:
        assert time.monotonic() < deadline, seen
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def test_a_sweep_on_a_container_that_was_created_for_it(
    docker_engine: Engine, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host key is known from birth, it survives a stop, and nothing of it stays."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    before = docker_engine.client.containers.list(all=True)
    status, output = terminal.automl_remote(
        "target", "create", "demo", "--option", f"image={docker_engine.image}",
        "--option", "memory_gib=8", "--option", f"environment={_network()}",
    )  # fmt: skip
    assert status == 0, output
    assert "Created target 'demo'" in output
    (container,) = set(docker_engine.client.containers.list(all=True)) - set(before)
    if "SSL_CERT_FILE" in os.environ:  # the image has no certificates at all
        content = Path(os.environ["SSL_CERT_FILE"]).read_bytes()
        container.put_archive("/", pack({CERTIFICATES[1:]: content}))
    ports = container.attrs["HostConfig"]["PortBindings"]["22/tcp"]
    assert [port["HostIp"] for port in ports] == ["127.0.0.1"]

    assert terminal.automl_remote("target", "stop", "demo")[0] == 0
    status, output = terminal.automl_remote("target", "start", "demo")
    assert status == 0, output

    status, output = terminal.mlflow_run(
        config={"target": "demo"}, iterations=2, n_cross_validations=3, model_explainability=False
    )
    assert status == 0, output
    assert len(terminal.children(terminal.parent().info.run_id)) == 2
    assert "8 GiB, since" in terminal.automl_remote("target", "list")[1]

    status, output = terminal.automl_remote("target", "destroy", "demo")
    assert status == 0, output
    assert set(docker_engine.client.containers.list(all=True)) == set(before)
    networks = [network.name for network in docker_engine.client.networks.list()]
    assert "automl-remote" not in networks


def test_a_container_that_nobody_uses_switches_itself_off_and_stays_off(
    docker_engine: Engine, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker_engine.url)
    before = docker_engine.client.containers.list(all=True)
    status, output = terminal.automl_remote(
        "target", "create", "idle", "--option", f"image={docker_engine.image}",
        "--idle-stop", "0.05",
    )  # fmt: skip
    assert status == 0, output
    (container,) = set(docker_engine.client.containers.list(all=True)) - set(before)
    assert "off when idle for 0.05 min" in terminal.automl_remote("target", "list")[1]
    _wait_until_off(container)
    status, output = terminal.automl_remote("target", "start", "idle")
    assert status == 0, output
    _wait_until_off(container)
    assert terminal.automl_remote("target", "destroy", "idle", "--discard")[0] == 0
    assert set(docker_engine.client.containers.list(all=True)) == set(before)


def _wait_until_off(container: Container) -> None:
    container.reload()
    deadline = time.monotonic() + 60
    while container.status != "exited":
        assert time.monotonic() < deadline, container.logs()
        time.sleep(0.2)
        container.reload()
    assert container.attrs["State"]["ExitCode"] == 0


def test_an_engine_that_is_not_there_is_one_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")
    status, output = terminal.automl_remote("target", "create", "demo")
    assert status == 1
    assert "docker info" in output
    assert len(output.strip().splitlines()) <= 2
    assert "Traceback" not in output


def _network() -> str:
    """What this machine is told of its network, for the container on it."""
    variables = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    variables.pop("SSL_CERT_DIR", None)
    if "SSL_CERT_FILE" in variables:
        variables["SSL_CERT_FILE"] = CERTIFICATES
    return ",".join(f"{name}={value}" for name, value in variables.items())
