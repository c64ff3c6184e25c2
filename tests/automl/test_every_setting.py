"""No setting is without a test of what it does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.proposals import Proposals
from mlflow_automl_remote.automl.sampler import Sampler
from mlflow_automl_remote.config import MODELS, AutoMLConfig

TESTS = Path(__file__).parents[1]
OF_BEHAVIOUR = ("automl", "agent", "promotion")
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
    left = AutoMLConfig.parse(given).searched_models
    assert set(MODELS["classification"]) - {"LightGBM", "SVM", "CatBoost"} == set(left)
    sampler = Sampler("classification", left, greater_is_better=True, seed=0)
    first = portfolio("classification", left)
    proposals = Proposals("classification", first, n_iterations=40, sampler=sampler)
    proposed = {each.model for each in iter(proposals.next, None)}
    assert proposed <= set(left)
    assert "XGBoost" in proposed
