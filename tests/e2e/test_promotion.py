"""Promotion as a person has it: at the end of sweeps, by hand, back again, and served."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from user_terminal import BIN, Terminal

TABLE = """
import numpy as np, pandas as pd

def get_data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(40, 9, 600), "town": rng.choice(["Rome", "Oslo"], 600)})
    return {"X": X, "y": np.where(X.age + rng.normal(0, 3, 600) > 41, "yes", "no")}
"""
WEAK, STRONG = "BernoulliNaiveBayes", "LogisticRegression"
SERVE_LIMIT_S = 240


def test_a_sweep_promotes_at_its_end_and_says_so_by_its_exit_status(  # noqa: PLR0915 - a story
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """First champion 0; better 0; worse 3, also when followed again; a wrong name before, 1."""
    settings: dict[str, Any] = {
        "test_size": 0.4,
        "charts": "none",
        "iterations": 1,
        "primary_metric": "AUC_weighted",
        "promote": {"name": "churn", "gates": {"group_by": "town", "max_size_mb": 50}},
    }

    def sweep(model: str, **changes: object) -> tuple[int, str]:
        project = make_project(TABLE, **(settings | {"allowed_models": [model]} | changes))
        return terminal.automl_remote("sweep", "--settings", f"{project}/automl.yaml")

    status, output = sweep(WEAK)
    assert (status, "is 'champion', the first one." in output) == (0, True), output
    status, output = sweep(STRONG)
    assert (status, "is 'champion' in place of version 1." in output) == (0, True), output
    assert "worst group of town" in output
    status, output = sweep(WEAK)
    assert status == 3, output
    assert "not passed: gain, noise" in output
    runs = [run for run in terminal.runs() if "mlflow.parentRunId" not in run.data.tags]
    refused = max(runs, key=lambda run: run.info.start_time)
    assert refused.info.status == "FINISHED"
    status, output = terminal.automl_remote("follow", refused.info.run_id)
    assert (status, "Decided before for 'champion' of churn: refused" in output) == (3, True)
    status, output = sweep(STRONG, promote={"name": "a/b"})
    assert status == 1
    assert "The 'name' of 'promote' must be a name" in output
    version = terminal.client.get_model_version_by_alias("churn", "champion")
    assert version.version == 2

    by_hand = ["promote", refused.info.run_id, "--name", "churn"]
    status, output = terminal.automl_remote(*by_hand, "--dry-run", "--json")
    assert status == 3
    assert json.loads(output)["outcome"] == "refused"
    status, output = terminal.automl_remote(*by_hand, "--force", "a drill", "--to", "prod-churn")
    assert status == 0, output
    assert "Forced: a drill. Copied to prod-churn version 1." in output
    status, output = terminal.automl_remote("rollback", "churn", "--reason", "the drill is over")
    assert (status, output.strip()) == (
        0,
        "'champion' of churn is version 2 again; it was version 3.",
    )
    for run in runs:  # a workspace that is gone: the sweep is fine, its promotion is not known
        (Path(run.data.tags["automl_remote.workspace"]) / "settings.json").unlink()
    terminal.client.delete_tag(refused.info.run_id, "automl_remote.promotion.churn.champion")
    status, output = terminal.automl_remote("follow", refused.info.run_id)
    assert status == 4, output
    assert "has ended well, but its best model was not promoted" in output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_champion_serves_from_a_bare_environment(
    terminal: Terminal, make_project: Callable[..., Path], tmp_path: Path
) -> None:
    """`mlflow models serve` makes an environment of its requirements, and answers its example."""
    project = make_project(
        TABLE, allowed_models=[STRONG], iterations=1, charts="none", promote={"name": "churn"}
    )
    status, output = terminal.automl_remote("sweep", "--settings", f"{project}/automl.yaml")
    assert status == 0, output
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", bare], check=True)
    pinned = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    subprocess.run(
        [BIN / "uv", "pip", "install", "--quiet", "--python", bare / "bin" / "python",
         f"mlflow=={pinned}", "uv", "virtualenv"],
        check=True,
    )  # fmt: skip
    example = _example(terminal)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [bare / "bin" / "mlflow", "models", "serve", "-m", "models:/churn@champion",
             "--env-manager", "uv", "--host", "127.0.0.1", "--port", port],
            stdout=log, stderr=log, cwd=terminal.folder, start_new_session=True,
            env=os.environ | {
                "PATH": f"{bare}/bin:{os.environ['PATH']}",
                "MLFLOW_TRACKING_URI": terminal.tracking_uri,
            },
        )  # fmt: skip
    try:
        answer = _ask(server, f"http://127.0.0.1:{port}/invocations", example, log=tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert set(answer["predictions"]) <= {"yes", "no"}
    assert len(answer["predictions"]) == 5


def _example(terminal: Terminal) -> bytes:
    import mlflow

    mlflow.set_tracking_uri(terminal.tracking_uri)
    path = mlflow.artifacts.download_artifacts("models:/churn@champion")
    return Path(path, "serving_input_example.json").read_bytes()


def _ask(
    server: subprocess.Popen[bytes], address: str, body: bytes, log: Path
) -> Mapping[str, Any]:
    request = urllib.request.Request(
        address, body, {"Content-Type": "application/json"}, method="POST"
    )
    deadline = time.monotonic() + SERVE_LIMIT_S
    while True:
        assert server.poll() is None, (log / "serve.log").read_text()
        assert time.monotonic() < deadline, (log / "serve.log").read_text()
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            time.sleep(0.5)
