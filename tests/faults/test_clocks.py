"""A machine whose clock is a day off: the sweep is whole, and its times are of that clock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sshd import SshServer
from user_terminal import BIN

DAY_S = 24 * 3600
SHIFTED = """
import time
now_s, now_ns = time.time, time.time_ns
time.time = lambda: now_s() + {shift_s}
time.time_ns = lambda: now_ns() + {shift_s} * 10**9
"""
"""What an interpreter begins with: the clock that stamps events, in every process of the agent."""


@pytest.mark.parametrize("shift_s", [DAY_S, -DAY_S], ids=["ahead", "behind"])
def test_a_clock_that_is_a_day_off_ends_and_loses_nothing(
    own_sshd: SshServer, recorded: Path, empty_database: Path, tmp_path: Path, shift_s: int
) -> None:
    """No limit of time is reached by it, every iteration is there once, and lasts as long."""
    project = tmp_path / "project"
    shutil.copytree(recorded / "project", project)
    with (project / "automl.yaml").open("a") as file:
        file.write("iteration_timeout_minutes: 5\nexperiment_timeout_minutes: 10\n")
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    config = own_sshd.config(
        root=str(tmp_path / "root"), env_manager="local", python=str(_python(tmp_path, shift_s))
    )
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    begun_s = time.time()
    done = subprocess.run(
        [BIN / "automl-remote", "sweep", "--backend-config", json.dumps(config)],
        cwd=project, env={**os.environ, "MLFLOW_TRACKING_URI": uri}, capture_output=True,
        text=True, stdin=subprocess.DEVNULL, timeout=280,
    )  # fmt: skip
    took_s = time.time() - begun_s
    assert done.returncode == 0, done.stdout + done.stderr
    runs = MlflowClient(uri).search_runs(["0"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    children = {run.data.tags.get("automl_remote.iteration"): run.info for run in runs}
    assert children.keys() == {None, "0", "1", "2"}
    parent = children.pop(None)
    for child in children.values():
        assert abs(child.start_time / 1000 - begun_s - shift_s) <= took_s, "the clock was right"
        assert 0 < child.end_time - child.start_time < 1000 * took_s
    assert parent.start_time <= parent.end_time


def _python(folder: Path, shift_s: int) -> Path:
    """Make an environment with the packages of this one, and a clock that is off."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = sysconfig.get_paths()["purelib"]
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    (packages / "sitecustomize.py").write_text(SHIFTED.format(shift_s=shift_s))
    return environment / "bin" / "python"
