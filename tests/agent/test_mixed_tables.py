"""Sweeps over tables straight from CSV: recorded with findings, and models that stand alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_automl_remote.agent.recorder import Recorder
from mlflow_automl_remote.agent.runner import Agent
from mlflow_automl_remote.automl.template import PRELOAD, Template
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.journal.file import JournalWriter
from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.states import IterationState, SweepStatus

N = 150
RNG = np.random.default_rng(0)
AGE = RNG.normal(40, 10, N).round()
TABLE = pd.DataFrame(
    {
        "age": np.where(np.arange(N) % 9 == 0, np.nan, AGE),
        "town": RNG.choice(["Rome", "Oslo", "Bonn"], N),
        "shop": [f"s{n}" for n in RNG.integers(0, 60, N)],
        "since": pd.date_range("2020", periods=N, freq="D").strftime("%Y-%m-%d"),
        "rooms": RNG.integers(1, 9, N),
        "vip": RNG.random(N) < 0.5,
        "same": "x",
        "sold": np.where(AGE + RNG.normal(0, 4, N) > 40, "yes", "no"),
    }
)
MODELS = ["LightGBM", "LogisticRegression", "HistGradientBoosting", "CatBoost"]


def _run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame, **settings: object
) -> SweepState:
    (folder / "project").mkdir(parents=True)
    table.to_csv(folder / "project" / "sales.csv", index=False)
    given = {
        "task": "classification",
        "training_data": "sales.csv",
        "label_column_name": "sold",
        "iterations": 4,
        "allowed_models": MODELS,
        "n_cross_validations": 2,
        "enable_voting_ensemble": False,
    }
    (folder / "settings.json").write_text(AutoMLConfig.parse(given | settings).to_json())
    (folder / "inbox").mkdir()
    (folder / "inbox" / "begin.json").write_text('{"action": "begin"}')
    monkeypatch.chdir(folder / "project")
    with JournalWriter(folder / "journal.jsonl", now_ms=lambda: 0) as journal:
        recorder = Recorder(journal, folder / "artifacts")
        template = Template.spawn([*PRELOAD, "mlflow_automl_remote.agent.preload"])
        Agent(folder, recorder, template).run()
    return recorder.state


def test_a_sweep_over_a_table_gives_models_that_predict_rows_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They load where this package cannot be imported, and take rows with unseen values."""
    state = _run(tmp_path, monkeypatch, TABLE, model_explainability="all")
    assert state.status is SweepStatus.COMPLETED
    assert [each.state for each in state.iterations.values()] == [IterationState.COMPLETED] * 4
    assert state.data is not None
    assert {(each.id, each.column) for each in state.data.guardrails} >= {
        ("time_order", "since"),
        ("column_dropped", "same"),
        ("missing_values", "age"),
    }
    columns = {each.name: each for each in state.data.columns}
    assert (columns["age"].kind, columns["age"].n_missing) == ("number", TABLE["age"].isna().sum())
    assert columns["same"].dropped_reason == "the same value in every row"
    assert {each.model: each.featurization for each in state.iterations.values()} == {
        "LightGBM": "native",
        "LogisticRegression": "dense",
    }
    dense = {each.raw_feature: each for each in state.featurization["dense"]}
    assert list(dense) == ["age", "town", "shop", "since", "rooms", "vip", "same"]
    assert dense["same"].dropped
    town = dense["town"]
    assert (town.type_detected, town.n_engineered) == ("Categorical", 3)
    assert town.transformations == ("one-hot",)
    assert {each.raw_feature: each.n_engineered for each in state.featurization["native"]} == {
        "age": 1,
        "town": 1,
        "shop": 2,
        "since": 4,
        "rooms": 1,
        "vip": 1,
        "same": 0,
    }
    assert state.explanation is not None
    assert ["", "", "", ""] == [one.reason for one in state.explanations.values()]
    assert state.comparison is not None
    assert sorted(state.comparison.iterations) == [0, 1, 2, 3]
    assert {one.feature for one in state.explanation.findings} <= set(TABLE.columns) - {
        "same",
        "sold",
    }
    rows = TABLE[:6].drop(columns=["sold", "same"]).assign(town="Bern", shop=None)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    paths = [str(tmp_path / "artifacts" / str(i.model_path)) for i in state.iterations.values()]
    script = (
        "import sys\nsys.modules['mlflow_automl_remote'] = None\n"
        "import mlflow.pyfunc, mlflow.sklearn, pandas\n"
        f"rows = pandas.read_csv({str(tmp_path / 'rows.csv')!r})\n"
        f"for path in {paths}:\n"
        "    found = mlflow.sklearn.load_model(path).predict(rows)\n"
        "    held = mlflow.pyfunc.load_model(path)\n"
        "    known = rows.assign(shop='s1')\n"
        "    assert len(held.predict(known)) == 6, path\n"
        "    kinds = {one.name: one.type.name for one in held.metadata.signature.inputs}\n"
        "    assert kinds == {'age': 'double', 'town': 'string', 'shop': 'string',\n"
        "        'since': 'string', 'rooms': 'long', 'vip': 'boolean'}, kinds\n"
        "    print(sorted({str(label) for label in found.ravel()} | {'no', 'yes'}), len(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines() == ["['no', 'yes'] 6"] * 4, done.stderr


@pytest.mark.parametrize(
    ("table", "settings", "reason"),
    [
        (TABLE.assign(sold="yes"), {}, "y has only one class (yes)"),
        (TABLE, {"label_column_name": "sald"}, "no column named 'sald'. Did you mean 'sold'?"),
        (TABLE, {"featurization": "off"}, "Column 'town' of X is not numeric"),
    ],
)
def test_a_table_that_cannot_be_trained_on_ends_the_sweep_with_its_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: pd.DataFrame,
    settings: dict[str, object],
    reason: str,
) -> None:
    """Before any iteration."""
    state = _run(tmp_path, monkeypatch, table, **settings)
    assert state.status is SweepStatus.FAILED
    assert reason in state.reason
    assert not state.iterations
