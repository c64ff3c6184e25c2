"""Finding, in a real store, what earlier sweeps found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import mlflow
import pytest
from synthetic_sweep import SyntheticSweep

from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import MAX_OF_A_MODEL, WarmStart
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.publishing import earlier
from mlflow_automl_remote.states import IterationState

NUMBERS = {"n_rows": 1787.0, "n_columns": 64.0, "n_classes": 2.0}


@pytest.fixture
def told() -> list[str]:
    return []


class Finder:
    """Looks in a store as a sweep of given settings would.

    Attributes:
        store: Where tests put sweeps.
    """

    def __init__(self, store: Any, told: list[str]) -> None:
        self.store = store
        self._told = told

    def __call__(self, wanted: str, **settings: object) -> WarmStart | None:
        given = {"task": "classification", "primary_metric": "AUC_weighted"}
        return earlier.find(wanted, AutoMLConfig.parse(given | settings), self._told.append)


@pytest.fixture
def find(new_store: Any, told: list[str]) -> Iterator[Finder]:
    finder = Finder(new_store(), told)
    mlflow.set_tracking_uri(finder.store.uri)
    yield finder
    mlflow.set_tracking_uri(None)


def _publish(sweep: SyntheticSweep, store: Any) -> str:
    parent = str(store.new_parent())
    with sweep.publisher(store.client, parent) as publisher:
        publisher.publish(sweep.state)
    return parent


def test_a_run_gives_its_best_pipelines_and_what_its_data_is_like(
    new_sweep: Any, find: Any, told: list[str]
) -> None:
    """As proposed, not as fitted; the best first, a few of each model; with the time of a fit."""
    parent = _publish(new_sweep("sweep-1", meta_features=NUMBERS).filled(12), find.store)
    found = find(parent)
    assert found.is_named
    (sweep,) = found.sweeps
    assert (parent, NUMBERS) == (sweep.run_id, sweep.meta_features)
    scores = [find.store.client.get_run(one.run_id).data.metrics for one in sweep.pipelines]
    assert scores[0]["AUC_weighted"] == max(one["AUC_weighted"] for one in scores)
    models = [one.model for one in sweep.pipelines]
    assert all(models.count(model) <= MAX_OF_A_MODEL for model in models)
    best = sweep.pipelines[0]
    run = find.store.client.get_run(best.run_id)
    number = int(run.data.tags["automl_remote.iteration"])
    assert {"model__C": 0.5 + number, "scaler__copy": True} == best.params
    assert best.fit_s == pytest.approx(1.1 / 6)
    assert [f"Warm start: {len(models)} pipelines of earlier sweeps: {parent}"] == told


def test_models_that_the_new_sweep_does_not_use_are_not_passed_on(
    new_sweep: Any, find: Any
) -> None:
    """`allowed_models` holds for a warm start too."""
    parent = _publish(new_sweep("sweep-1", meta_features=NUMBERS).filled(8), find.store)
    found = find(parent, allowed_models="SVM,KNN")
    assert {"SVM"} == {one.model for one in found.sweeps[0].pipelines}
    with pytest.raises(ConfigurationError, match=r"no iteration has a AUC_weighted and a model"):
        find(parent, allowed_models="KNN")


def test_pipelines_are_ranked_by_the_metric_of_the_new_sweep(new_sweep: Any, find: Any) -> None:
    """All metrics are recorded, so another primary metric is no hindrance."""
    sweep = new_sweep("sweep-1", meta_features=NUMBERS).start()
    for number, loss in enumerate((0.5, 0.1, 0.3)):
        sweep.begin(number)
        sweep.end(number, metrics={"AUC_weighted": 0.9 + number / 100, "log_loss": loss})
    parent = _publish(sweep.finish(), find.store)
    names = [
        find.store.client.get_run(one.run_id).data.metrics["log_loss"]
        for one in find(parent, primary_metric="log_loss").sweeps[0].pipelines
    ]
    assert [0.1, 0.3, 0.5] == names
    own = find(parent, primary_metric="neg_brier_score")  # not recorded: by their own metric
    assert 3 == len(own.sweeps[0].pipelines)


def test_an_experiment_gives_its_sweeps_the_latest_first(
    new_sweep: Any, find: Any, told: list[str]
) -> None:
    """By name or id; of many over the same data a few; sweeps of no use are passed over."""
    store = find.store
    other = {**NUMBERS, "n_rows": 90.0}
    parents = [
        _publish(new_sweep(f"sweep-{at}", meta_features=numbers).filled(3), store)
        for at, numbers in enumerate((other, *[NUMBERS] * (earlier.MAX_ALIKE + 1)))
    ]
    _publish(new_sweep("old").filled(2), store)
    by_name = find("sweeps")
    assert not by_name.is_named
    found = [one.run_id for one in by_name.sweeps]
    assert 1 + earlier.MAX_ALIKE == len(found)
    assert parents[0] in found
    assert by_name == find(store.experiment_id)
    assert 2 == len(told)


def test_an_experiment_with_nothing_of_use_is_a_notice_with_the_reasons(
    new_sweep: Any, find: Any, told: list[str]
) -> None:
    """The sweep begins without it."""
    _publish(new_sweep("old").filled(1), find.store)
    assert find("sweeps") is None
    assert find("sweeps", task="regression", primary_metric="r2_score") is None
    (old, other_task) = told
    assert "nothing in the experiment 'sweeps' can be used (1 times: it has had no data" in old
    assert "it is classification, this sweep is regression" in other_task


def test_what_is_no_sweep_is_refused_in_one_line(new_sweep: Any, find: Any) -> None:
    """Each message has what was given, and what to do where there is something."""
    store = find.store
    parent = _publish(new_sweep("sweep-1", meta_features=NUMBERS).filled(1), store)
    child = store.client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )[0].info.run_id
    foreign = store.new_parent()
    failed = new_sweep("failed", meta_features=NUMBERS).start()
    failed.begin(0)
    failed.end(0, IterationState.FAILED)
    for wanted, message in (
        ("nothing", "must be the run id of a sweep, or the name or id of an exp.* none 'nothing'"),
        ("f" * 32, f"There is none '{'f' * 32}'"),
        ("007", "There is none '007'"),
        (child, f"not the parent run of a sweep, but an iteration of {parent}: give that"),
        (foreign, "not the parent run of a sweep"),
        (_publish(failed, store), "no iteration has a AUC_weighted"),
    ):
        with pytest.raises(ConfigurationError, match=message) as refused:
            find(wanted)
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="it is classification, this sweep is regression"):
        find(parent, task="regression", primary_metric="r2_score")
    store.client.delete_run(parent)
    with pytest.raises(ConfigurationError, match="it was deleted"):
        find(parent)


def test_what_others_wrote_into_the_tags_does_no_harm(new_sweep: Any, find: Any) -> None:
    """Pipelines that cannot be read are passed over, numbers that are none count as not there."""
    store = find.store
    parent = _publish(new_sweep("sweep-1", meta_features=NUMBERS).filled(4), store)
    runs = store.client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    bad = ["no JSON", json.dumps({"scaler": "X", "model": "LightGBM", "params": {"a": [1]}}), "[]"]
    for run, text in zip(runs, bad, strict=False):
        store.client.set_tag(run.info.run_id, "automl_remote.pipeline", text)
    (sweep,) = find(parent).sweeps
    assert [runs[3].info.run_id] == [one.run_id for one in sweep.pipelines]
    store.client.set_tag(parent, "automl_remote.meta_features", '{"n_rows": "many"}')
    with pytest.raises(ConfigurationError, match="it has had no data"):
        find(parent)
