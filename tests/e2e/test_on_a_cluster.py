"""A sweep on a Ray cluster as a user runs it: `mlflow run` with an address, then the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import pytest
from data_scripts import WINE
from sklearn.datasets import load_wine
from user_terminal import Terminal
from waiting import wait_until

if TYPE_CHECKING:
    from ray_cluster import RayCluster


def test_a_sweep_on_a_cluster_survives_the_loss_of_a_node(
    terminal: Terminal,
    ray_cluster: RayCluster,
    make_project: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each iteration is there once, says where it ran, and has its model, which predicts."""
    monkeypatch.setenv("AUTOML_REMOTE_HOME", str(tmp_path / "root"))
    project = make_project(
        WINE,
        iterations=14,
        enable_stack_ensemble=True,
        allowed_models=["KNN", "LogisticRegression"],
    )
    extra = ray_cluster.add(2)
    config = {"ray": {"address": ray_cluster.address}}
    running = terminal.start(*terminal.mlflow_run_argv(project, config))

    def n_finished() -> int:
        journals = list((tmp_path / "root").glob("sweeps/*/journal.jsonl"))
        return journals[0].read_text().count('"IterationFinished"') if journals else 0

    wait_until(lambda: n_finished() >= 2 or running.poll() is not None, 200)
    ray_cluster.kill(extra)
    output, _ = running.communicate(timeout=200)
    assert running.returncode == 0, output
    parent = terminal.parent()
    children = terminal.children(parent.info.run_id)
    tags = [run.data.tags for run in children]
    assert list(range(14)) == [int(each["automl_remote.iteration"]) for each in tags]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert len({each["automl_remote.node"] for each in tags}) >= 2
    assert {each["automl_remote.target"] for each in tags} == {"this machine"}
    mlflow.set_tracking_uri(terminal.tracking_uri)
    X, y = load_wine(return_X_y=True)
    for run in (children[0], children[-1]):
        (model,) = run.outputs.model_outputs
        predicted = mlflow.pyfunc.load_model(f"models:/{model.model_id}").predict(X)
        assert (predicted == y).mean() > 0.7
