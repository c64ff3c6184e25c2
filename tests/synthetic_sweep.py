"""Sweeps that never ran: a journal in the making, with real model folders and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from mlflow_automl_remote.errors import ArtifactRefused
from mlflow_automl_remote.journal.codec import Record, encode
from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    ClassCount,
    DataLoaded,
    Event,
    ExplanationFinished,
    IterationFinished,
    IterationStarted,
    SweepFinished,
    SweepStarted,
)
from mlflow_automl_remote.journal.replay import SweepState, replay
from mlflow_automl_remote.publishing import ParentFacts, Publisher
from mlflow_automl_remote.states import IterationState, SweepStatus

START_MS = 1_790_000_000_000
METRICS = ("AUC_weighted", "accuracy", "log_loss", "f1_score_macro", "recall_score_macro")
MODELS = ("LightGBM", "LogisticRegression", "RandomForest", "SVM", "XGBoost")
SCALERS = ("MaxAbsScaler", "StandardScaler", "RobustScaler")


@dataclass
class SyntheticSweep:
    """A journal in the making, with the files that it names.

    Attributes:
        root: The sweep's folder of artifacts on the target.
        model: A folder of a model as the target writes it.
    """

    root: Path
    model: Path
    sweep_id: str = "sweep-1"
    records: list[Record] = field(default_factory=list)
    now_ms: int = START_MS
    n_fetched: int = 0
    meta_features: Mapping[str, float] = field(default_factory=dict)

    @property
    def state(self) -> SweepState:
        return replay(self.records)

    def advanced(self, state: SweepState) -> SweepState:
        """Fold what has come since a state into it."""
        return replay(self.records[state.n_events :], state)

    @property
    def facts(self) -> ParentFacts:
        return ParentFacts(
            sweep_id=self.sweep_id,
            target="ada@vm.example.org",
            target_config='{"host":"vm.example.org"}',
            workspace="/home/ada/.automl-remote/sweep-1",
        )

    def journal(self) -> bytes:
        return b"".join(encode(record) for record in self.records)

    def fetch(self, files: Sequence[ArtifactFile], folder: Path) -> Path:
        """Copy files as a transport does, checksums compared."""
        for file in files:
            content = (self.root / file.path).read_bytes()
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise ArtifactRefused(f"{file.path} has not the recorded contents.")
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            self.n_fetched += 1
        return folder

    def publisher(self, client: MlflowClient, parent_run_id: str) -> Publisher:
        return Publisher(
            client, parent_run_id, fetch=self.fetch, facts=self.facts, journal=self.journal
        )

    def add(self, event: Event, after_ms: int = 10) -> None:
        self.now_ms += after_ms
        self.records.append(Record(seq=len(self.records), time_ms=self.now_ms, event=event))

    def write(self, path: str, content: bytes) -> ArtifactFile:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return ArtifactFile(
            path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
        )

    def start(self, **more: object) -> SyntheticSweep:
        settings = {"task": "classification", "iterations": 20, "allowed_models": ["LightGBM"]}
        self.add(
            SweepStarted(
                sweep_id=self.sweep_id,
                settings=settings | {"iteration_timeout_minutes": None} | more,
                primary_metric="AUC_weighted",
                greater_is_better=True,
                package_version="0.1.0",
                python_version="3.11.7",
                host_name="vm",
                n_cores=8,
                memory_bytes=2**34,
            )
        )
        self.add(
            DataLoaded(
                n_rows=1787,
                n_columns=64,
                n_classes=2,
                digest="a" * 64,
                duration_s=0.1,
                class_counts=(
                    ClassCount(label="<no>", n_rows=1700),
                    ClassCount(label="1", n_rows=87),
                ),
                meta_features=self.meta_features,
            )
        )
        return self

    def begin(self, number: int, **changes: object) -> None:
        given: dict[str, object] = {
            "iteration": number,
            "scaler": SCALERS[number % 3],
            "model": MODELS[number % 5],
            "params": {"model__C": 0.5 + number, "scaler__copy": True},
            "proposed_by": "portfolio" if number < 5 else "optuna",
        }
        self.add(IterationStarted(**(given | changes)))

    def end(
        self,
        number: int,
        state: IterationState = IterationState.COMPLETED,
        **changes: object,
    ) -> None:
        self.now_ms += 1500
        log = self.write(f"iterations/{number:03d}/iteration.log", b"fitted\n")
        given: dict[str, object] = {
            "iteration": number,
            "state": state,
            "started_ms": self.now_ms - 1400,
            "ended_ms": self.now_ms,
            "files": (log,),
        }
        if state is IterationState.COMPLETED:
            given |= self._success(number, log)
        else:
            given["reason"] = f"ValueError: it is {state.value}"
        self.add(IterationFinished(**(given | changes)))

    def _success(self, number: int, log: ArtifactFile) -> dict[str, object]:
        inside = f"iterations/{number:03d}"
        files = [log, self.write(f"{inside}/oof.npy", b"\x93NUMPY")]
        for path in sorted(self.model.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.model).as_posix()
                files.append(self.write(f"{inside}/model/{name}", path.read_bytes()))
        score = round(0.9 + 0.09 * ((number * 7) % 10) / 10, 6)
        return {
            "metrics": {name: score - 0.01 * n for n, name in enumerate(METRICS)} | {"none": None},
            "fold_metrics": {name: tuple(score - 0.001 * f for f in range(5)) for name in METRICS},
            "hyperparameters": {
                "model__C": 0.5 + number,
                "scaler__copy": True,
                **{f"model__p{n}": n for n in range(12)},
            },
            "fit_s": 1.1,
            "n_fits": 6,
            "predict_s": 0.2,
            "predict_ms_per_row": 0.001 * 3.0 ** (number % 7),
            "standard_error": 0.01,
            "files": tuple(files),
            "model_path": f"{inside}/model",
        }

    def finish(
        self, status: SweepStatus = SweepStatus.COMPLETED, *, explained: bool = True
    ) -> SyntheticSweep:
        best = self.state.best_iteration
        if explained and best is not None:
            files = (
                self.write("explanation/summary.json", b"{}"),
                self.write("explanation/explanation.html", b"<p>x</p>"),
            )
            explanation = ExplanationFinished(
                iteration=best, duration_s=1.0, explainer="TreeExplainer", files=files
            )
            self.add(explanation)
        log = self.write("agent.log", b"the agent's log\n")
        self.add(SweepFinished(status=status, best_iteration=best, files=(log,)))
        return self

    def filled(self, n_iterations: int) -> SyntheticSweep:
        """Add a whole sweep of completed iterations."""
        self.start()
        for number in range(n_iterations):
            self.begin(number)
            self.end(number)
        return self.finish()


def saved_model(folder: Path) -> Path:
    """Save a model as an agent does: explicit requirements, signature and input example."""
    X = pd.DataFrame(np.random.default_rng(0).random((60, 3)), columns=["a", "b", "c"])
    y = (X["a"] > 0.5).astype(int).to_numpy()
    model = LogisticRegression().fit(X, y)
    mlflow.sklearn.save_model(
        model,
        folder,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        signature=infer_signature(X, model.predict(X)),
        input_example=X.head(2),
    )
    return folder
