"""A finished sweep on every store that MLflow has: all of it there, and never twice."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow_server import running_server
from postgres import find_postgres, running_postgres

from mlflow_automl_remote.errors import PublishFailed

from .conftest import Store

PASSWORD = "a long password"
N_ITERATIONS = 2


@pytest.fixture(
    params=["sqlite", "one worker", "4 workers, allowed hosts", "basic-auth", "postgresql"]
)
def uri(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The address of each store in turn."""
    folder = tmp_path / "store"
    folder.mkdir()
    shutil.copyfile(empty_database, folder / "mlflow.db")
    if request.param == "sqlite":
        monkeypatch.chdir(folder)
        yield f"sqlite:///{folder}/mlflow.db"
    elif request.param == "one worker":
        yield request.getfixturevalue("server")
    elif request.param == "basic-auth":
        yield from _with_users(folder, monkeypatch)
    elif request.param == "postgresql":
        programs = find_postgres()
        if programs is None:
            pytest.skip("PostgreSQL is not installed")
        with (
            running_postgres(programs) as database,
            running_server(folder, database=database) as uri,
        ):
            yield uri
    else:
        options = ("--allowed-hosts", "localhost:{port}")
        with running_server(folder, 4, options=options) as uri:
            yield uri.replace("127.0.0.1", "localhost")


def _with_users(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    config = folder / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{folder}/users.db\nadmin_password = {PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
    options = ("--app-name", "basic-auth")
    with running_server(folder, options=options, variables=variables) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        yield uri


def everything(client: MlflowClient, experiment_id: str) -> list[Any]:
    """All that a store has of an experiment, deleted runs included."""
    runs = client.search_runs([experiment_id], run_view_type=ViewType.ALL)
    found: list[Any] = [
        (
            run.to_dictionary(),
            sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            {
                name: [
                    (point.step, point.timestamp, point.value)
                    for point in client.get_metric_history(run.info.run_id, name)
                ]
                for name in ("accuracy_fold", "best_AUC_weighted")
            },
        )
        for run in runs
    ]
    return found + [
        model.to_dictionary() for model in client.search_logged_models([experiment_id])
    ]


def test_a_sweep_is_published_whole_and_publishing_again_changes_nothing(
    uri: str, new_sweep: Callable[..., Any]
) -> None:
    """On sqlite, on servers of one and four workers, with users, on PostgreSQL."""
    client = MlflowClient(tracking_uri=uri)
    store = Store(client, uri, client.create_experiment(f"every store {time.monotonic_ns()}"))
    parent = store.new_parent()
    sweep = new_sweep(f"sweep-{store.experiment_id}").filled(N_ITERATIONS)
    with sweep.publisher(client, parent) as publisher:
        publisher.publish(sweep.state)
    first = everything(client, store.experiment_id)
    assert len(first) == 1 + N_ITERATIONS + N_ITERATIONS
    for run, files, _ in first[: 1 + N_ITERATIONS]:
        assert run["info"]["status"] == "FINISHED"
        assert "leaderboard.html" in files or "iteration.log" in files
        assert len(run["outputs"]["model_outputs"]) == 1
    with sweep.publisher(MlflowClient(tracking_uri=uri), parent) as another:
        another.publish(sweep.state)
    assert first == everything(client, store.experiment_id)
    if "localhost" in uri:
        _check_refused(uri.replace("localhost", "127.0.0.1"), sweep, parent, "Invalid Host header")


def _check_refused(uri: str, sweep: Any, parent: str, reason: str) -> None:
    """A server that does not want us says why, in one line."""
    publisher = sweep.publisher(MlflowClient(tracking_uri=uri), parent)
    with pytest.raises(PublishFailed, match=reason) as caught:
        publisher.publish(sweep.state)
    assert "\n" not in str(caught.value)
