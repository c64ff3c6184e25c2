"""Versions of models of sweeps: what they say, and that none is there twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest

from mlflow_automl_remote import promoting
from mlflow_automl_remote.errors import ConfigurationError, PublishFailed, SweepNotFound

from .conftest import House


def test_the_best_model_is_registered_once_and_says_where_it_comes_from(house: House) -> None:
    """Twice, and by two clients at once, gives one version."""
    sweep = house.own_sweep(n_iterations=7)
    first = promoting.register(sweep.run_id, house.name)
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: promoting.register(sweep.run_id, house.name), range(2)))
    assert {one.number for one in (first, *again)} == {1}
    assert len(house.registry.versions()) == 1
    tags = first.tags
    assert tags["automl_remote.sweep_run_id"] == sweep.run_id
    assert tags["automl_remote.iteration"] == str(sweep.best)
    assert tags["automl_remote.data_digest"] == "a" * 36
    environment = tags["automl_remote.environment"].split("; ")
    assert (environment[0], environment[-1]) == ("Python 3.11.7", "scikit-learn")
    assert json.loads(tags["automl_remote.metrics"])["accuracy"] > 0.9
    assert float(tags["automl_remote.score"]) == pytest.approx(
        sweep.choose().metrics["AUC_weighted"]
    )
    assert first.description.count("\n| ") == 7  # head, rule, five rows
    assert mlflow.pyfunc.load_model(first.uri).metadata.model_id == sweep.choose().model_id


def test_an_iteration_or_the_best_by_another_metric_can_be_registered(house: House) -> None:
    sweep = house.own_sweep(n_iterations=3)
    by_number = promoting.register(sweep.run_id, house.name, iteration=0)
    assert by_number.tags["automl_remote.iteration"] == "0"
    lowest = min(sweep.candidates.values(), key=lambda one: one.metrics["log_loss"])
    by_metric = promoting.register(sweep.run_id, house.name, metric="log_loss")
    assert by_metric.tags["automl_remote.iteration"] == str(lowest.number)


def test_a_version_that_a_person_made_of_the_same_model_is_taken(house: House) -> None:
    sweep = house.sweep()
    mlflow.register_model(f"models:/{sweep.choose().model_id}", house.name)
    version = promoting.register(sweep.run_id, house.name)
    assert (version.number, version.tags["automl_remote.sweep_id"]) == (1, sweep.sweep_id)


def test_a_version_that_was_deleted_is_made_anew(house: House) -> None:
    sweep = house.sweep()
    promoting.register(sweep.run_id, house.name)
    house.client.delete_model_version(house.name, "1")
    assert promoting.register(sweep.run_id, house.name).number == 2


def test_what_cannot_be_registered_is_said(house: House) -> None:
    sweep = house.own_sweep()
    chosen = sweep.choose()
    with pytest.raises(ConfigurationError, match="no ended iteration 77"):
        promoting.register(sweep.run_id, house.name, iteration=77)
    with pytest.raises(ConfigurationError, match="with the metric 'luck'"):
        promoting.register(sweep.run_id, house.name, metric="luck")
    with pytest.raises(ConfigurationError, match="has no /"):
        promoting.register(sweep.run_id, "a/b")
    with pytest.raises(SweepNotFound, match="not the parent run"):
        promoting.register(chosen.run_id, house.name)
    house.client.delete_logged_model(chosen.model_id)
    with pytest.raises(PublishFailed, match=chosen.model_id):
        promoting.register(sweep.run_id, house.name)
    assert house.registry.versions() == []
