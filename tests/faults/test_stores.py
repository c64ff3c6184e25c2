"""A tracking server that is down, busy, or loses answers: all is published in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from tcp_proxy import HTTP_503, Proxy, running_proxy
from waiting import wait_until

from mlflow_automl_remote import forwarding
from mlflow_automl_remote.compute import AgentCommand, connect
from mlflow_automl_remote.errors import CommandFailed
from mlflow_automl_remote.publishing import parent_run
from mlflow_automl_remote.publishing.mapping import settled


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[int]:
    """A real MLflow server; gives its port."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_database, folder / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # seven processes less
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(port), 150)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("fault", ["503", "down", "answer lost"])
def test_a_store_that_fails_for_a_while_has_everything_once_in_the_end(
    start, undisturbed, server: int, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The sweep goes on meanwhile; the person is told once."""
    playing = start()
    with running_proxy(server) as link:
        uri = f"http://127.0.0.1:{link.port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        client = MlflowClient(f"http://127.0.0.1:{server}")
        experiment = client.create_experiment(f"{fault} {os.getpid()}")
        playing.run_id = client.create_run(experiment).info.run_id
        follower = playing.follow()
        playing.play(4)
        wait_until(lambda: follower.n_seen == 4)
        _begin(fault, link)
        playing.play()
        wait_until(lambda: follower.states[-1].status.is_finished)
        if fault != "answer lost":
            wait_until(lambda: follower.notices)
            assert "it is published later" in follower.notices[0]
            assert link.n_refused
            assert len(follower.notices) == 1
        link.answer = None
        link.restore()
        follower.result()
    _check(client, experiment, undisturbed)


def test_a_target_publishes_by_itself_with_what_it_is_told(  # noqa: PLR0915 - one story
    start, undisturbed, server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client has to stay; a server that is down is waited for; no credential is left."""
    playing = start()
    secret = "planted-8c41"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", secret)
    root = Path(playing.job.workspace.path)
    spec = replace(playing.spec, publish_from="target")
    with running_proxy(server) as link, connect(spec) as connection:
        modules = str(Path(__file__).parents[2])
        variables = {"PYTHONPATH": modules, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        connection._command = AgentCommand(python=sys.executable, variables=variables)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{link.port}")
        client = MlflowClient(f"http://127.0.0.1:{server}")
        experiment = client.create_experiment(f"from the target {os.getpid()}")
        run_id = playing.run_id = client.create_run(experiment).info.run_id
        facts, job = playing.run.facts, connection.job("sweep-0")
        link.answer = HTTP_503
        with pytest.raises(CommandFailed, match=r"(?s)cannot publish.*cannot be read from http"):
            forwarding.let_publish(connection, job, run_id, facts)
        assert link.n_refused
        link.answer = None
        parent_run.remember(run_id, facts)
        forwarding.let_publish(connection, job, run_id, facts)
        mlflow.set_tracking_uri(None)
        _looks_for(secret, root)
        playing.play(playing.n_lines // 2)
        wait_until(lambda: len(client.search_runs([experiment])) > 1)
        link.answer = HTTP_503
        link.reset()
        playing.play()
        wait_until(lambda: "published later" in (root / "target-publisher.log").read_text())
        link.answer = None
        wait_until(lambda: (root / "published").exists())
    _check(client, experiment, undisturbed)


def _looks_for(secret: str, workspace: Path) -> None:
    """Find a secret neither in files nor where others see it of the processes that publish."""
    pid = json.loads((workspace / "target-publisher.json").read_text())["pid"]
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(children.read_text)  # it has begun to follow
    pids = [str(pid), *children.read_text().split()]
    seen = [Path(f"/proc/{one}/{name}") for one in pids for name in ("cmdline", "environ")]
    for path in (*seen, *workspace.rglob("*")):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def _check(client: MlflowClient, experiment: str, undisturbed) -> None:
    """Compare the runs of an experiment with those of a sweep that nothing disturbed."""
    runs = client.search_runs([experiment])
    numbers = sorted(run.data.tags.get("automl_remote.iteration", "parent") for run in runs)
    assert numbers == ["0", "1", "2", "parent"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(client.search_logged_models([experiment])) == 3
    for run in runs:
        name = run.data.tags.get("automl_remote.iteration", "parent")
        assert run.data.params == undisturbed[name]["params"]
        assert run.data.metrics.keys() == undisturbed[name]["metrics"].keys()


def _begin(fault: str, link: Proxy) -> None:
    """Let a link fail in one of three ways."""
    if fault == "503":
        link.answer = HTTP_503
        link.reset()
    elif fault == "down":
        link.drop()
        link.reset()
    else:  # carried out by the server, and the answer is cut off
        lost: list[int] = []

        def lose(n_down: int) -> None:
            if len(lost) < 5:
                lost.append(n_down)
                link.reset()

        link.on_down = lose


def test_a_run_that_is_deleted_while_its_sweep_goes_on_is_told_of_once(start) -> None:
    """The sweep is followed to its end; nothing is created that was deleted."""
    playing = start()
    client = MlflowClient(f"sqlite:///{playing.database}")
    follower = playing.follow()
    half = playing.n_lines // 2
    playing.play(half)
    wait_until(lambda: follower.n_seen == half)
    n_children = len(settled(follower.states[-1]))
    assert n_children
    wait_until(lambda: len(client.search_runs(["0"])) == 1 + n_children)
    for run in client.search_runs(["0"]):
        client.delete_run(run.info.run_id)
    playing.play()
    assert follower.result().status.is_finished
    assert len(follower.notices) == 1
    assert f"The run {playing.run_id} was deleted in MLflow" in follower.notices[0]
    assert not client.search_runs(["0"])
