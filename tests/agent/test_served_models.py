"""Models of every family, away from this package: in an environment of their own, over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.exceptions import ConvergenceWarning

from mlflow_automl_remote.agent.models import save_model
from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.config import Task

N_ROWS = 60
START_LIMIT_S = 240
CLASSES = ["ape", "bee", "cat"]
FAMILIES: dict[str, Task] = {
    **dict.fromkeys(MODELS["regression"], "regression"),
    **dict.fromkeys(MODELS["classification"], "classification"),
}
"""Each family once; those that do both, as classifiers."""
SERVE_ALL = """
import sys, threading, uvicorn, mlflow.pyfunc
from mlflow.pyfunc import scoring_server
try:
    import mlflow_automl_remote
except ModuleNotFoundError:
    for each in sys.argv[1:]:
        path, _, port = each.rpartition("=")
        app = scoring_server.init(mlflow.pyfunc.load_model(path))
        given = {"host": "127.0.0.1", "port": int(port)}
        last = threading.Thread(target=uvicorn.run, args=(app,), kwargs=given)
        last.start()
    last.join()  # the interpreter makes no threads once its main one is done
"""
"""What `mlflow models serve` runs, for several models in one process."""
ROWS = pd.DataFrame({"age": [30.0, None], "town": ["Rome", "Bern"], "size": [1.5, 2.5]})


def _dataset(task: Task) -> data.Dataset:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "age": np.where(np.arange(N_ROWS) % 9 == 0, np.nan, rng.integers(20, 60, N_ROWS)),
            "town": rng.choice(["Rome", "Oslo", "Bonn"], N_ROWS),
            "size": rng.random(N_ROWS),
        }
    )
    y: Any = rng.random(N_ROWS) + X["size"]
    if task == "classification":
        y = np.array(CLASSES)[np.arange(N_ROWS) % 3]
    return data.check({"X": X, "y": y}, task, n_folds=3)


def _save(name: str, task: Task, folder: Path) -> None:
    component, dataset = MODELS[task][name], _dataset(task)
    scaler = SCALERS[component.scalers[0]]
    spec = PipelineSpec(
        scaler=scaler.name, model=name, params=join_params(scaler.defaults, component.defaults)
    )
    context = pipelines.context_for(dataset, n_folds=3, seed=7, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty rows are few
        pipeline = pipelines.build(spec, task, context, dataset=dataset)
        save_model(evaluation.refit(pipeline, dataset), dataset, folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each family."""
    folder = tmp_path_factory.mktemp("families")
    for name, task in FAMILIES.items():
        _save(name, task, folder / name)
    return folder


@pytest.fixture(scope="module")
def bare_python(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with what the models say that they need, and nothing else."""
    wanted = {
        line.strip()
        for name in FAMILIES
        for line in (saved / name / "requirements.txt").read_text().splitlines()
    }
    folder = tmp_path_factory.mktemp("bare") / "env"
    for argv in (
        ["venv", "--python", sys.executable, str(folder)],
        ["pip", "install", "--python", str(folder / "bin" / "python"), *sorted(wanted)],
    ):
        uv = [sys.executable, "-m", "uv", *argv]
        done = subprocess.run(uv, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


@contextmanager
def _running(argv: list[str], ports: list[int], folder: Path) -> Iterator[None]:
    """Run a command that serves models on ports, where this package cannot be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    environment["PATH"] = f"{Path(argv[0]).parent}:{environment['PATH']}"
    log = folder / f"{ports[0]}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdout=out, stderr=out, cwd=folder, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not all(_is_up(port) for port in ports):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
            return True
    except OSError:
        time.sleep(0.2)
        return False


def _ask(port: int, **more: object) -> Any:
    body = json.dumps({"dataframe_split": json.loads(ROWS.to_json(orient="split")), **more})
    headers = {"Content-Type": "application/json"}
    address = f"http://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(address, body.encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["predictions"]


def _check(name: str, port: int) -> None:
    """Ask the model of a family for what it predicts, and for probabilities of named classes."""
    predicted = _ask(port)
    assert len(predicted) == 2, name
    if FAMILIES[name] == "regression":
        assert all(np.isfinite(value) for value in predicted), name
        return
    assert set(predicted) <= set(CLASSES), name
    table = _ask(port, params={"predict_method": "predict_proba"})
    assert [CLASSES, CLASSES] == [list(row) for row in table], name
    assert [pytest.approx(1.0, abs=1e-6)] * 2 == [sum(row.values()) for row in table], name
    assert predicted == [max(row, key=row.__getitem__) for row in table], name


def test_every_family_serves_from_its_own_requirements(
    saved: Path, bare_python: Path, tmp_path: Path
) -> None:
    """MLflow's scoring server, one process for all, gives labels, numbers and probabilities."""
    ports = dict(zip(FAMILIES, _free_ports(len(FAMILIES)), strict=True))
    script = tmp_path / "serve.py"
    script.write_text(SERVE_ALL)
    models = [f"{saved / name}={port}" for name, port in ports.items()]
    argv = [str(bare_python), str(script), *models]
    with _running(argv, list(ports.values()), tmp_path):
        for name, port in ports.items():
            _check(name, port)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CatBoost", "LightGBM", "LogisticRegression", "XGBoost"])
def test_the_command_serves_a_model_of_each_library(
    name: str, saved: Path, bare_python: Path, tmp_path: Path
) -> None:
    """`mlflow models serve`, as a person calls it."""
    (port,) = _free_ports(1)
    argv = [str(bare_python), "-m", "mlflow", "models", "serve", "--workers", "1"]
    argv += ["--model-uri", str(saved / name), "--env-manager", "local", "--port", str(port)]
    with _running(argv, [port], tmp_path):
        _check(name, port)


def test_a_classifier_gives_labels_or_probabilities(tmp_path: Path) -> None:
    """By a parameter that the signature names; a method that there is not is refused."""
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    _save("LogisticRegression", "classification", tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert [one.name for one in model.metadata.signature.params] == ["predict_method"]
    table = model.predict(ROWS, params={"predict_method": "predict_proba"})
    assert CLASSES == list(table.columns)
    assert list(model.predict(ROWS)) == list(table.idxmax(axis=1))
    raw = mlflow.sklearn.load_model(str(tmp_path / "model"))
    assert raw.predict_proba(ROWS) == pytest.approx(table.to_numpy())
    with pytest.raises(MlflowException, match="Got 'fly' instead"):
        model.predict(ROWS, params={"predict_method": "fly"})
    described = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert described["flavors"]["python_function"]["code"] == "code"
