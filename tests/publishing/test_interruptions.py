"""Killing the publisher between any two calls, and losing any answer, ends with the same store."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.publishing import results
from mlflow_automl_remote.publishing.parent_run import find_parent, remember
from mlflow_automl_remote.states import IterationState

MUTATING = frozenset(
    (
        "create_run",
        "create_logged_model",
        "delete_logged_model",
        "delete_run",
        "finalize_logged_model",
        "log_artifacts",
        "log_batch",
        "log_inputs",
        "log_model_artifacts",
        "log_outputs",
        "set_terminated",
        "update_run",
    )
)


class Killed(BaseException):
    """The process ends here: nothing may catch it."""


class FaultyClient:
    """A client that fails at its n-th mutating call, before or after it was carried out."""

    def __init__(self, client: MlflowClient, at: int, *, after: bool, fail: Callable[[], Any]):
        self._client, self._at, self._after, self._fail = client, at, after, fail
        self.n_calls = 0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if name not in MUTATING:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            is_due = self.n_calls == self._at
            self.n_calls += 1
            if is_due and not self._after:
                self._fail()
            result = value(*args, **kwargs)
            if is_due:
                self._fail()
            return result

        return call


def kill() -> None:
    raise Killed


def lose_the_answer() -> None:
    """Fail as MLflow's REST client does when a connection breaks."""
    try:
        raise requests.ConnectionError("Remote end closed connection without response")
    except requests.ConnectionError as error:
        raise MlflowException(f"API request failed with exception {error}")  # noqa: B904


def contents_of(store: Any, parent: str) -> dict[str, Any]:
    """All that a store shows of a sweep, ids replaced by what they are ids of."""
    client = store.client
    runs = client.search_runs([store.experiment_id], run_view_type=ViewType.ALL)
    models = client.search_logged_models([store.experiment_id])
    names = {parent: "PARENT"}
    names |= {
        run.info.run_id: run.data.tags["automl_remote.key"]
        for run in runs
        if run.info.run_id != parent
    }
    names |= {model.model_id: f"model of {model.tags['automl_remote.key']}" for model in models}

    def named(text: str) -> str:
        for known, name in names.items():
            text = text.replace(known, name)
        return text.replace(str(store.artifacts.parent), "STORE")

    shown: dict[str, Any] = {
        "files": {
            named(path.relative_to(store.artifacts).as_posix()): named(
                path.read_bytes().decode("latin-1")
            )
            for path in store.artifacts.rglob("*")
            if path.is_file()
        },
        "n_runs": len(runs),
        "n_models": len(models),
    }
    for run in runs:
        history = {
            key: sorted(
                (point.step, point.timestamp, point.value)
                for point in client.get_metric_history(run.info.run_id, key)
            )
            for key in run.data.metrics
        }
        shown[names[run.info.run_id]] = (
            (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time),
            run.data.params,
            {name: named(value) for name, value in run.data.tags.items()},
            history,
            [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs],
            sorted(named(one.model_id) for one in run.outputs.model_outputs),
        )
    for model in models:
        shown[names[model.model_id]] = (
            named(model.source_run_id),
            model.status,
            model.params,
            model.tags,
            sorted((one.key, one.value, one.timestamp, one.step) for one in model.metrics),
        )
    return shown


def two_iterations(sweep: Any) -> Any:
    """A sweep with all kinds of calls in it."""
    sweep.start(primary_metric="AUC_weighted")
    sweep.begin(0)
    sweep.begin(1)
    sweep.end(0)
    sweep.end(1, IterationState.FAILED)
    return sweep.finish()


def test_a_kill_between_any_two_calls_is_made_up_for_by_the_next_process(
    new_store: Any, new_sweep: Any
) -> None:
    """Whichever call was the last, done or not: nothing is missing and nothing there twice."""
    sweep = two_iterations(new_sweep())
    store = new_store("undisturbed")
    parent = store.new_parent()
    counter = FaultyClient(store.client, -1, after=False, fail=kill)
    sweep.publisher(counter, parent).publish(sweep.state)
    expected = contents_of(store, parent)
    assert (expected["n_runs"], expected["n_models"]) == (3, 1)
    assert counter.n_calls > 15

    for at, after in itertools.product(range(counter.n_calls), (False, True)):
        store = new_store(f"killed-{at}-{after}")
        parent = store.new_parent()
        client = FaultyClient(store.client, at, after=after, fail=kill)
        with pytest.raises(Killed):
            sweep.publisher(client, parent).publish(sweep.state)
        with sweep.publisher(store.client, parent) as publisher:
            publisher.publish(sweep.state)
        assert expected == contents_of(store, parent), f"call {at}, after={after}"


def test_a_lost_answer_to_any_call_is_made_up_for_by_the_same_process(
    new_store: Any, new_sweep: Any
) -> None:
    """A connection that breaks once costs at most one more `publish`."""
    sweep = two_iterations(new_sweep())
    store = new_store("undisturbed")
    parent = store.new_parent()
    counter = FaultyClient(store.client, -1, after=False, fail=lose_the_answer)
    sweep.publisher(counter, parent).publish(sweep.state)
    expected = contents_of(store, parent)

    n_failed = 0
    for at, after in itertools.product(range(counter.n_calls), (False, True)):
        store = new_store(f"lost-{at}-{after}")
        parent = store.new_parent()
        client = FaultyClient(store.client, at, after=after, fail=lose_the_answer)
        with sweep.publisher(client, parent) as publisher:
            try:
                publisher.publish(sweep.state)
            except PublishFailed:
                n_failed += 1
                publisher.publish(sweep.state)
        assert expected == contents_of(store, parent), f"call {at}, after={after}"
    assert n_failed == 2 * 5  # two runs and a model are created, the model is linked twice


def test_a_process_that_starts_over_again_and_again_comes_to_an_end(
    new_store: Any, new_sweep: Any, tmp_path: Path
) -> None:
    """A publisher that dies after each single call still gets on."""
    sweep = two_iterations(new_sweep())
    store = new_store("undisturbed")
    parent = store.new_parent()
    sweep.publisher(store.client, parent).publish(sweep.state)
    expected = contents_of(store, parent)
    store = new_store("dying")
    parent = store.new_parent()
    for at in range(40):
        client = FaultyClient(store.client, at, after=True, fail=kill)
        try:
            sweep.publisher(client, parent).publish(sweep.state)
        except Killed:
            continue
        break
    assert expected == contents_of(store, parent)


def test_which_is_best_is_known_as_soon_as_an_iteration_is_there(
    new_store: Any, new_sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far publishing has come: no iteration is whole before the settings are recorded."""
    sweep = two_iterations(new_sweep())
    n_told = 0
    for at in range(40):
        store = new_store(f"so-far-{at}")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        parent = store.new_parent()
        remember(parent, sweep.facts)
        client = FaultyClient(store.client, at, after=True, fail=kill)
        try:
            sweep.publisher(client, parent).publish(sweep.state)
        except Killed:
            found = find_parent(parent)
            if any(results.is_whole(child) for child in results.children(found)):
                assert results.number_of(results.best_child(found)) == 0
                n_told += 1
        else:
            break
    assert n_told > 5
