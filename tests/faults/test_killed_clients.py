"""A client that is killed at the worst moments: the next one makes up for it, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from waiting import wait_until

from mlflow_automl_remote.compute import Liveness, connect

FOLLOWER = """
import os, signal, sys
import mlflow
from mlflow_automl_remote.compute import TargetSpec, job
from mlflow_automl_remote.publishing import ParentFacts
from mlflow_automl_remote.sweep_run import SweepHandle
_, point, run_id, sweep_id, target = sys.argv

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(name, n_calls):
    called, left = getattr(mlflow.MlflowClient, name), [n_calls]
    def call(self, *args, **options):
        result = called(self, *args, **options)
        left[0] -= 1
        if not left[0]:
            die()
        return result
    setattr(mlflow.MlflowClient, name, call)

fetch = job.fetch_files
if point == "after create_run":
    die_after("create_run", 2)
elif point == "while publishing":
    die_after("log_batch", 4)
else:
    job.fetch_files = lambda *args: fetch(*args[:4], lambda n_bytes: die())
facts = ParentFacts(sweep_id=sweep_id, target="vm", target_config=target, workspace="")
SweepHandle(run_id, facts, TargetSpec.from_json(target)).follow()
"""
SUBMITTER = """
import os, signal, sys
from pathlib import Path
from mlflow_automl_remote.compute import AgentCommand, Connection, TargetSpec, connect, job
from mlflow_automl_remote.compute.control import Control
_, point, sweep_id, target, project, recorded, modules = sys.argv
command = AgentCommand(python=sys.executable, variables={"PYTHONPATH": modules})
Connection.prepare = lambda self, wanted: command
finish = Control.finish

def finish_or_die(self, do, *args):
    if do == "launch":
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(self, do, *args)

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

if point == "before the launch is acknowledged":
    Control.finish = finish_or_die
else:
    job.Job.start = die
with connect(TargetSpec.from_json(target)) as connection:
    connection.submit(sweep_id, Path(project), recorded, needed={}, module="scripted_agent")
"""


def _is_killed(program: str, *words: str) -> None:
    """Run a program that kills itself, which proves that it got to that point."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", ["after create_run", "while publishing", "while downloading"])
def test_what_a_killed_client_has_begun_the_next_one_ends(
    start, undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Runs that were made and not written down, halves of files: each is there once in the end."""
    playing = start()
    playing.play()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    sweep_id = playing.job.workspace.sweep_id
    _is_killed(FOLLOWER, point, playing.run_id, sweep_id, playing.spec.as_json())
    runs = MlflowClient(f"sqlite:///{playing.database}").search_runs(["0"])
    if point == "while downloading":
        assert list(temporary.rglob("*.part"))
    else:
        assert len(runs) > 1
    assert playing.store() != undisturbed
    assert playing.follow().result().status.is_finished
    assert playing.store() == undisturbed


@pytest.mark.parametrize("point", ["after the upload", "before the launch is acknowledged"])
def test_a_client_that_is_killed_before_it_knows_leaves_nothing_that_counts(
    start, point: str
) -> None:
    """Its sweep is in no store; the machine says what it is, and the same can be submitted."""
    playing = start()  # the machine, and a sweep beside
    project = Path(playing.job.workspace.path).parents[2] / "project"
    settings = (Path(playing.job.workspace.path) / "settings.json").read_text()
    spec, modules = playing.spec, str(Path(__file__).parent)
    home = Path(spec.root or "") / "sweeps" / "killed"
    home.mkdir()
    (home / "pace").write_text("0")
    _is_killed(SUBMITTER, point, "killed", spec.as_json(), str(project), settings, modules)
    with connect(spec) as connection:
        job = connection.job("killed")
        if point == "after the upload":
            assert job.liveness() is Liveness.DEAD
            assert (home / "project" / "get_data.py").exists()
        else:
            wait_until(lambda: job.liveness() is Liveness.ALIVE)
        (found,) = (one for one in connection.inventory().sweeps if one.sweep_id == "killed")
        assert found.run_id == ""
        assert not found.is_lost
        assert job.kill(grace_s=0.1) == ()
