"""Explanations as a person asks for them, of the best model and of others afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from user_terminal import Terminal

import mlflow_automl_remote

TABLE = """
import numpy as np, pandas as pd

def get_data():
    rng = np.random.default_rng(0)
    age = rng.normal(40, 9, 160)
    table = pd.DataFrame({"age": age, "town": rng.choice(["Rome", "Oslo", "<b>"], 160)})
    return {"X": table, "y": np.where(age + 5 * (table.town == "Rome") > 42, "yes", "no")}
"""


def test_any_iteration_can_be_explained_after_the_sweep(
    terminal: Terminal, make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run gets files and a paragraph, the parent a page with both models side by side."""
    project = make_project(TABLE, model_explainability=True, allowed_models=["LightGBM", "KNN"])
    status, output = terminal.automl_remote("sweep", "--settings", f"{project}/automl.yaml")
    assert status == 0, output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", terminal.tracking_uri)
    parent = terminal.parent()
    children = terminal.children(parent.info.run_id)
    best = parent.data.tags["automl_remote.best_run_id"]
    (other,) = (run for run in children if run.info.run_id != best)
    number = other.data.tags["automl_remote.iteration"]
    status, output = terminal.automl_remote("explain", parent.info.run_id, "--iteration", number)
    assert status == 0, output
    assert f"Explained iteration {number} by" in output
    note = terminal.client.get_run(other.info.run_id).data.tags["mlflow.note.content"]
    assert note.startswith("What matters most: **age**")
    names = {
        file.path for file in terminal.client.list_artifacts(parent.info.run_id, "explanation")
    }
    assert {"explanation/summary.json", "explanation/comparison.html"} <= names
    for run in (parent, other.info.run_id):
        parts = mlflow_automl_remote.retrieve_model_explanation(run)
        assert len(parts.shap_values) == 2
        assert parts.overall_imp == ["age", "town"]
        assert np.asarray(parts.shap_values).shape == (2, 100, 2)
    status, output = terminal.automl_remote("explain", parent.info.run_id, "--iteration", "77")
    assert status == 1
    assert "Iteration 77 has no model to explain." in output
