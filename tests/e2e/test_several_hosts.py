"""A target of several hosts, which are two servers of this machine here."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from data_scripts import QUICK, WINE
from sshd import SshServer
from user_terminal import BIN, Terminal
from waiting import wait_until

LIMIT_S = 400  # Ray is started twice, on machines that run other tests beside it
N_ITERATIONS = 80
SETTINGS = QUICK | {
    "iterations": N_ITERATIONS,
    "n_cross_validations": 5,
    "allowed_models": ["RandomForest", "ExtremeRandomTrees"],
}
"""Iterations of a second: the second host is there before the first one has run them all."""
ADDRESSES = ("127.0.0.41", "127.0.0.42")


@pytest.mark.timeout(1000)
def test_a_sweep_on_two_hosts_goes_on_after_the_agent_was_killed(
    sshd: SshServer,
    own_sshd: SshServer,
    terminal: Terminal,
    make_project: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Each iteration is there once, both hosts have run some, and nothing is left of Ray."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    roots = (tmp_path / "first", tmp_path / "second")
    config = _config(sshd, own_sshd, *roots)
    project = make_project(WINE, **SETTINGS)
    running = terminal.start(*terminal.mlflow_run_argv(project, config))

    def journal() -> str:
        assert running.poll() is None, running.communicate()[0]
        return "".join(path.read_text() for path in roots[0].glob("sweeps/*/journal.jsonl"))

    wait_until(lambda: all(address in journal() for address in ADDRESSES), LIMIT_S)
    (identity,) = roots[0].glob("sweeps/*/agent.json")
    os.kill(json.loads(identity.read_bytes())["pid"], signal.SIGKILL)
    output, _ = running.communicate(timeout=LIMIT_S)
    assert running.returncode != 0
    assert "automl-remote resume" in output

    parent = terminal.parent().info.run_id
    status, output = terminal.run(BIN / "automl-remote", "resume", parent)
    assert status == 0, output
    children = terminal.children(parent)
    numbers = [int(run.data.tags["automl_remote.iteration"]) for run in children]
    assert numbers == list(range(N_ITERATIONS))
    assert {run.info.status for run in children} == {"FINISHED"}
    assert all(run.data.tags["automl_remote.target"].endswith(" and 1 more") for run in children)
    (path,) = roots[0].glob("sweeps/*/journal.jsonl")
    afterwards = path.read_text().partition('"SweepResumed"')[2]
    assert [address for address in ADDRESSES if address in afterwards] == [*ADDRESSES]
    wait_until(lambda: not list(roots[1].glob("sweeps/*")))
    assert not _processes_below(tmp_path)


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
