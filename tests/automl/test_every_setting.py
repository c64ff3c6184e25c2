"""No setting is without a test of what it does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_automl_remote.automl.proposals import Proposals
from mlflow_automl_remote.automl.sampler import Sampler
from mlflow_automl_remote.config import MODELS, AutoMLConfig

TESTS = Path(__file__).parents[1]
OF_BEHAVIOUR = ("automl", "agent")
"""Folders whose tests run what settings change; tests of how they are read do not count."""


@pytest.mark.parametrize("name", AutoMLConfig.model_fields)
def test_a_setting_is_used_by_a_test_of_what_it_changes(name: str) -> None:
    """One that is added without such a test is found here."""
    files = [path for folder in OF_BEHAVIOUR for path in (TESTS / folder).glob("test_*.py")]
    users = [path.name for path in files if re.search(rf"\b{name}\b", path.read_text("utf-8"))]
    assert users, f"no test in {OF_BEHAVIOUR} uses the setting '{name}'"


def test_blocked_models_are_never_proposed() -> None:
    """Neither by the portfolio nor after it, and the others all may be."""
    given = {"task": "classification", "blocked_models": "LightGBM,SVM,CatBoost"}
    config = AutoMLConfig.parse(given)
    assert set(MODELS["classification"]) - {"LightGBM", "SVM", "CatBoost"} == set(
        config.searched_models
    )
    sampler = Sampler("classification", config.searched_models, greater_is_better=True, seed=0)
    proposals = Proposals(
        "classification", config.searched_models, n_iterations=40, sampler=sampler
    )
    proposed = {each.model for each in iter(proposals.next, None)}
    assert proposed <= set(config.searched_models)
    assert "XGBoost" in proposed
