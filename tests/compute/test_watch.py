"""What switches a created machine off: when it is due, and that no sweep is ever lost by it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_automl_remote.compute import Connection, Job
from mlflow_automl_remote.providers import watch

HOUR = 3600.0


def due_at(
    *, ttl_s: float = 0.0, idle_s: float = 0.0,
    sweeps_until: float = 0.0, used_until: float = 0.0,
) -> float:  # fmt: skip
    """Let a clock run until the machine is to be switched off."""
    now = [0.0]
    watch.wait_until_due(
        ttl_s=ttl_s,
        idle_s=idle_s,
        has_sweeps=lambda: now[0] < sweeps_until,
        is_used=lambda: now[0] < used_until,
        clock=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    return now[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ttl_s": HOUR}, HOUR),
        ({"ttl_s": HOUR, "used_until": 9 * HOUR}, HOUR),
        ({"ttl_s": HOUR, "sweeps_until": 2 * HOUR}, 2 * HOUR),
        ({"idle_s": 600.0}, 600.0),
        ({"idle_s": 600.0, "used_until": HOUR}, HOUR + 600),
        ({"idle_s": 600.0, "sweeps_until": HOUR}, HOUR + 600),
        ({"idle_s": 600.0, "ttl_s": HOUR}, 600.0),
        ({"idle_s": 600.0, "ttl_s": HOUR, "used_until": 9 * HOUR}, HOUR),
    ],
)
def test_a_machine_is_due(given: dict[str, float], expected: float) -> None:
    assert due_at(**given) == pytest.approx(expected, abs=watch.POLL_S)


def test_a_sweep_keeps_its_machine_until_it_is_in_mlflow(
    connection: Connection, submit: Callable[..., Job]
) -> None:
    root = str(connection.root.path)
    assert not watch.keeps_sweeps(root)
    job = submit()
    assert watch.keeps_sweeps(root)  # it runs; its run is not written down yet
    job.remember_run("run-7")
    job.kill(grace_s=1.0)
    assert watch.keeps_sweeps(root)  # its results are nowhere else
    job.mark_published()
    assert not watch.keeps_sweeps(root)


def test_an_account_is_in_use_while_it_runs_anything() -> None:
    assert watch.has_processes(os.getuid())
    assert not watch.has_processes(54_321)


def test_the_program_runs_without_this_package(tmp_path: Path) -> None:
    import subprocess
    import sys

    alone = tmp_path / "watch.py"
    alone.write_bytes(Path(watch.__file__).read_bytes())
    argv = [sys.executable, "-I", "-S", str(alone), "--account", "nobody"]
    subprocess.run([*argv, "--ttl-hours", "0.0001"], check=True, timeout=30)
