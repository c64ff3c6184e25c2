"""What publishing an iteration costs, beside the same rows by bare calls and MLflow's own way.

    python benchmarks/publishing.py [--n 20] [--workers 0 1 4] [--many 10000] [--lag 30]

For each store (0 workers: sqlite without a server) three ways to record the same iterations, with
fold scores, params, a model and charts each: the publisher; the floor, the same rows and files by
the fewest calls of a bare MlflowClient; and nested runs with `mlflow.sklearn.log_model` as a
tutorial has them. The same for light iterations, without model and files. With --many so many
light ones are published into sqlite, and the memory of the process is looked at on the way. With
--lag 20 of them end a second, for so many seconds, and it is looked at how late they are complete.
"""

from __future__ import annotations

import argparse
import os
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
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mlflow_server import running_server
from synthetic_sweep import METRICS, SyntheticSweep, saved_model

from mlflow_automl_remote.following import PUBLISH_INTERVAL_S
from mlflow_automl_remote.journal.codec import decode, encode
from mlflow_automl_remote.journal.replay import Iteration, SweepState, replay
from mlflow_automl_remote.publishing.mapping import child_params, child_points, child_tags

Cost = tuple[float, float]
"""Seconds and HTTP calls of an iteration."""
N_FOLDS = 5
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


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


def iterations(folder: Path, n: int, *, is_light: bool = False) -> SyntheticSweep:
    """Give a sweep of completed iterations, with a model and files as large as charts or without.

    The sweep has not ended, so that its own run costs little beside theirs.
    """
    sweep = SyntheticSweep(root=folder / "target", model=saved_model(folder / "model")).start()
    for number in range(n):
        sweep.begin(number)
        if is_light:
            sweep.end(number, files=(), model_path=None)
            continue
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
    state = sweep.state
    data = Dataset("training data", state.data.digest[:36], "code", "{}")
    dataset = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
    for one in state.iterations.values():
        tags = {"mlflow.parentRunId": parent, "mlflow.runName": one.pipeline}
        run_id = client.create_run(experiment_id, tags=tags).info.run_id
        client.log_inputs(run_id, [dataset])
        model_id = floor_of_files(client, experiment_id, run_id, sweep, one)
        client.log_batch(
            run_id,
            metrics=[
                Metric(
                    point.key,
                    point.value,
                    point.timestamp_ms,
                    point.step,
                    model_id=model_id if point.of_model else None,
                    dataset_name=data.name if point.of_model else None,
                    dataset_digest=data.digest if point.of_model else None,
                )
                for point in child_points(one)
            ],
            params=[Param(name, value) for name, value in child_params(one).items()],
            tags=[RunTag(name, value) for name, value in child_tags(one, sweep.facts).items()],
        )
        client.set_terminated(run_id)


def floor_of_files(
    client: MlflowClient, experiment_id: str, run_id: str, sweep: SyntheticSweep, one: Iteration
) -> str | None:
    """Write model and files of an iteration, if it has any."""
    if one.model_path is None:
        return None
    model = client.create_logged_model(experiment_id, "model", source_run_id=run_id)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    source = sweep.root / f"iterations/{one.number:03d}"
    client.log_model_artifacts(model.model_id, str(source / "model"))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model"))
        client.log_artifacts(run_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


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
) -> Cost:
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
        few = iterations(folder / "few", 2)
        measured(floor, uri, few)  # imports, and the first connections
        theirs = measured(mlflows_own, uri, few)
        where = f"server, {n_workers} workers" if n_workers else "sqlite"
        for kind in ("full", "light"):
            sweep = iterations(folder / kind, n, is_light=kind == "light")
            floors, ours = best_of(uri, sweep)
            show(f"{where}, {kind}", floors, ours, theirs)


def best_of(uri: str, sweep: SyntheticSweep, n_times: int = 3) -> tuple[Cost, Cost]:
    """Measure floor and publisher in turn, and give the best of each: what else ran only adds."""
    pairs = [
        (measured(floor, uri, sweep), measured(publisher, uri, sweep)) for _ in range(n_times)
    ]
    return min(one for one, _ in pairs), min(one for _, one in pairs)


def show(where: str, floors: Cost, ours: Cost, theirs: Cost) -> None:
    for name, (seconds, calls) in (("floor", floors), ("ours", ours), ("MLflow's", theirs)):
        print(f"{where:24} {name:9} {seconds * 1000:8.0f} ms  {calls:5.1f} calls an iteration")
    print(
        f"{where:24} ours is {ours[0] / floors[0]:.2f} times the floor, "
        f"and {theirs[0] / ours[0]:.0f} times cheaper than MLflow's own way",
        flush=True,
    )


class Journal:
    """A journal that iterations without files end in, read as a follower reads it: from bytes."""

    def __init__(self, folder: Path) -> None:
        self.sweep = SyntheticSweep(root=folder / "target", model=folder / "none").start()
        self.state = SweepState()

    def end(self, number: int, now_ms: int | None = None) -> None:
        """Let an iteration begin and end, at a time if it matters."""
        self.sweep.begin(number)
        times = {} if now_ms is None else {"started_ms": now_ms - 50, "ended_ms": now_ms}
        self.sweep.end(number, files=(), **times)

    def advance(self) -> SweepState:
        """Fold what is new; events are not kept, as a follower does not keep them."""
        records = self.sweep.records[self.state.n_events :]
        self.state = replay([decode(encode(one)[:-1]) for one in records], self.state)
        self.sweep.records[-len(records) :] = [None] * len(records)
        return self.state


def new_publisher(folder: Path, journal: Journal) -> Callable[[SweepState], None]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/light.db")
    experiment_id = client.create_experiment(
        f"light {time.monotonic_ns()}", artifact_location=str(folder / "light")
    )
    parent = client.create_run(experiment_id).info.run_id
    return journal.sweep.publisher(client, parent).publish


def many(folder: Path, n: int) -> None:
    """Publish light iterations, 20 at a time, and print the memory every tenth of them."""
    journal = Journal(folder / "many")
    publish = new_publisher(folder, journal)
    begun = time.perf_counter()
    for number in range(n):
        journal.end(number)
        if (number + 1) % 20 == 0:
            publish(journal.advance())
        if (number + 1) % max(20, n // 10) == 0:
            used = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 2**20
            each = (time.perf_counter() - begun) / (number + 1)
            print(
                f"{number + 1:6} iterations, {each * 1000:.0f} ms each, {used:.0f} MiB", flush=True
            )


def lag(folder: Path, per_second: int, seconds: int) -> None:
    """Let light iterations end at a rate while a follower publishes; print how late they are."""
    journal = Journal(folder / "lag")
    publish = new_publisher(folder, journal)
    publish(journal.advance())  # as a follower does while data is loaded, long before an iteration
    lags: list[float] = []
    n, total = 0, per_second * seconds
    begun = time.time()
    while len(lags) < total:
        look = time.time()
        while n < total and begun + n / per_second <= look:
            journal.end(n, now_ms=int(1000 * (begun + n / per_second)))
            n += 1
        publish(journal.advance())
        done = time.time()
        lags += [done - (begun + number / per_second) for number in range(len(lags), n)]
        time.sleep(max(0.0, look + PUBLISH_INTERVAL_S - done))
    lags.sort()
    print(
        f"{per_second} iterations a second for {seconds} s: complete after "
        f"{lags[len(lags) // 2]:.2f} s (median), {lags[-1]:.2f} s at most",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 4])
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--lag", type=int, default=0, help="seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for n_workers in asked.workers:
            folder = Path(name, str(n_workers))
            folder.mkdir()
            compare(folder, asked.n, n_workers)
        if asked.lag:
            lag(Path(name), 20, asked.lag)
        if asked.many:
            many(Path(name), asked.many)


if __name__ == "__main__":
    main()
