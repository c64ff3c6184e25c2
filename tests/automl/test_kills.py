"""Code in a pipeline that ends its process: that is its iteration's state; the sweep goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.keeper import LOG_NAME
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.sweep import Sweep
from mlflow_automl_remote.automl.template import PRELOAD, Template
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState

PLANTED = """
import ctypes, dataclasses, os, sys, time
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer
from sklearn.naive_bayes import BernoulliNB
from sklearn.tree import DecisionTreeClassifier
from mlflow_automl_remote.automl.components import MODELS, SCALERS


class Exits(Normalizer):
    def fit(self, X, y=None):
        os._exit(7)


class Faults(DecisionTreeClassifier):
    def fit(self, X, y, sample_weight=None):
        ctypes.string_at(0)


class Forks(BernoulliNB):
    def fit(self, X, y, sample_weight=None):
        for _ in range(9):
            os.fork()
            time.sleep(0.01)
        time.sleep(600)


def plant(parts, name, kind):
    parts[name] = dataclasses.replace(parts[name], build=lambda params, context: kind())


plant(SCALERS, "Normalizer", Exits)
plant(MODELS["classification"], "DecisionTree", Faults)
plant(MODELS["classification"], "BernoulliNaiveBayes", Forks)
"""
ENDS = {
    "Normalizer KNN": "Ended without an answer, with exit code 7.",
    "StandardScaler DecisionTree": "Ended by SIGSEGV.",
    "StandardScaler BernoulliNaiveBayes": "Killed because it had started more than",
}


def test_a_part_of_a_pipeline_that_ends_its_process_ends_its_iteration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transformer that exits, a model that faults in native code, a model that is a fork bomb.

    All while a fold is fitted; they are planted in the process that iterations are forked from.
    """
    (tmp_path / "planted_parts.py").write_text(PLANTED)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    data.save(data.check({"X": X, "y": X[:, 0] > 0}, "classification"), tmp_path / "data")
    names = ("LogisticRegression", "KNN", "BernoulliNaiveBayes", "DecisionTree")
    config = AutoMLConfig.parse(
        {
            "task": "classification",
            "iterations": 7,
            "n_cross_validations": 2,
            "allowed_models": names,
            "max_cores_per_iteration": 1,
            "enable_voting_ensemble": True,
        }
    )
    with LocalExecutor(Template.spawn((*PRELOAD, "planted_parts")), grace_s=0.2) as executor:
        result = Sweep(config, tmp_path / "data", tmp_path / "out", executor=executor).run()
    ended = {each.proposal.label: each for each in result.outcomes}
    assert len(ended) == 7
    for label, reason in ENDS.items():
        assert ended[label].state is IterationState.CRASHED, ended[label].reason
        assert reason in ended[label].reason
        assert ended[label].metrics == {}
    assert "Segmentation fault" in (
        ended["StandardScaler DecisionTree"].output_dir / LOG_NAME
    ).read_text(encoding="utf-8")
    others = [each for label, each in ended.items() if label not in ENDS]
    assert {each.state for each in others} == {IterationState.COMPLETED}
    assert ended["VotingEnsemble"].state is IterationState.COMPLETED
    assert result.best is not None
