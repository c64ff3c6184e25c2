"""Targets of both kinds, and small projects."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sshd import SshServer, running_sshd
from user_terminal import REPOSITORY


@pytest.fixture(scope="session")
def vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A machine over SSH whose environment is built by the first sweep and used by the others."""
    with running_sshd(tmp_path_factory.mktemp("vm")) as server:
        yield server


@pytest.fixture(params=["local", "ssh"])
def target(request: pytest.FixtureRequest) -> Mapping[str, object] | None:
    """A backend config: none for this machine, or a machine over SSH."""
    if request.param == "local":
        return None
    server: SshServer = request.getfixturevalue("vm")
    return server.config()


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Make a small MLflow project with a data script and settings."""

    def make(script: str | None, **settings: object) -> Path:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "MLproject").write_text((REPOSITORY / "MLproject").read_text())
        (folder / "conda.yaml").write_text("dependencies: [python=3.11]\n")
        chosen = {"task": "classification", "iterations": 2, "model_explainability": False}
        (folder / "automl.yaml").write_text(json.dumps(chosen | settings))
        if script is not None:
            (folder / "get_data.py").write_text(script)
        return folder

    return make
