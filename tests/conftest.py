"""Fixtures for all tests: no settings of the developer's, and a real SSH server."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests find the modules beside this file

from sshd import SshServer, find_sshd, running_sshd

if TYPE_CHECKING:
    from ray_cluster import RayCluster
    from user_terminal import Terminal


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let screenshots of the browser tests be kept: --screenshots docs/images."""
    parser.addoption("--screenshots", default=None, help="Folder for pictures of what is shown.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that need an engine and its image, which take a while to be there."""
    items.sort(key=lambda item: item.get_closest_marker("docker") is None)


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for caches that are slow to fill and the same for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _clean_environment(
    tmp_path_factory: pytest.TempPathFactory, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Give every test an empty HOME, and no settings of the developer's or of another test."""
    _forget_settings()
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("MPLCONFIGDIR", str(shared_cache))
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)
    _forget_settings()


def _forget_settings() -> None:
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "AUTOML_REMOTE_", "SSH_", "XDG_CONFIG")):
            del os.environ[name]


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server for all tests that neither stop it nor change it."""
    if find_sshd() is None:
        pytest.skip("there is no sshd on this machine")
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[SshServer]:
    """A server of one test, that it may stop, start again and cut connections of."""
    if find_sshd() is None:
        pytest.skip("there is no sshd on this machine")
    with running_sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster of two nodes with two cores each; tests may let others join."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from ray_cluster import running_cluster

    with running_cluster(2, 2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of all synthetic iterations."""
    from synthetic_sweep import saved_model

    return saved_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, which takes seconds to make and no time to copy."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "empty.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def new_terminal(tmp_path: Path, empty_database: Path) -> Iterator[Callable[[str], Terminal]]:
    """Opens a user's terminal in a new folder of this name, with an empty store."""
    from user_terminal import open_terminal

    with contextlib.ExitStack() as stack:
        yield lambda name: stack.enter_context(open_terminal(tmp_path / name, empty_database))


@pytest.fixture
def terminal(new_terminal: Callable[[str], Terminal]) -> Terminal:
    """A user's terminal."""
    return new_terminal("here")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """A real MLflow server on a free port of this machine."""
    from mlflow_server import running_server

    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    with running_server(folder) as uri:
        yield uri


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: what a test needs is installed there, so a skip is a failure."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {report.longrepr}"
    return report
