"""A real MLflow server on a free port of this machine, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_LIMIT_S = 200


@contextmanager
def running_server(
    folder: Path,
    n_workers: int = 1,
    *,
    database: str | None = None,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run a server over `mlflow.db` in a folder, which may be there; give its address.

    Args:
        folder: Its working directory.
        n_workers: Processes that answer.
        database: Address of another database.
        options: More of its command line; `{port}` stands for the port.
        variables: More of its environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", str(n_workers)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    command += [option.format(port=port) for option in options]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # six processes for judges' jobs
    environment |= variables or {}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not _answers(uri):
            assert process.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, f"No MLflow server within {START_LIMIT_S} s."
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its folder goes with it
        process.wait(60)


def _answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=1):
            return True
    except OSError:
        time.sleep(0.1)
        return False
