"""What MLflow shows of a sweep, on each kind of store."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from mlflow_automl_remote.errors import ConnectionLost, PublishFailed
from mlflow_automl_remote.journal.events import SweepResumed
from mlflow_automl_remote.publishing import Publisher
from mlflow_automl_remote.states import IterationState, SweepStatus

KEY = "automl_remote.key"


def children_of(store: Any, parent: str, view: int = ViewType.ACTIVE_ONLY) -> dict[str, Run]:
    """The runs of the iterations, by number."""
    runs = store.client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", run_view_type=view
    )
    found = {run.data.tags["automl_remote.iteration"]: run for run in runs}
    assert len(runs) == len(found)
    return found


def rows_of(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    with sqlite3.connect(database) as connection:
        names = connection.execute("select name from sqlite_master where type='table'").fetchall()
        return {name: connection.execute(f"select * from {name}").fetchall() for (name,) in names}


def files_of(folder: Path) -> dict[str, tuple[str, int]]:
    """All files below a folder, with checksum and time of change."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_twenty_iterations_appear_with_params_metrics_and_models_that_predict(
    store: Any, new_sweep: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """A finished sweep becomes a parent with a child for each iteration, each with its model."""
    sweep = new_sweep(f"twenty-{store.experiment_id}").filled(20)
    parent = store.new_parent()
    with sweep.publisher(store.client, parent) as publisher:
        publisher.publish(sweep.state)
    assert "View run" not in capfd.readouterr().out

    children = children_of(store, parent)
    assert {str(number) for number in range(20)} == set(children)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow.set_tracking_uri(store.uri)
    best = children[str(sweep.state.best_iteration)].outputs.model_outputs
    outputs = store.client.get_run(parent).outputs.model_outputs
    assert [one.model_id for one in best] == [one.model_id for one in outputs]
    for number, run in children.items():
        assert run.info.status == "FINISHED"
        assert run.info.run_name.startswith(f"{int(number):03d} ")
        assert run.data.params["model__C"] == str(0.5 + int(number))
        assert len(run.data.params) == 14
        assert {"AUC_weighted", "AUC_weighted_fold", "fit_time_s", "duration_s"} <= set(
            run.data.metrics
        )
        assert "none" not in run.data.metrics
        assert run.data.tags["mlflow.user"] == "ada"
        assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["training data"]
        assert len(run.outputs.model_outputs) == 1
    for number in ("0", "19"):
        check_model_of(store, children[number])


def check_model_of(store: Any, run: Run) -> None:
    """Load the model of an iteration in both ways and look at what MLflow knows of it."""
    model_id = run.outputs.model_outputs[0].model_id
    examples = pd.DataFrame({"a": [0.0, 1.0], "b": [0.5, 0.5], "c": [0.5, 0.5]})
    for uri in (f"models:/{model_id}", f"runs:/{run.info.run_id}/model"):
        model = mlflow.pyfunc.load_model(uri)
        assert list(model.predict(examples)) == [0, 1]
    assert run.info.run_id == model.metadata.run_id
    assert model_id == model.metadata.model_id
    assert model.metadata.signature.inputs.input_names() == ["a", "b", "c"]
    assert model.input_example is not None
    known = store.client.get_logged_model(model_id)
    assert run.info.run_id == known.source_run_id
    linked = {metric.key: metric for metric in known.metrics}
    assert linked["AUC_weighted"].dataset_name == "training data"
    assert run.data.metrics["AUC_weighted"] == linked["AUC_weighted"].value
    names = {file.path for file in store.client.list_artifacts(run.info.run_id)}
    assert {"iteration.log", "oof.npy"} <= names


def test_times_and_steps_come_from_the_journal(new_store: Any, new_sweep: Any) -> None:
    """Start, end, metric time stamps and fold steps are those of the target."""
    store, sweep = new_store(), new_sweep().filled(1)
    parent = store.new_parent()
    sweep.publisher(store.client, parent).publish(sweep.state)
    run, one = children_of(store, parent)["0"], sweep.state.iterations[0]
    assert (one.started_ms, one.ended_ms) == (run.info.start_time, run.info.end_time)
    folds = store.client.get_metric_history(run.info.run_id, "accuracy_fold")
    assert [(n, one.ended_ms) for n in range(5)] == [(f.step, f.timestamp) for f in folds]
    assert list(one.fold_metrics["accuracy"]) == [fold.value for fold in folds]
    sweep_run = store.client.get_run(parent)
    assert sweep.state.ended_ms == sweep_run.info.end_time


def test_the_parent_tells_what_came_out(store: Any, new_sweep: Any) -> None:
    """It has settings, counts, best so far, note, leaderboard, explanation and logs."""
    sweep = new_sweep(f"parent-{store.experiment_id}").start()
    parent = store.new_parent()
    store.client.log_param(parent, "iterations", "'20'")
    publisher = sweep.publisher(store.client, parent)
    for number in range(4):
        sweep.begin(number)
        publisher.publish(sweep.state)
        assert store.client.get_run(parent).info.status == "RUNNING"
        sweep.end(number, IterationState.FAILED if number == 1 else IterationState.COMPLETED)
        publisher.publish(sweep.state)
    publisher.publish(sweep.finish().state)
    publisher.close()

    best = children_of(store, parent)[str(sweep.state.best_iteration)]
    check_numbers_of_parent(store, sweep, parent, best)
    note = store.client.get_run(parent).data.tags["mlflow.note.content"]
    assert "ValueError: it is FAILED" in note
    assert f"#/experiments/{store.experiment_id}/runs/{best.info.run_id}" in note
    assert f"models:/{best.outputs.model_outputs[0].model_id}" in note
    check_files_of_parent(store, sweep, parent, best)


def check_numbers_of_parent(store: Any, sweep: Any, parent: str, best: Run) -> None:
    """Compare status, params, counts and the best so far with the journal."""
    run = store.client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.params["iterations"] == "'20'"
    assert run.data.params["allowed_models"] == "LightGBM"
    assert best.info.run_id == run.data.tags["automl_remote.best_run_id"]
    assert run.data.tags["automl_remote.n_failed"] == "1"
    assert run.data.tags["automl_remote.n_completed"] == "3"
    assert run.data.metrics["n_completed"] == 3.0
    assert best.data.metrics["accuracy"] == run.data.metrics["best_accuracy"]
    history = store.client.get_metric_history(parent, "best_AUC_weighted")
    expected = [(step, sweep.state.iterations[n].best) for step, n in enumerate(range(4))]
    assert expected == [(point.step, point.value) for point in history]


def check_files_of_parent(store: Any, sweep: Any, parent: str, best: Run) -> None:
    """Look for the explanation, and compare the journal with the one on the target."""
    for run_id in (parent, best.info.run_id):
        paths = {file.path for file in store.client.list_artifacts(run_id, "explanation")}
        assert {"explanation/summary.json", "explanation/explanation.html"} == paths
        tags = store.client.get_run(run_id).data.tags
        assert tags["automl_remote.explanation"] == "TreeExplainer"
    sweep_files = {file.path for file in store.client.list_artifacts(parent, "sweep")}
    made = {f"sweep/{name}" for name in ("data.json", "environment.json", "settings.json")}
    assert {
        *made,
        "sweep/families.csv",
        "sweep/pareto.csv",
        "sweep/journal.jsonl",
        "sweep/agent.log",
    } == sweep_files
    journal = Path(store.client.download_artifacts(parent, "sweep/journal.jsonl"))
    assert sweep.journal() == journal.read_bytes()


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (IterationState.FAILED, "FAILED"),
        (IterationState.TIMED_OUT, "FAILED"),
        (IterationState.OUT_OF_MEMORY, "FAILED"),
        (IterationState.CRASHED, "FAILED"),
        (IterationState.CANCELLED, "KILLED"),
    ],
)
def test_an_iteration_without_a_model_says_why(
    state: IterationState, status: str, new_store: Any, new_sweep: Any
) -> None:
    """Its run has the status, the reason and what was proposed; the sweep goes on."""
    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    sweep.begin(0)
    sweep.end(0, state, reason="Bad \x1b[31m thing\nhappened")
    sweep.publisher(store.client, parent).publish(sweep.state)
    run = children_of(store, parent)["0"]
    assert status == run.info.status
    assert state.value == run.data.tags["automl_remote.state"]
    assert run.data.tags["automl_remote.reason"] == "Bad [31m thing happened"
    assert run.data.params == {"model__C": "0.5", "scaler__copy": "True"}
    assert not run.outputs.model_outputs


@pytest.mark.parametrize(
    ("sweep_status", "status"),
    [(SweepStatus.FAILED, "FAILED"), (SweepStatus.CANCELLED, "KILLED")],
)
def test_an_ended_sweep_leaves_no_run_running(
    sweep_status: SweepStatus, status: str, new_store: Any, new_sweep: Any
) -> None:
    """What an ended sweep had in flight is closed with it; a sweep that resumes opens it again."""
    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    sweep.begin(0)
    sweep.publisher(store.client, parent).publish(sweep.state)
    sweep.finish(sweep_status, explained=False)
    sweep.publisher(store.client, parent).publish(sweep.state)
    assert status == store.client.get_run(parent).info.status
    assert children_of(store, parent)["0"].info.status == "KILLED"

    sweep.add(SweepResumed(attempt=2, package_version="0.1.0"))
    sweep.begin(0, attempt=2)
    publisher = sweep.publisher(store.client, parent)
    publisher.publish(sweep.state)
    assert store.client.get_run(parent).info.status == "RUNNING"
    run = children_of(store, parent)["0"]
    assert (run.info.status, run.data.tags["automl_remote.attempt"]) == ("RUNNING", "2")
    sweep.end(0)
    publisher.publish(sweep.finish().state)
    assert store.client.get_run(parent).info.status == "FINISHED"
    assert children_of(store, parent)["0"].info.status == "FINISHED"


def test_publishing_a_finished_journal_again_changes_nothing(
    new_store: Any, new_sweep: Any
) -> None:
    """Neither the same process nor another one touches a row or a file."""
    store, sweep = new_store(), new_sweep().start()
    for number in range(4):
        sweep.begin(number)
        sweep.end(number, IterationState.FAILED if number == 2 else IterationState.COMPLETED)
    sweep.finish()
    parent = store.new_parent()
    publisher = sweep.publisher(store.client, parent)
    publisher.publish(sweep.state)
    rows, files, n_fetched = rows_of(store.database), files_of(store.artifacts), sweep.n_fetched
    publisher.publish(sweep.state)
    with sweep.publisher(MlflowClient(tracking_uri=store.uri), parent) as another:
        another.publish(sweep.state)
    assert rows == rows_of(store.database)
    assert files == files_of(store.artifacts)
    assert n_fetched == sweep.n_fetched


def test_a_journal_read_piece_by_piece_ends_as_one_read_at_once(
    new_store: Any, new_sweep: Any
) -> None:
    """Publishing after each event gives the same runs as publishing once at the end."""
    sweep = new_sweep().filled(3)
    results = []
    for name, stops in (("often", range(1, len(sweep.records) + 1)), ("once", [10**6])):
        store = new_store(name)
        parent = store.new_parent()
        publisher = sweep.publisher(store.client, parent)
        all_records = list(sweep.records)
        for stop in stops:
            sweep.records = all_records[:stop]
            publisher.publish(sweep.state)
        children = children_of(store, parent)
        results.append(
            [
                (one.data.params, one.data.metrics, one.info.status, one.info.end_time)
                for _, one in sorted(children.items())
            ]
        )
    assert results[0] == results[1]


def test_a_run_deleted_by_its_user_stays_deleted(new_store: Any, new_sweep: Any) -> None:
    """The others go on and the sweep ends well; the note says where the iteration is."""
    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    publisher = sweep.publisher(store.client, parent)
    sweep.begin(0)
    sweep.begin(1)
    publisher.publish(sweep.state)
    deleted = children_of(store, parent)["0"].info.run_id
    store.client.delete_run(deleted)
    sweep.end(0)
    sweep.end(1)
    publisher.publish(sweep.finish().state)
    publisher.close()
    assert {"1"} == set(children_of(store, parent))
    run = store.client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert "was deleted there" in run.data.tags["mlflow.note.content"]
    with sweep.publisher(store.client, parent) as later:
        later.publish(sweep.state)
    assert {"0", "1"} == set(children_of(store, parent, ViewType.ALL))


def test_a_sweep_whose_run_is_deleted_is_left_alone_until_it_is_restored(
    new_store: Any, new_sweep: Any
) -> None:
    """Nothing is written or created meanwhile, and nothing fails; then all is made up for."""
    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    publisher = sweep.publisher(store.client, parent)
    sweep.begin(0)
    publisher.publish(sweep.state)
    store.client.delete_run(children_of(store, parent)["0"].info.run_id)
    store.client.delete_run(parent)
    sweep.end(0)
    publisher.publish(sweep.state)
    assert publisher.is_deleted
    before = rows_of(store.database)
    sweep.begin(1)
    sweep.end(1)
    sweep.finish()
    publisher.publish(sweep.state)
    with sweep.publisher(store.client, parent) as later:
        later.publish(sweep.state)
        assert later.is_deleted
    assert before == rows_of(store.database)
    store.client.restore_run(children_of(store, parent, ViewType.ALL)["0"].info.run_id)
    store.client.restore_run(parent)
    publisher.publish(sweep.state)
    publisher.close()
    assert not publisher.is_deleted
    assert {"0", "1"} == set(children_of(store, parent))
    assert store.client.get_run(parent).info.status == "FINISHED"


def test_a_model_that_is_none_leaves_only_its_own_iteration_out(
    new_store: Any, new_sweep: Any
) -> None:
    """A folder without a readable MLmodel is refused; all others are published."""
    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    sweep.begin(0)
    sweep.begin(1)
    bad = sweep.write("iterations/000/model/MLmodel", b"[not: a model")
    sweep.end(1)
    sweep.end(0, files=(bad,))
    publisher = sweep.publisher(store.client, parent)
    publisher.publish(sweep.finish().state)
    with pytest.raises(PublishFailed, match="iteration 0"):
        publisher.close()
    assert children_of(store, parent)["1"].info.status == "FINISHED"
    assert "MLmodel" in store.client.get_run(parent).data.tags["mlflow.note.content"]


def test_doubled_runs_and_models_are_reduced_to_the_earliest(
    new_store: Any, new_sweep: Any
) -> None:
    """What a repeated request or a second client created twice is deleted."""
    store, sweep = new_store(), new_sweep().filled(1)
    parent = store.new_parent()
    sweep.publisher(store.client, parent).publish(sweep.state)
    kept = children_of(store, parent)["0"]
    twin = store.client.create_run(
        store.experiment_id, start_time=kept.info.start_time + 1, tags=kept.data.tags
    )
    model = store.client.get_logged_model(kept.outputs.model_outputs[0].model_id)
    twin_model = store.client.create_logged_model(
        store.experiment_id, source_run_id=twin.info.run_id, tags=model.tags
    )
    sweep.publisher(store.client, parent).publish(sweep.state)
    assert kept.info.run_id == children_of(store, parent)["0"].info.run_id
    assert store.client.get_run(twin.info.run_id).info.lifecycle_stage == "deleted"
    left = store.client.search_logged_models([store.experiment_id])
    assert [model.model_id] == [one.model_id for one in left]
    assert twin_model.model_id != model.model_id


def test_hostile_names_and_long_values_arrive_bounded(store: Any, new_sweep: Any) -> None:
    """Keys are made fit for MLflow; a value that it would cut off is an artifact."""
    sweep = new_sweep(f"hostile-{store.experiment_id}").start()
    parent = store.new_parent()
    sweep.begin(0, model="</script><b>" + "x" * 500, scaler="a\u202eb")
    sweep.end(
        0,
        metrics={"AUC_weighted": 0.5, "../x": 1.0, "f(1)@[2]": 2.0, "f(1)@[3]": 3.0},
        hyperparameters={"a/b": "", "a[b": None, "a]b": "x" * 7000, "..": "1", "": "2"},
    )
    with sweep.publisher(store.client, parent) as publisher:
        publisher.publish(sweep.finish().state)
    run = children_of(store, parent)["0"]
    assert run.info.status == "FINISHED"
    assert {"a_b": "", "a_b_2": "None", "_..": "1", "_": "2"}.items() <= run.data.params.items()
    assert run.data.params["a_b_3"].startswith("see artifact params/a_b_3.txt")
    whole = Path(store.client.download_artifacts(run.info.run_id, "params/a_b_3.txt"))
    assert whole.read_text() == "x" * 7000
    assert {"f_1__2_", "f_1__3_"} <= {name.replace("@", "") for name in run.data.metrics} | {
        name.replace("___", "__") for name in run.data.metrics
    }
    assert len(run.info.run_name) <= 120


def test_a_server_that_is_down_fails_fast_and_is_made_up_for_later(
    new_store: Any, new_sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets one error within seconds, its environment back, and can try again."""
    sweep = new_sweep().filled(1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    before = dict(os.environ)
    client = MlflowClient(tracking_uri="http://127.0.0.1:9")
    publisher = sweep.publisher(client, "0" * 32)
    with pytest.raises(PublishFailed, match="goes on"):
        publisher.publish(sweep.state)
    with pytest.raises(PublishFailed):
        publisher.publish(sweep.state)
    assert before == dict(os.environ)


def test_a_lost_target_stops_publishing_until_it_is_back(new_store: Any, new_sweep: Any) -> None:
    """A transport's error passes through; publishing again goes on without a second run."""
    store, sweep = new_store(), new_sweep().filled(2)
    parent = store.new_parent()
    is_lost = True

    def fetch(files: Any, folder: Path) -> Path:
        if is_lost:
            raise ConnectionLost("the cable is out")
        return Path(sweep.fetch(files, folder))

    publisher = Publisher(store.client, parent, fetch=fetch, facts=sweep.facts)
    with pytest.raises(ConnectionLost):
        publisher.publish(sweep.state)
    is_lost = False
    publisher.publish(sweep.state)
    assert {"0", "1"} == set(children_of(store, parent))


def test_a_failed_explanation_is_told_on_both_runs(new_store: Any, new_sweep: Any) -> None:
    """The reason is a tag of the best child and of the parent."""
    from mlflow_automl_remote.journal.events import ExplanationFinished

    store, sweep = new_store(), new_sweep().start()
    parent = store.new_parent()
    sweep.begin(0)
    sweep.end(0)
    sweep.add(ExplanationFinished(iteration=0, duration_s=1.0, reason="SHAP\nraised"))
    sweep.publisher(store.client, parent).publish(sweep.finish(explained=False).state)
    for run in (store.client.get_run(parent), children_of(store, parent)["0"]):
        assert run.data.tags["automl_remote.explanation"] == "failed: SHAP raised"


def test_the_published_journal_is_the_one_that_was_read(new_store: Any, new_sweep: Any) -> None:
    """A journal may also be given as the path of a local copy."""
    store, sweep = new_store(), new_sweep().filled(1)
    parent = store.new_parent()
    copy = sweep.root / "copy.jsonl"
    copy.write_bytes(sweep.journal())
    Publisher(store.client, parent, fetch=sweep.fetch, facts=sweep.facts, journal=copy).publish(
        sweep.state
    )
    path = Path(store.client.download_artifacts(parent, "sweep/journal.jsonl"))
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_every_child_has_the_key_of_its_iteration(
    new_store: Callable[..., Any], new_sweep: Any
) -> None:
    """Runs and models are found by the sweep and the number of the iteration."""
    store, sweep = new_store(), new_sweep().filled(2)
    parent = store.new_parent()
    sweep.publisher(store.client, parent).publish(sweep.state)
    keys = {run.data.tags[KEY] for run in children_of(store, parent).values()}
    models = store.client.search_logged_models([store.experiment_id])
    assert {"sweep-1/0", "sweep-1/1"} == keys == {model.tags[KEY] for model in models}
