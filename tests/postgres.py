"""A PostgreSQL cluster of a test's own, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "postgres"


def find_postgres() -> Path | None:
    """Give the folder of its programs, or None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return packaged[-1].parent if packaged else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Make a cluster and run it; give the address of its database, as SQLAlchemy takes it."""
    user = _USER if os.geteuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="automl-remote-pg-", dir="/tmp") as folder:
        if user:
            shutil.chown(folder, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        data = f"{folder}/data"
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
        initdb = ["-D", data, "-U", "mlflow", "--auth=trust", "--no-sync", "-E", "UTF8"]
        start = ["-D", data, "-w", "-t", "60", "-l", f"{folder}/log", "-o", settings, "start"]
        for argv in (["initdb", *initdb], ["pg_ctl", *start]):
            subprocess.run(
                [programs / argv[0], *argv[1:]],
                user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        try:
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            stop = ["-D", data, "-m", "immediate", "stop"]
            subprocess.run(
                [programs / "pg_ctl", *stop],
                user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
