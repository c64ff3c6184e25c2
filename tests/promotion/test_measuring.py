"""Two models scored on the same rows where the data is, on this machine and over SSH."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sshd import SshServer
from synthetic_sweep import SyntheticSweep

from mlflow_automl_remote import promoting
from mlflow_automl_remote.agent.models import save_model
from mlflow_automl_remote.automl import comparison, data, predictions
from mlflow_automl_remote.automl.comparison import Scorer
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.evaluation import Scoring, score
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import SweepNotFound
from mlflow_automl_remote.publishing import ParentFacts

from .conftest import House


def table(n_rows: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Make data in which `age` tells much and `town` a little."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"age": rng.normal(40, 9, n_rows), "town": rng.choice(["Rome", "Oslo"], n_rows)}
    )
    logit = (X["age"] - 40) / 4 + (X["town"] == "Rome")
    return X, np.where(rng.random(n_rows) < 1 / (1 + np.exp(-logit)), "yes", "no")


@dataclass
class SweepOfATarget(SyntheticSweep):
    """A sweep whose workspace is there."""

    target: Mapping[str, object] = field(default_factory=dict)

    @property
    def facts(self) -> ParentFacts:
        return ParentFacts(
            sweep_id=self.sweep_id,
            target="a target",
            target_config=json.dumps(dict(self.target)),
            workspace=str(self.root.parent),
        )


@dataclass
class Workspace:
    """A sweep that was published, and its data.

    Attributes:
        run_id: The parent run.
    """

    run_id: str
    folder: Path
    dataset: Dataset
    config: AutoMLConfig


def ranker(column: str) -> Any:
    """Give a model that knows one column."""
    if column == "age":
        front = make_column_transformer(("passthrough", ["age"]))
        return make_pipeline(front, LogisticRegression())
    if column == "town":
        front = make_column_transformer((OneHotEncoder(), ["town"]))
        return make_pipeline(front, LogisticRegression())
    return DummyClassifier()


@pytest.fixture
def work(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Workspace]:
    """Make a sweep of models that know one column each, with its workspace, and publish it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def make(
        *models: str,
        sweep_id: str,
        target: Mapping[str, object] = MappingProxyType({}),
        needs: str = "",
        **settings: object,
    ) -> Workspace:
        config = AutoMLConfig.parse({"task": "classification", **settings})
        X, y = table()
        dataset = data.check({"X": X, "y": y}, "classification")
        folder = tmp_path / "root" / "sweeps" / sweep_id
        data.save(dataset, folder / "data")
        (folder / "settings.json").write_text(config.to_json())
        splits = make_splits(dataset, config)
        sweep = SweepOfATarget(
            root=folder / "artifacts",
            model=tmp_path / "unused",
            sweep_id=sweep_id,
            target={**target, "root": str(tmp_path / "root")},
        ).start()
        for number, column in enumerate(models):
            sweep.model = tmp_path / f"{sweep_id}-{number}"
            train = np.arange(dataset.n_rows) if splits.train is None else splits.train
            fitted = ranker(column).fit(X.iloc[train], y[train])
            save_model(fitted, dataset, sweep.model)
            with (sweep.model / "requirements.txt").open("a") as lines:
                lines.write(f"\n{needs}\n")
            sweep.begin(number)
            sweep.end(number)
        run_id = house.client.create_run(house.pool.experiment_id).info.run_id
        with sweep.publisher(house.client, run_id) as publisher:
            publisher.publish(sweep.finish(explained=False).state)
        for number, column in enumerate(models):  # in place of what the sweep was published with
            per_fold = [
                ranker(column).fit(X.iloc[fit], y[fit]).predict_proba(X.iloc[rows])
                for fit, rows in splits.folds
            ]
            place = sweep.root / f"iterations/{number:03d}"
            predictions.save(place, per_fold, dataset, splits)
        return Workspace(run_id, folder, dataset, config)

    return make


def test_both_models_are_scored_on_the_rows_that_were_held_out(
    house: House, work: Callable[..., Workspace]
) -> None:
    """The numbers are those that scikit-learn gives for these rows; nothing is left behind."""
    weak = work("town", sweep_id="weak", test_size=0.5)
    promoting.promote(weak.run_id, {"name": house.name})
    strong = work("age", sweep_id="strong", test_size=0.5)
    decision = promoting.promote(
        strong.run_id,
        {"name": house.name, "gates": {"group_by": "town", "max_latency_ms": 1000}},
    )
    assert (decision.outcome, house.champion) == ("promoted", 2)
    found = decision.evidence
    assert found is not None
    assert found.incumbent is not None
    assert (found.rows, found.n_rows, found.n_folds) == ("test", 200, 1)
    test = make_splits(strong.dataset, strong.config).test
    X, y = table()
    for uri, metrics in ((1, found.incumbent.metrics), (2, found.challenger.metrics)):
        model = mlflow.sklearn.load_model(f"models:/{house.name}/{uri}")
        area = roc_auc_score(y[test] == "yes", model.predict_proba(X.iloc[test])[:, 1])
        assert metrics["AUC_weighted"] == pytest.approx(area, abs=1e-9)
    assert {one.value for one in found.groups} == {"Rome", "Oslo"}
    assert sum(one.n_rows for one in found.groups) == 200
    assert found.challenger.latency_ms is not None
    assert list((strong.folder / "comparisons").iterdir()) == []
    back = promoting.promote(weak.run_id, {"name": house.name})
    assert (back.outcome, back.failed) == ("refused", ("gain", "noise"))
    assert back.evidence is not None
    assert back.evidence.gain is not None
    assert found.gain is not None
    assert back.evidence.gain.value == pytest.approx(-found.gain.value)


def test_an_incumbent_with_other_requirements_is_scored_in_its_own_environment(
    house: House, work: Callable[..., Workspace], sshd: SshServer, tmp_path: Path
) -> None:
    """On a machine over SSH and on this one, with the numbers that it has in the agent's."""
    vm = sshd.config(env_manager="local", python=sys.executable)
    weak = work("town", sweep_id="weak", test_size=0.5, needs="tabulate==0.9.0")
    promoting.promote(weak.run_id, {"name": house.name})
    environments = tmp_path / "root" / "environments"
    found = []
    for name, target in (("far", vm), ("near", {})):
        strong = work("age", sweep_id=name, test_size=0.5, target=target)
        decision = promoting.promote(strong.run_id, {"name": house.name}, dry_run=True)
        assert decision.outcome == "promoted"
        assert decision.evidence is not None
        assert decision.evidence.incumbent is not None
        assert list((strong.folder / "comparisons").iterdir()) == []
        found.append(decision.evidence.incumbent.metrics)
    (own,) = environments.glob("*/requirements.txt")
    assert "tabulate==0.9.0" in own.read_text().splitlines()
    model = mlflow.sklearn.load_model(f"models:/{house.name}/1")
    test = make_splits(weak.dataset, weak.config).test
    X, y = table()
    area = roc_auc_score(y[test] == "yes", model.predict_proba(X.iloc[test])[:, 1])
    assert [each["AUC_weighted"] for each in found] == [pytest.approx(area, abs=1e-9)] * 2


def test_models_of_one_sweep_are_compared_out_of_fold(
    house: House, work: Callable[..., Workspace]
) -> None:
    """The score is the one that the sweep has, since both are predictions of unseen rows."""
    made = work("town", "age", "none", sweep_id="both", n_cross_validations=4)
    promoting.promote(made.run_id, {"name": house.name}, iteration=0)
    decision = promoting.promote(made.run_id, {"name": house.name}, iteration=1)
    found = decision.evidence
    assert (decision.outcome, decision.notes) == ("promoted", ())
    assert found is not None
    assert (found.rows, found.n_rows, found.n_folds) == ("out-of-fold", 400, 4)
    noise = promoting.promote(made.run_id, {"name": house.name}, iteration=2, dry_run=True)
    assert noise.failed == ("gain", "noise")
    assert noise.evidence is not None
    assert noise.evidence.challenger.metrics["AUC_weighted"] == pytest.approx(0.5)


def test_an_incumbent_that_cannot_be_used_refuses_and_says_why(
    house: House, work: Callable[..., Workspace], tmp_path: Path
) -> None:
    """Its pickle is broken; or it needs a column that is not there any more."""
    made = work("age", sweep_id="made", test_size=0.5)
    client = MlflowClient()
    client.create_registered_model(house.name)
    X, y = table(60)
    X["gone"] = np.arange(60.0)
    other = data.check({"X": X, "y": y}, "classification")
    save_model(ranker("age").fit(X, y), other, tmp_path / "other")
    save_model(ranker("age").fit(X, y), other, tmp_path / "broken")
    (tmp_path / "broken" / "model.pkl").write_bytes(b"no pickle")
    for name, why in (("other", "the data has no column 'gone'"), ("broken", "cannot be loaded")):
        run = client.create_run(house.pool.experiment_id)
        client.log_artifacts(run.info.run_id, str(tmp_path / name), "model")
        source = f"{run.info.artifact_uri}/model"
        version = client.create_model_version(house.name, source, run.info.run_id).version
        client.set_registered_model_alias(house.name, "champion", version)
        decision = promoting.promote(made.run_id, {"name": house.name}, dry_run=True)
        assert decision.failed == ("gain", "noise", "signature")
        assert why in decision.results[0].why
        assert "column 'gone' is gone" in decision.results[2].why


def test_a_sweep_whose_workspace_is_gone_cannot_be_compared(
    house: House, work: Callable[..., Workspace]
) -> None:
    made = work("town", "age", sweep_id="gone", n_cross_validations=2)
    promoting.promote(made.run_id, {"name": house.name}, iteration=0)
    (made.folder / "settings.json").unlink()
    with pytest.raises(SweepNotFound, match="Without it no model can be compared"):
        promoting.promote(made.run_id, {"name": house.name}, iteration=1)


def test_the_standard_error_of_a_gain_is_that_of_the_difference() -> None:
    """Of accuracies of independent rows it is known: sd of the rows' differences over sqrt(n)."""
    X, y = table(600)
    dataset = data.check({"X": X, "y": y}, "classification")
    splits = make_splits(dataset, AutoMLConfig.parse({"task": "classification", "test_size": 0.5}))
    rows = comparison.rows_of(dataset, splits)
    scorer = Scorer(dataset=dataset, scoring=Scoring(), rows=rows)
    rng = np.random.default_rng(1)
    hits = rng.random((2, len(rows.used))) < [[0.8], [0.7]]
    true = np.searchsorted(dataset.classes, dataset.y[rows.used])
    pair = [np.eye(2)[np.where(hit, true, 1 - true)] for hit in hits]
    found = comparison.gain(scorer, [pair[0]], [pair[1]], metric="accuracy", seed=3)
    assert found is not None
    differences = hits[0].astype(float) - hits[1]
    assert found.value == pytest.approx(differences.mean())
    assert found.standard_error == pytest.approx(
        differences.std() / np.sqrt(len(differences)), rel=0.1
    )
    assert comparison.gain(scorer, [pair[0]], [pair[1]], metric="accuracy", seed=3) == found
    alone = score(dataset, dataset.y[rows.used], pair[0])
    assert scorer.means([pair[0]]) == pytest.approx(alone)


def test_rows_are_grouped_by_values_or_by_quarters() -> None:
    X, y = table(200)
    X.loc[:29, "town"] = None
    dataset = data.check({"X": X, "y": y}, "classification")
    splits = make_splits(
        dataset, AutoMLConfig.parse({"task": "classification", "n_cross_validations": 2})
    )
    rows = comparison.rows_of(dataset, splits)
    assert set(comparison.groups(rows, "town")) == {"Rome", "Oslo", "missing"}
    assert [int(mask.sum()) for mask in comparison.groups(rows, "age").values()] == [50] * 4
