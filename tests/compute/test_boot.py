"""A machine that boots goes on with its sweeps by itself, if that was asked for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sshd import CLEAN_PATH, running_sshd
from waiting import wait_until

from mlflow_automl_remote.compute import Liveness, connect, parse_target
from mlflow_automl_remote.errors import CommandFailed

CRONTAB = """#!/bin/sh
[ "$1" = - ] && exec cat > {table}
[ -e {table} ] || {{ echo "no crontab for you" >&2; exit 1; }}
cat {table}
"""
OTHERS = "5 4 * * * /bin/true # 100%"


def test_a_sweep_is_started_at_boot_until_it_is_published(
    tmp_path: Path, start_stand_in, project: Path
) -> None:
    """By a line of the crontab, whose other lines stay as they are."""
    programs, table = tmp_path / "bin", tmp_path / "table"
    programs.mkdir()
    (programs / "crontab").write_text(CRONTAB.format(table=table))
    (programs / "crontab").chmod(0o755)
    table.write_text(f"{OTHERS}\n")
    variables = {"PATH": f"{programs}:{CLEAN_PATH}", "HTTPS_PROXY": "http://me:planted@proxy"}
    with running_sshd(tmp_path / "sshd", variables) as server:
        config = server.config(
            root=str(tmp_path / "root"), env_manager="local", resume_on_boot=True
        )
        with connect(parse_target(config)) as connection:
            job = start_stand_in(connection, project, tmp_path)
            other, line = table.read_text().splitlines()
            assert other == OTHERS
            assert line.startswith("@reboot /bin/sh ")
            script = Path(job.workspace.path) / "boot.sh"
            assert "planted" not in script.read_text()
            assert script.stat().st_mode & 0o777 == 0o700
            assert job.kill(grace_s=0.0) == ()
            assert job.liveness() is Liveness.DEAD

            command = line.removeprefix("@reboot ")
            booted = subprocess.Popen(["sh", "-c", command], env={"PATH": "/usr/bin:/bin"})
            wait_until(lambda: job.liveness() is Liveness.ALIVE)
            assert job.kill(grace_s=0.0) == ()
            booted.wait(10)
            job.mark_published()
            assert table.read_text() == f"{OTHERS}\n"
            assert subprocess.run(["sh", "-c", command], timeout=10).returncode == 0
            assert job.liveness() is Liveness.DEAD, "what is published is not begun again"


def test_a_machine_that_starts_nothing_at_boot_is_told_at_submission(
    sshd, tmp_path: Path, start_stand_in, project: Path
) -> None:
    config = sshd.config(root=str(tmp_path / "root"), env_manager="local", resume_on_boot=True)
    with (
        connect(parse_target(config)) as connection,
        pytest.raises(CommandFailed, match=r"'resume_on_boot'.*neither systemd nor cron"),
    ):
        start_stand_in(connection, project, tmp_path)
