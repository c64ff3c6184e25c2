"""A target of several hosts, which are two servers of this machine here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from data_scripts import QUICK, WINE
from sshd import SshServer
from user_terminal import BIN, Terminal
from waiting import wait_until

from mlflow_automl_remote.journal.events import IterationStarted
from mlflow_automl_remote.journal.file import read

LIMIT_S = 400  # Ray is started twice, on machines that run other tests beside it
SETTINGS = QUICK | {
    "iterations": 1000,
    "n_cross_validations": 5,
    "allowed_models": ["RandomForest", "ExtremeRandomTrees"],
}
"""More iterations than the first host runs before the second is there, however long that takes."""
ADDRESSES = ("127.0.0.41", "127.0.0.42")


@pytest.mark.timeout(1000)
def test_a_sweep_on_two_hosts_goes_on_after_the_agent_was_killed(
    sshd: SshServer,
    own_sshd: SshServer,
    terminal: Terminal,
    make_project: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Each iteration is there once, what was cut off ran again, and nothing is left of Ray."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    roots = (tmp_path / "first", tmp_path / "second")
    config = _config(sshd, own_sshd, *roots)
    project = make_project(WINE, **SETTINGS)
    running = terminal.start(*terminal.mlflow_run_argv(project, config))

    wait_until(lambda: _are_named_in(_journal(roots[0], running)), LIMIT_S)
    (identity,) = roots[0].glob("sweeps/*/agent.json")
    os.kill(json.loads(identity.read_bytes())["pid"], signal.SIGKILL)
    output, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode != 0
    assert "automl-remote resume" in output

    parent = terminal.parent().info.run_id
    before = _begun(roots[0])
    resumed = terminal.start(BIN / "automl-remote", "resume", parent)

    def afterwards() -> str:
        return _journal(roots[0], resumed).partition('"SweepResumed"')[2]

    wait_until(lambda: _are_named_in(afterwards()), LIMIT_S)
    assert terminal.automl_remote("cancel", parent)[0] == 0
    output, _ = resumed.communicate(timeout=LIMIT_S)
    assert "The sweep has ended: CANCELLED." in output
    children = terminal.children(parent)
    numbers = [int(run.data.tags["automl_remote.iteration"]) for run in children]
    assert numbers == list(range(len(numbers)))
    statuses = [run.info.status for run in children]
    assert {statuses[number] for number in before} == {"FINISHED"}
    assert len(numbers) - statuses.count("FINISHED") <= 2 * (os.cpu_count() or 1)
    assert set(statuses) <= {"FINISHED", "KILLED"}
    assert all(run.data.tags["automl_remote.target"].endswith(" and 1 more") for run in children)
    wait_until(lambda: not list(roots[1].glob("sweeps/*")))
    wait_until(lambda: not _processes_below(tmp_path))  # what removed the folder ends after it


def _journal(root: Path, running: subprocess.Popen[str]) -> str:
    """Read the journal of the only sweep below a folder, whose command must still run."""
    assert running.poll() is None, running.communicate()[0]
    return "".join(path.read_text() for path in root.glob("sweeps/*/journal.jsonl"))


def _begun(root: Path) -> list[int]:
    """Name the iterations of the only sweep below a folder that have begun."""
    (path,) = root.glob("sweeps/*/journal.jsonl")
    records, _ = read(path.read_bytes())
    events = (record.event for record in records)
    return [event.iteration for event in events if isinstance(event, IterationStarted)]


def _are_named_in(journal: str) -> bool:
    return all(address in journal for address in ADDRESSES)


def _config(first: SshServer, second: SshServer, *roots: Path) -> dict[str, object]:
    hosts = [
        {**server.config(root=str(root)), "address": address}
        for server, root, address in zip((first, second), roots, ADDRESSES, strict=True)
    ]
    return {"hosts": hosts, "env_manager": "local", "python": sys.executable}


def _processes_below(folder: Path) -> list[str]:
    """Name the processes of sweeps whose workspaces are below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(f"AUTOML_REMOTE_SWEEP={folder}/".encode()) for word in words):
            found.append(path.parent.name)
    return found
