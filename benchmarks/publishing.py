"""What publishing an iteration costs, beside the same rows by bare calls and MLflow's own way.

    python benchmarks/publishing.py [--n 20] [--workers 0 1 4] [--many 1000]

For each store (0 workers: sqlite without a server) three ways to record the same iterations, with
fold scores, params, a model and charts each: the publisher; the floor, the same rows and files by
the fewest calls of a bare MlflowClient; and nested runs with `mlflow.sklearn.log_model` as a
tutorial has them. With --many so many light iterations are published one after the other into
sqlite, and the memory of the process is looked at on the way.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import mlflow
import mlflow.sklearn
import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlflow_server import running_server
from synthetic_sweep import METRICS, SyntheticSweep, saved_model

from mlflow_automl_remote.publishing.mapping import child_params, child_points

N_FOLDS = 5


class Calls:
    """Counts the requests that are made over HTTP."""

    def __init__(self) -> None:
        self.n = 0
        self._send = requests.Session.send

    def __enter__(self) -> Calls:
        def send(session: requests.Session, *args: object, **kwargs: object) -> object:
            self.n += 1
            return self._send(session, *args, **kwargs)

        requests.Session.send = send
        return self

    def __exit__(self, *_: object) -> None:
        requests.Session.send = self._send


def iterations(folder: Path, n: int) -> SyntheticSweep:
    """Give a sweep of completed iterations with a model and files as large as charts."""
    sweep = SyntheticSweep(root=folder / "target", model=saved_model(folder / "model")).start()
    for number in range(n):
        sweep.begin(number)
        inside = f"iterations/{number:03d}"
        log = sweep.write(f"{inside}/iteration.log", b"fitted\n")
        files = sweep._success(number, log)["files"]
        sizes = {"charts.html": 95_000, "charts.json": 80_000, "charts.png": 35_000}
        charts = [
            sweep.write(f"{inside}/charts/{name}", b"x" * size) for name, size in sizes.items()
        ]
        sweep.end(number, files=(*files, *charts))
    return sweep


def publisher(client: MlflowClient, experiment_id: str, sweep: SyntheticSweep) -> None:
    parent = client.create_run(experiment_id).info.run_id
    sweep.publisher(client, parent).publish(sweep.state)


def floor(client: MlflowClient, experiment_id: str, sweep: SyntheticSweep) -> None:
    """Write the same rows and files by as few calls as there can be."""
    parent = client.create_run(experiment_id).info.run_id
    for one in sweep.state.iterations.values():
        tags = {"mlflow.parentRunId": parent, "mlflow.runName": one.pipeline}
        run_id = client.create_run(experiment_id, tags=tags).info.run_id
        model = client.create_logged_model(experiment_id, "model", source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        source = sweep.root / f"iterations/{one.number:03d}"
        client.log_model_artifacts(model.model_id, str(source / "model"))
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(
                source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model")
            )
            client.log_artifacts(run_id, folder)
        client.log_batch(
            run_id,
            metrics=[
                Metric(
                    point.key,
                    point.value,
                    point.timestamp_ms,
                    point.step,
                    model_id=model.model_id if point.of_model else None,
                )
                for point in child_points(one)
            ],
            params=[Param(name, value) for name, value in child_params(one).items()],
            tags=[RunTag("model", one.model), RunTag("scaler", one.scaler)],
        )
        client.finalize_logged_model(model.model_id, "READY")
        client.set_terminated(run_id)


def mlflows_own(client: MlflowClient, experiment_id: str, sweep: SyntheticSweep) -> None:
    """Log as the tutorials do: nested runs, and a model whose requirements MLflow infers."""
    X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
    fitted = LogisticRegression().fit(X, y)
    mlflow.set_tracking_uri(client.tracking_uri)
    with mlflow.start_run(experiment_id=experiment_id):
        for one in sweep.state.iterations.values():
            with mlflow.start_run(nested=True, run_name=one.pipeline):
                mlflow.log_params(child_params(one))
                for name in METRICS:
                    for fold in range(N_FOLDS):
                        mlflow.log_metric(f"{name}_fold", one.metrics[name], step=fold)
                    mlflow.log_metric(name, one.metrics[name])
                for path in (sweep.root / f"iterations/{one.number:03d}/charts").iterdir():
                    mlflow.log_artifact(str(path))
                mlflow.sklearn.log_model(
                    fitted, name="model", signature=infer_signature(X, fitted.predict(X))
                )


def measured(
    way: Callable[[MlflowClient, str, SyntheticSweep], None],
    uri: str,
    sweep: SyntheticSweep,
) -> tuple[float, float]:
    """Give seconds and HTTP calls per iteration."""
    client = MlflowClient(tracking_uri=uri)
    experiment_id = client.create_experiment(f"{way.__name__} {time.monotonic_ns()}")
    with Calls() as calls:
        begun = time.perf_counter()
        way(client, experiment_id, sweep)
        taken = time.perf_counter() - begun
    n = len(sweep.state.iterations)
    return taken / n, calls.n / n


def compare(folder: Path, n: int, n_workers: int) -> None:
    with ExitStack() as stack:
        uri = f"sqlite:///{folder}/mlflow.db"
        if n_workers:
            uri = stack.enter_context(running_server(folder / f"server{n_workers}", n_workers))
        MlflowClient(tracking_uri=uri).search_experiments()
        sweep, few = iterations(folder / "n", n), iterations(folder / "few", 2)
        measured(floor, uri, few)  # imports, and the first connections
        floors = measured(floor, uri, sweep)
        ours = measured(publisher, uri, sweep)
        theirs = measured(mlflows_own, uri, few)
    where = f"server, {n_workers} workers" if n_workers else "sqlite"
    for name, (seconds, calls) in (("floor", floors), ("ours", ours), ("MLflow's", theirs)):
        print(f"{where:18} {name:9} {seconds * 1000:8.0f} ms  {calls:5.1f} calls an iteration")
    print(
        f"{where:18} ours is {ours[0] / floors[0]:.2f} times the floor, "
        f"and {theirs[0] / ours[0]:.0f} times cheaper than MLflow's own way",
        flush=True,
    )


def many(folder: Path, n: int) -> None:
    """Publish iterations as they come, and print the largest memory every tenth of them."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/many.db")
    experiment_id = client.create_experiment("many", artifact_location=str(folder / "many"))
    sweep = SyntheticSweep(root=folder / "target", model=folder / "none").start()
    parent = client.create_run(experiment_id).info.run_id
    publish = sweep.publisher(client, parent).publish
    begun, state = time.perf_counter(), sweep.state
    for number in range(n):
        sweep.begin(number)
        sweep.end(number, files=())
        state = sweep.advanced(state)
        publish(state)
        if (number + 1) % max(1, n // 10) == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            each = (time.perf_counter() - begun) / (number + 1)
            print(
                f"{number + 1:6} iterations, {each * 1000:.0f} ms each, {peak:.0f} MiB", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 4])
    parser.add_argument("--many", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for n_workers in asked.workers:
            folder = Path(name, str(n_workers))
            folder.mkdir()
            compare(folder, asked.n, n_workers)
        if asked.many:
            many(Path(name), asked.many)


if __name__ == "__main__":
    main()
