"""The main job as a user runs it: `mlflow run`, then a look into the store."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import pytest
from data_scripts import WINE
from mlflow.artifacts import download_artifacts
from sshd import SshServer
from user_terminal import BIN, REPOSITORY, Terminal

from mlflow_automl_remote.config import CLASSIFICATION_METRICS

SIX_PARTS = (
    "shap_values",
    "expected_values",
    "overall_summary",
    "overall_imp",
    "per_class_summary",
    "per_class_imp",
)


def test_the_sweep_of_the_article_over_ssh(
    terminal: Terminal, vm: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 nested runs with params, metrics and models that predict; the best one is explained."""
    status, output = terminal.mlflow_run(config=vm.config())
    assert status == 0, output
    assert "ITERATION   PIPELINE" in output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", terminal.tracking_uri)
    parent = terminal.parent()
    children = terminal.children(parent.info.run_id)
    assert parent.info.status == "FINISHED"
    assert list(range(20)) == [int(run.data.tags["automl_remote.iteration"]) for run in children]
    X = _digits()
    for child in children:
        assert child.info.status == "FINISHED"
        assert set(CLASSIFICATION_METRICS) <= set(child.data.metrics)
        assert any(name.startswith("model__") for name in child.data.params)
        assert child.info.start_time < child.info.end_time
        (output_model,) = child.outputs.model_outputs
        model = mlflow.pyfunc.load_model(f"models:/{output_model.model_id}")
        assert model.metadata.signature is not None
        predicted = model.predict(X)
        assert (predicted == _digit_labels()).mean() > 0.7
    best = max(children, key=lambda run: run.data.metrics["AUC_weighted"])
    assert parent.data.metrics["best_AUC_weighted"] == best.data.metrics["AUC_weighted"]
    assert parent.data.tags["automl_remote.best_run_id"] == best.info.run_id
    for run in (best, parent):
        folder = Path(download_artifacts(run_id=run.info.run_id, artifact_path="explanation"))
        summary = json.loads((folder / "summary.json").read_text())
        assert set(SIX_PARTS) <= set(summary)
        assert {"beeswarm.png", "bar.png", "explanation.html"} <= {
            p.name for p in folder.iterdir()
        }
    names = {file.path for file in terminal.client.list_artifacts(parent.info.run_id)}
    assert {"leaderboard.html", "leaderboard.csv", "explanation", "sweep"} <= names


def _digits() -> object:
    from sklearn.datasets import load_digits

    return load_digits().data[10:]


def _digit_labels() -> object:
    from sklearn.datasets import load_digits

    return load_digits().target[10:]


def test_the_same_project_runs_on_mlflows_local_backend(terminal: Terminal) -> None:
    """`mlflow run .` makes the run; our command adopts it as the parent."""
    status, output = terminal.run(
        BIN / "mlflow", "run", REPOSITORY, "--env-manager", "local",
        "-P", "iterations=2", "-P", "model_explainability=false",
    )  # fmt: skip
    assert status == 0, output
    parent = terminal.parent()
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.project.backend"] == "local"
    assert parent.data.params["iterations"] == "2"
    assert len(terminal.children(parent.info.run_id)) == 2


def test_the_command_alone_needs_no_backend_config_and_no_mlproject(
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """`automl-remote sweep` in a folder with settings and a data script is enough.

    The store need not be there either.
    """
    project = make_project(WINE)
    (project / "MLproject").unlink()
    (terminal.folder / "mlflow.db").unlink()
    status, output = terminal.automl_remote(
        "sweep", "--settings", f"{project}/automl.yaml", "--iterations=1", "--run-name", "wine"
    )
    assert status == 0, output
    assert "wine" == terminal.parent().info.run_name
    assert len(terminal.runs()) == 2


def _wait_for_output(terminal: Terminal, process: object, text: str) -> str:
    """Read what a command prints until a text is there."""
    seen = ""
    deadline = time.monotonic() + 120
    while text not in seen:
        assert time.monotonic() < deadline, seen
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def _store(terminal: Terminal) -> dict[str, object]:
    """Give all that a sweep left in the store, times and ids left out."""
    parent = terminal.parent()
    content: dict[str, object] = {"parent": _content(terminal, parent)}
    for child in terminal.children(parent.info.run_id):
        content[child.info.run_name] = _content(terminal, child)
    return content


def _content(terminal: Terminal, run: object) -> dict[str, object]:
    """Give what a run holds, but for how long things took and how busy the machine was."""
    run_id = run.info.run_id
    data = run.data
    timed = ("_time_s", "duration_s", "predict_ms_per_row")
    names = sorted(
        name
        for name in data.metrics
        if not name.endswith(timed) and not name.startswith("system/")
    )
    return {
        "status": run.info.status,
        "params": data.params,
        "metrics": {
            name: sorted(
                (m.step, m.value) for m in terminal.client.get_metric_history(run_id, name)
            )
            for name in names
            if not name.startswith("best_")
        },
        "best": {name: value for name, value in data.metrics.items() if name in names},
        "metric names": sorted(data.metrics),
        "artifacts": sorted(_paths(terminal, run_id)),
        "n_models": len(run.outputs.model_outputs) if run.outputs else 0,
    }


def _paths(terminal: Terminal, run_id: str, folder: str | None = None) -> list[str]:
    found = []
    for entry in terminal.client.list_artifacts(run_id, folder):
        found += _paths(terminal, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def test_a_killed_client_loses_nothing(
    new_terminal: Callable[[str], Terminal],
    make_project: Callable[..., Path],
    target: Mapping[str, object] | None,
) -> None:
    """After SIGKILL, `automl-remote follow` ends with the store of an undisturbed run."""
    project = make_project(WINE, iterations=5, max_concurrent_iterations=1)
    undisturbed = new_terminal("undisturbed")
    status, output = undisturbed.mlflow_run(project, target)
    assert status == 0, output
    for after in (0, 2):
        terminal = new_terminal(f"killed-after-{after}")
        process = terminal.start(*terminal.mlflow_run_argv(project, target))
        _wait_for_output(terminal, process, f"\n{after:>10}   ")
        process.kill()
        process.communicate()
        run_id = terminal.parent().info.run_id
        assert terminal.parent().info.status == "RUNNING"
        status, output = terminal.automl_remote("follow", run_id)
        assert status == 0, output
        assert _store(undisturbed) == _store(terminal)


def test_following_a_published_sweep_changes_nothing(
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """A second `follow` ends at once, with success, and no row of the store is another."""
    terminal.mlflow_run(make_project(WINE))
    before = _rows(terminal)
    status, output = terminal.automl_remote("follow", terminal.parent().info.run_id)
    assert status == 0, output
    assert before == _rows(terminal)


def _rows(terminal: Terminal) -> dict[str, list[tuple[object, ...]]]:
    import sqlite3

    with sqlite3.connect(terminal.folder / "mlflow.db") as store:
        tables = [
            name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = {name: sorted(store.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
    store.close()
    return rows


def test_ctrl_c_detaches_and_says_how_to_come_back(
    terminal: Terminal, make_project: Callable[..., Path], target: Mapping[str, object] | None
) -> None:
    """The sweep goes on; it can be looked at, read and cancelled, one iteration or the whole."""
    project = make_project(WINE, iterations=300, max_concurrent_iterations=1)
    process = terminal.start(*terminal.mlflow_run_argv(project, target))
    _wait_for_output(terminal, process, "\n         0   ")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    run_id = terminal.parent().info.run_id
    assert f"automl-remote follow {run_id}" in output
    assert f"automl-remote cancel {run_id}" in output
    assert "Traceback" not in output
    status, output = terminal.automl_remote("status", run_id)
    assert status == 0
    assert "of 300 iterations have ended" in output
    status, output = terminal.automl_remote("cancel", run_id, "--iteration", "299")
    assert (status, output) == (0, "Iteration 299 had not begun; it will not run.\n")
    status, output = terminal.automl_remote("cancel", run_id, "--iteration", "0")
    assert (status, output) == (0, "Iteration 0 had ended before; nothing was changed.\n")
    status, output = terminal.automl_remote("logs", run_id)
    assert status == 0
    status, output = terminal.automl_remote("logs", run_id, "--iteration", "0")
    assert status == 0
    status, output = terminal.automl_remote("cancel", run_id)
    assert (status, output) == (0, "The sweep was running; it is being stopped.\n")
    status, output = terminal.automl_remote("follow", run_id)
    assert status == 1
    assert "The sweep has ended: CANCELLED." in output
    assert terminal.parent().info.status == "KILLED"


def test_a_failing_iteration_is_a_failed_run_and_the_parent_says_so(
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """A time-out is FAILED with its reason; the sweep is a success while one model is there."""
    project = make_project(
        WINE,
        iterations=2,
        allowed_models="KNN",
        iteration_timeout_minutes=0.0001,
    )
    status, output = terminal.mlflow_run(project)
    assert status == 1
    assert "TIMED_OUT" in output
    assert "Traceback" not in output
    parent = terminal.parent()
    assert parent.info.status == "FAILED"
    for child in terminal.children(parent.info.run_id):
        assert child.info.status == "FAILED"
        assert child.data.tags["automl_remote.state"] == "TIMED_OUT"
        assert child.data.tags["automl_remote.reason"]


def test_follow_false_returns_after_submission(
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """The command ends with success while the sweep goes on."""
    project = make_project(WINE, iterations=100)
    status, output = terminal.mlflow_run(project, {"follow": False})
    assert status == 0, output
    assert terminal.parent().info.status == "RUNNING"
    assert terminal.automl_remote("cancel", terminal.parent().info.run_id)[0] == 0


def test_a_lost_agent_is_told_and_resumed(
    terminal: Terminal, make_project: Callable[..., Path]
) -> None:
    """After the agent's death `follow` says so; `resume` goes on and ends with every iteration."""
    project = make_project(WINE, iterations=6, max_concurrent_iterations=1)
    process = terminal.start(*terminal.mlflow_run_argv(project))
    seen = _wait_for_output(terminal, process, "\n         1   ")
    pid = int(seen.partition("as process ")[2].split()[0])
    _kill(pid)
    output, _ = process.communicate(timeout=60)
    run_id = terminal.parent().info.run_id
    assert process.returncode == 1
    assert f"automl-remote resume {run_id}" in output
    assert terminal.parent().info.status == "RUNNING"
    status, output = terminal.automl_remote("resume", run_id)
    assert status == 0, output
    assert len(terminal.children(run_id)) == 6
    assert terminal.parent().info.status == "FINISHED"


def _kill(pid: int) -> None:
    import os

    os.kill(pid, signal.SIGKILL)
