"""Sweeps from Python, under our own names and under Azure's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from data_scripts import QUICK, WINE
from sshd import SshServer, public, running_sshd
from user_terminal import with_store
from waiting import wait_until

import mlflow_automl_remote
from mlflow_automl_remote import azure
from mlflow_automl_remote.errors import ConfigurationError, IterationNotFound, SweepNotFound

SETTINGS = {**QUICK, "max_concurrent_iterations": 1}


@pytest.fixture
def store(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of this test's own, for this process and those that it starts."""
    uri = with_store(tmp_path, empty_database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return uri


def _wine() -> tuple[object, object]:
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


def test_a_sweep_can_be_asked_stopped_and_used_while_it_runs(
    store: str, make_project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """submit returns at once; another cell loads the best so far and cancels; closing ends all."""
    threads = threading.active_count()
    run = mlflow_automl_remote.submit(
        {**SETTINGS, "iterations": 200}, project=make_project(WINE), run_name="wine"
    )
    assert run.status == "RUNNING"
    with pytest.raises(ConfigurationError, match="cannot both be given"):
        run.model(1, metric="accuracy")
    assert run.cancel(7) == "Iteration 7 had not begun; it will not run."
    wait_until(lambda: len(run.state.finished) >= 9)
    wait_until(lambda: len(run.children()) >= 8)
    X, y = _wine()
    assert (run.model().predict(X) == y).mean() > 0.9
    assert run.child(0).info.run_name.startswith("000 ")
    assert run.model(0).predict(X).shape == (178,)
    by_loss = run.child(metric="log_loss")
    assert by_loss.data.metrics["log_loss"] == min(
        child.data.metrics["log_loss"]
        for child in run.children()
        if child.info.status == "FINISHED"
    )
    with pytest.raises(ConfigurationError, match=r"no.* metric 'aucc'|has a metric 'aucc'"):
        run.child(metric="aucc")
    table = run.table()
    assert table.loc[7, "state"] == "CANCELLED"
    assert table["AUC_weighted"].notna().sum() >= 8
    with pytest.raises(IterationNotFound, match="Iteration 7 has no model; it is CANCELLED"):
        run.model(7)
    assert isinstance(run.log(0), str)
    assert run.cancel() == "The sweep was running; it is being stopped."
    assert run.wait() == "CANCELLED"
    assert "ITERATION   PIPELINE" in capsys.readouterr().out
    assert run.cancel(3) == "Iteration 3 had ended before; nothing was changed."
    run.close()
    assert threads == threading.active_count()


def test_a_sweep_whose_process_has_ended_is_found_again_and_nothing_is_lost(
    store: str, make_project: Callable[..., Path]
) -> None:
    """A kernel is closed in the middle; another one goes on by the run's id."""
    project = make_project(WINE)
    script = (
        "import mlflow_automl_remote as m, os, signal\n"
        f"run = m.submit({SETTINGS | {'iterations': 12}!r}, project={str(project)!r})\n"
        "print('RUN', run.run_id, flush=True)\n"
        "while len(run.state.finished) < 2: run.wait(show=False, timeout_s=0.2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run_id = ended.stdout.rpartition("RUN ")[2].strip()
    run = mlflow_automl_remote.attach(run_id)
    assert run.wait(show=False) == "COMPLETED"
    assert list(range(12)) == list(run.table().index)
    assert 12 == len(run.children())
    again = mlflow_automl_remote.attach(run_id)
    assert again.table().equals(run.table())
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    with pytest.raises(SweepNotFound):
        mlflow_automl_remote.attach(run.children()[0].info.run_id)


def test_azures_names_do_what_they_did(
    store: str, make_project: Callable[..., Path], sshd: SshServer
) -> None:
    """Attach, configure, submit, ask, reload; what has no meaning says what to use."""
    ws = azure.Workspace.from_config()
    assert "attached-vm" not in ws.compute_targets
    key = sshd.config()
    attach = azure.RemoteCompute.attach_configuration(
        username=str(key["user"]),
        address="127.0.0.1",
        ssh_port=sshd.port,
        private_key_file=str(sshd.key_file),
        known_hosts=str(sshd.known_hosts),
        env_manager="local",
        python=sys.executable,
    )
    target = azure.ComputeTarget.attach(
        workspace=ws, name="attached-vm", attach_configuration=attach
    )
    target.wait_for_completion(show_output=True)
    assert ws.compute_targets["attached-vm"].provisioning_state == "Succeeded"
    project = make_project(WINE)
    config = azure.AutoMLConfig(
        debug_log="automl_errors.log",
        path=str(project),
        compute_target=target,
        data_script=f"{project}/get_data.py",
        iterations=3,
        preprocess=False,
        verbosity=20,
        **{name: value for name, value in SETTINGS.items() if name != "max_concurrent_iterations"},
    )
    run = azure.Experiment(ws, "wine").submit(config, show_output=True)
    again = azure.AutoMLRun(azure.Experiment(ws, "wine"), run.id)
    assert again.get_status() == "Completed"
    assert again.wait_for_completion()["status"] == "Completed"
    assert 3 == sum(int(str(row[1])) for row in again.summary())
    best, model = again.get_output()
    X, y = _wine()
    assert (model.predict(X) == y).mean() > 0.9
    assert best.id == again.get_best_child().id
    assert "accuracy" in best.get_metrics()
    assert "model__C" in again.get_output(iteration=0)[0].get_properties()
    assert ["000", "001", "002"] == [str(one.name)[:3] for one in again.get_children()]
    assert "scikit-learn" in again.get_run_sdk_dependencies()
    assert [run.id] == [one.id for one in azure.Experiment(ws, "wine").get_runs()]
    version = again.register_model("wine", description="The best.", tags={"team": "cellar"})
    kept = mlflow.MlflowClient().get_model_version("wine", str(version.number))
    assert ("The best.", "cellar") == (kept.description, kept.tags["team"])
    assert best.id == kept.run_id
    assert 1 == again.register_model("wine").number
    assert 2 == again.register_model("wine", iteration=0 if best.iteration else 1).number


@pytest.fixture
def command(tmp_path: Path) -> Iterator[str]:
    """A command that makes a machine, and takes it away: an SSH server that runs already."""
    with running_sshd(tmp_path / "machine") as server:
        facts = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": server.config()["user"],
            "host_key": public(server.host_key),
        }
        script = tmp_path / "cloud.py"
        script.write_text(
            "import os, pathlib, sys\n"
            f"folder = pathlib.Path({str(server.folder)!r})\n"
            "if sys.argv[1] == 'create':\n"
            "    key = os.environ['AUTOML_REMOTE_PUBLIC_KEY']\n"
            "    (folder / 'authorized_keys').write_text(key + chr(10))\n"
            f"    print({json.dumps(facts)!r})\n"
            "else:\n"
            "    (folder / 'authorized_keys').write_text('')\n"
        )
        yield f"{sys.executable} {script}"


def test_a_machine_is_made_by_a_command_for_a_sweep_and_taken_away(
    store: str, make_project: Callable[..., Path], command: str
) -> None:
    """From nothing to a model and back, by Azure's names; a sweep keeps its machine."""
    how = azure.DsvmCompute.provisioning_configuration(
        provider="exec", create=f"{command} create", destroy=f"{command} destroy"
    )
    ws = azure.Workspace.from_config()
    target = azure.ComputeTarget.create(ws, "made", how)
    target.wait_for_completion(show_output=True)
    assert azure.ComputeTarget.create(ws, "made", how).address == "127.0.0.1"
    with pytest.raises(ConfigurationError, match=r"delete\(\)"):
        target.detach()
    run = mlflow_automl_remote.submit(
        {**SETTINGS, "iterations": 3},
        {"target": "made", "env_manager": "local", "python": sys.executable},
        project=make_project(WINE),
    )
    with pytest.raises(ConfigurationError, match=run.run_id):
        target.delete()
    assert run.wait(show=False) == "COMPLETED"
    assert 3 == len(run.children())
    run.close()
    target.delete()
    assert "made" not in ws.compute_targets


def test_azures_names_without_a_meaning_say_what_to_use() -> None:
    """Nobody believes a name to have an effect that it has not."""
    with pytest.raises(ConfigurationError, match="attach a machine that you have"):
        _ = azure.AmlCompute
    with pytest.raises(ConfigurationError, match=r"at port 22\. Got 5022"):
        azure.DsvmCompute.provisioning_configuration(ssh_port=5022)
    with pytest.raises(ConfigurationError, match="Give the address instead"):
        azure.RemoteCompute.attach_configuration("ada", resource_id="/subscriptions/1")
    with pytest.raises(ConfigurationError, match="get_data"):
        azure.AutoMLConfig(task="classification", X_valid=[[1]])
    with pytest.raises(ConfigurationError, match="attached machine"):
        azure.AutoMLConfig(task="classification", compute_target=1)
    with pytest.raises(ConfigurationError, match="without a path"):
        azure.Workspace.from_config("config.json")


def test_every_public_name_is_there_and_importing_the_package_is_light() -> None:
    """`__all__` is exact, and nothing heavy is imported before a name is asked for."""
    for name in mlflow_automl_remote.__all__:
        assert getattr(mlflow_automl_remote, name) is not None
    for name in azure.__all__:
        assert getattr(azure, name) is not None
    script = "import sys, mlflow_automl_remote; print(len(sys.modules), 'mlflow' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    n_modules, has_mlflow = shown.stdout.split()
    assert int(n_modules) < 150
    assert "False" == has_mlflow


def test_a_sweep_is_paused_resumed_continued_and_retried(
    store: str, make_project: Callable[..., Path]
) -> None:
    """What Azure never had: a pause, more iterations after the end, a failed one once more."""
    run = mlflow_automl_remote.submit(
        {**SETTINGS, "iterations": 12, "enable_voting_ensemble": True},
        project=make_project(WINE),
        show=False,
    )
    wait_until(lambda: len(run.state.finished) >= 2)
    assert run.pause().startswith("The sweep is paused")
    wait_until(lambda: run.status == "PAUSED")
    wait_until(lambda: all(one.state.is_finished for one in run.state.iterations.values()))
    n_paused = len(run.state.iterations)
    assert 12 > n_paused
    with pytest.raises(ConfigurationError, match="still runs"):
        run.extend(3)
    assert run.cancel(9) == "Iteration 9 had not begun; it will not run."
    assert n_paused == len(run.state.iterations)
    run.resume()
    assert run.wait(show=False) == "COMPLETED"
    assert "CANCELLED" == run.table().loc[9, "state"]
    with pytest.raises(ConfigurationError, match="Iteration 0 of the sweep"):
        run.retry(0)
    run.extend(3)
    assert run.wait(show=False) == "COMPLETED"
    assert list(range(15)) == list(run.table().index)
    assert ["VotingEnsemble"] * 2 == [run.table().loc[n, "pipeline"] for n in (11, 14)]
    run.retry(9)
    assert run.wait(show=False) == "COMPLETED"
    table = mlflow_automl_remote.attach(run.run_id).table()
    assert {"COMPLETED"} == set(table["state"])
    children = run.children()
    assert 15 == len(children)
    assert {"FINISHED"} == {child.info.status for child in children}
    assert "FINISHED" == mlflow.get_run(run.run_id).info.status
    run.close()
