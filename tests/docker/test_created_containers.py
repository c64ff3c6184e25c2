"""From nothing to a sweep on a machine that was made for it, and back to nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from docker_engine import CERTIFICATES, Engine, pack
from sshd import FORWARDED
from user_terminal import Terminal

pytestmark = pytest.mark.docker


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
    assert not docker_engine.client.networks.list(names=["automl-remote"])


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
