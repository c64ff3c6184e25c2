"""Both targets, each with a stand-in for the agent, so that one test runs over either."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import SshServer

from mlflow_automl_remote.compute import Connection, Job, TargetSpec, connect, parse_target

AGENT = Path(__file__).with_name("stand_in_agent.py")
Submit = Callable[..., Job]
SWEEP_ID = "sweep-1"


@pytest.fixture(params=["local", "ssh"])
def spec(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TargetSpec:
    """A target with a root of its own."""
    root = tmp_path / "root with 'quotes'"
    if request.param == "local":
        monkeypatch.setenv("AUTOML_REMOTE_HOME", str(root))
        return parse_target({})
    server: SshServer = request.getfixturevalue("sshd")
    return parse_target(server.config(root=str(root), env_manager="local"))


@pytest.fixture
def connection(spec: TargetSpec) -> Iterator[Connection]:
    with connect(spec) as opened:
        yield opened


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "get_data.py").write_text("def get_data():\n    return {}\n")
    return folder


@pytest.fixture
def submit(connection: Connection, project: Path, tmp_path: Path) -> Iterator[Submit]:
    """Start stand-in agents, and end those that are left when the test has ended."""

    def start(settings: str = "{}") -> Job:
        return _start_stand_in(connection, project, tmp_path, settings)

    yield start
    with connect(connection.spec) as later:
        assert later.job(SWEEP_ID).kill(grace_s=1.0) == ()


@pytest.fixture
def start_stand_in() -> Submit:
    """The function behind `submit`, for tests with a connection of their own."""
    return _start_stand_in


def _start_stand_in(
    connection: Connection, project: Path, tmp_path: Path, settings: str = "{}"
) -> Job:
    """Submit a sweep whose agent is found in a folder instead of in the package."""
    modules = tmp_path / "modules"
    modules.mkdir(exist_ok=True)
    shutil.copy(AGENT, modules)
    command = connection.prepare()
    variables = {**command.variables, "PYTHONPATH": str(modules)}
    connection._command = replace(command, variables=variables)
    return connection.submit(
        SWEEP_ID, project, settings, needed={"data_script": "get_data.py"}, module="stand_in_agent"
    )
