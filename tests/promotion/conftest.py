"""Sweeps in a real MLflow server, and what a target would say of their models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from synthetic_sweep import START_MS, SyntheticSweep

from mlflow_automl_remote.config.promotion import Promotion
from mlflow_automl_remote.promotion.deciding import Decision, Order, promote
from mlflow_automl_remote.promotion.evidence import Evidence, Gain, Measured
from mlflow_automl_remote.promotion.published import PublishedSweep, read_sweep
from mlflow_automl_remote.promotion.registry import Registry, Version


@dataclass
class Told:
    """Stands for a target: says what was measured, and remembers for whom."""

    gain: float = 0.05
    error: float = 0.01
    trouble: str = ""
    asked: list[int | None] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __call__(self, incumbent: Version | None) -> Evidence:
        self.asked.append(None if incumbent is None else incumbent.number)
        self.meanwhile()
        gain = Gain(value=self.gain, standard_error=self.error, n_resamples=1000, seed=0)
        return Evidence(
            rows="test",
            n_rows=300,
            n_folds=1,
            challenger=Measured(metrics={"AUC_weighted": 0.9, "accuracy": 0.80}, latency_ms=2.0),
            incumbent=None
            if incumbent is None
            else Measured(
                metrics={"AUC_weighted": 0.9 - self.gain, "accuracy": 0.82}, error=self.trouble
            ),
            gain=None if incumbent is None or self.trouble else gain,
        )


@dataclass
class Pool:
    """Sweeps that were published once, for all tests that do not change them.

    Attributes:
        model: The model of all their iterations.
    """

    client: MlflowClient
    experiment_id: str
    folder: Path
    model: Path
    n_made: int = 0
    shared: list[PublishedSweep] = field(default_factory=list)

    def get(self, number: int) -> PublishedSweep:
        while len(self.shared) <= number:
            self.shared.append(self.make())
        return self.shared[number]

    def make(self, model: Path | None = None, n_iterations: int = 2) -> PublishedSweep:
        self.n_made += 1
        made = SyntheticSweep(
            root=self.folder / f"target-{self.n_made}",
            model=model or self.model,
            sweep_id=f"sweep-{self.n_made}",
        ).filled(n_iterations)
        run_id = self.client.create_run(self.experiment_id, start_time=START_MS).info.run_id
        with made.publisher(self.client, run_id) as publisher:
            publisher.publish(made.state)
        return read_sweep(self.client, run_id)


@dataclass
class House:
    """A registered model of one test, and the sweeps that it takes models of.

    Attributes:
        name: Of the registered model.
    """

    client: MlflowClient
    name: str
    pool: Pool
    n_sweeps: int = 0

    def sweep(self) -> PublishedSweep:
        """Give another published sweep each time; not to be changed."""
        self.n_sweeps += 1
        return self.pool.get(self.n_sweeps - 1)

    def own_sweep(self, model: Path | None = None, n_iterations: int = 2) -> PublishedSweep:
        """Publish a sweep for one test."""
        return self.pool.make(model, n_iterations)

    def promote(
        self,
        sweep: PublishedSweep,
        told: Told | None = None,
        *,
        force: str = "",
        is_dry: bool = False,
        iteration: int | None = None,
        **asked: object,
    ) -> Decision:
        """Promote the best model of a sweep."""
        promotion = Promotion.parse({"name": self.name, **asked})
        order = Order(promotion=promotion, by="ada", force=force, is_dry=is_dry)
        chosen = sweep.choose(iteration=iteration)
        return promote(self.client, sweep, chosen, order, told or Told())

    @property
    def registry(self) -> Registry:
        return Registry(self.client, self.name)

    @property
    def champion(self) -> int | None:
        found = self.registry.at("champion")
        return None if found is None else found.number


@pytest.fixture(scope="session")
def pool(server: str, tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Pool:
    client = MlflowClient(tracking_uri=server)
    experiment_id = client.create_experiment(f"promotion-{time.monotonic_ns()}")
    return Pool(client, experiment_id, tmp_path_factory.mktemp("targets"), model_folder)


@pytest.fixture
def house(server: str, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    return House(pool.client, f"churn-{time.monotonic_ns()}", pool)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a small model with the columns and types that a test wants."""

    def make(**columns: str) -> Path:
        rng = np.random.default_rng(0)
        X = pd.DataFrame(
            {name: rng.integers(0, 9, 40).astype(kind) for name, kind in columns.items()}
        )
        model = LogisticRegression().fit(X, np.arange(40) % 2)
        folder = tmp_path_factory.mktemp("model") / "model"
        mlflow.sklearn.save_model(
            model,
            folder,
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
            signature=infer_signature(X, model.predict(X)),
        )
        return folder

    return make
