"""Real MLflow stores, and sweeps to publish into them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from synthetic_sweep import START_MS, SyntheticSweep


@pytest.fixture
def new_sweep(tmp_path: Path, model_folder: Path) -> Callable[..., SyntheticSweep]:
    """Makes empty sweeps."""

    def make(sweep_id: str = "sweep-1", **more: Any) -> SyntheticSweep:
        return SyntheticSweep(
            root=tmp_path / f"target-{sweep_id}", model=model_folder, sweep_id=sweep_id, **more
        )

    return make


@dataclass(frozen=True)
class Store:
    """An MLflow store with one experiment.

    Attributes:
        database: File of a sqlite store, or None.
        artifacts: Folder of the experiment's artifacts on a sqlite store.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    database: Path | None = None
    artifacts: Path | None = None

    def new_parent(self) -> str:
        tags = {"mlflow.user": "ada", "mlflow.source.name": "project", "mlflow.runName": "sweep"}
        run = self.client.create_run(self.experiment_id, start_time=START_MS, tags=tags)
        return str(run.info.run_id)


@pytest.fixture
def new_store(tmp_path: Path, empty_database: Path) -> Callable[..., Store]:
    """Makes sqlite stores of their own."""

    def make(name: str = "store") -> Store:
        folder = tmp_path / name
        folder.mkdir()
        database = folder / "mlflow.db"
        shutil.copyfile(empty_database, database)
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        artifacts = folder / "artifacts"
        experiment_id = client.create_experiment("sweeps", artifact_location=str(artifacts))
        return Store(client, client.tracking_uri, experiment_id, database, artifacts)

    return make


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest, new_store: Callable[..., Store]) -> Store:
    """Each kind of store in turn."""
    if request.param == "sqlite":
        return new_store()
    uri = request.getfixturevalue("server")
    client = MlflowClient(tracking_uri=uri)
    experiment_id = client.create_experiment(f"sweeps-{time.monotonic_ns()}")
    return Store(client, uri, experiment_id)
