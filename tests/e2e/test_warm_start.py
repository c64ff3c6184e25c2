"""A sweep that begins with what an earlier one found: its children say which run they are from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from data_scripts import QUICK, WINE
from mlflow import MlflowClient

import mlflow_automl_remote
from mlflow_automl_remote.errors import ConfigurationError


def test_a_second_sweep_starts_with_the_best_pipeline_of_the_first(
    tmp_path: Path,
    make_project: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its first child is the best of the first sweep, and says which run it comes from."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    project = make_project(WINE)

    def sweep(**settings: object) -> mlflow_automl_remote.SweepRun:
        run = mlflow_automl_remote.submit(
            {**QUICK, **settings}, project=project, experiment_name="wine"
        )
        assert run.wait(show=False) == "COMPLETED"
        return run

    first = sweep(iterations=8, enable_voting_ensemble=False)
    best = first.child()
    second = sweep(iterations=4, warm_start_from="wine")
    told = capsys.readouterr()
    assert f"pipelines of earlier sweeps: {first.run_id}" in told.out + told.err
    children = second.children()
    tags = [child.data.tags for child in children]
    assert best.data.tags["automl_remote.pipeline"] == tags[0]["automl_remote.pipeline"]
    assert best.info.run_id == tags[0]["automl_remote.source_run_id"]
    assert best.data.metrics["AUC_weighted"] == children[0].data.metrics["AUC_weighted"]
    by = [tag["automl_remote.proposed_by"] for tag in tags]
    assert ["warm_start", "warm_start", "portfolio"] == by[:3]
    assert "automl_remote.source_run_id" not in tags[2]
    parent = MlflowClient().get_run(second.run_id)
    assert "wine" == parent.data.params["warm_start_from"]
    assert f"2 of {first.run_id} (distance 0.00)" in parent.data.tags["automl_remote.warm_start"]
    with pytest.raises(ConfigurationError, match=f"an iteration of {first.run_id}: give that"):
        sweep(iterations=2, warm_start_from=best.info.run_id)
    assert 2 + 8 + 4 == len(mlflow.search_runs(["1"]))  # the refused one has left no run
