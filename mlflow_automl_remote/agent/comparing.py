"""Compares two models on the rows of a sweep, on the target: `python -m ... COMPARISON_FOLDER`.

Each model is loaded by a process of its own, the incumbent's in its own environment where that is
another one. Nothing of it is recorded in the journal: asked again, it comes to the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlflow_automl_remote.agent import predict_alone
from mlflow_automl_remote.agent.lifecycle import write_aside
from mlflow_automl_remote.agent.recorder import folder_of
from mlflow_automl_remote.automl import comparison, predictions
from mlflow_automl_remote.automl.comparison import Rows, Scorer
from mlflow_automl_remote.automl.dataset import Dataset, Features, FloatArray
from mlflow_automl_remote.automl.evaluation import without_noise
from mlflow_automl_remote.automl.iteration import scoring_of
from mlflow_automl_remote.automl.sample import splits_of, with_range
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.automl.storage import open_dataset
from mlflow_automl_remote.automl.sweep import SAMPLE_NAME
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

PREDICT_LIMIT_S: Final = 1200.0
RESULT: Final = "evidence.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToScore:
    """A model, and how it is loaded.

    Attributes:
        iteration: Of this sweep, whose predictions are kept; None for a model of elsewhere.
        folder: With its MLmodel.
        python: Interpreter of its environment; None for this one.
        variables: That its process needs.
    """

    iteration: int | None
    folder: Path
    python: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


class CannotPredict(Exception):
    """A model cannot be loaded, or cannot predict these rows; the text says why."""


class Comparing:
    """One comparison in the workspace of a sweep.

    Args:
        folder: Of the comparison: `request.json`, and gets what is made on the way.
        workspace: Of the sweep.
    """

    def __init__(self, folder: Path, workspace: Path) -> None:
        self._folder = folder
        self._workspace = workspace
        self._request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        config = AutoMLConfig.from_json((workspace / "settings.json").read_bytes())
        data, sample = workspace / "data", workspace / "work" / SAMPLE_NAME
        if sample.exists():
            config = with_range(config, open_dataset(data))
            data = sample
        self._dataset: Dataset = open_dataset(data)
        self._splits: Splits = splits_of(data, self._dataset, config)
        self._rows: Rows = comparison.rows_of(self._dataset, self._splits)
        scoring = scoring_of(config, self._dataset)
        self._scorer = Scorer(dataset=self._dataset, scoring=scoring, rows=self._rows)

    def evidence(self) -> dict[str, object]:
        """Measure; give what `promotion.evidence.Evidence` reads."""
        rows = self._rows
        first, challenger = self._measure("challenger")
        second, incumbent = self._measure("incumbent") if self._has_incumbent else (None, None)
        told: dict[str, object] = {
            "rows": rows.kind,
            "n_rows": len(rows.used),
            "n_folds": len(rows.parts),
            "challenger": challenger,
            "incumbent": incumbent,
        }
        if first is not None and second is not None:
            told |= {"gain": self._gain(first, second), **self._groups(first, second)}
        return told

    @property
    def _has_incumbent(self) -> bool:
        return self._request.get("incumbent") is not None

    def _measure(self, role: str) -> tuple[Sequence[FloatArray] | None, dict[str, object]]:
        """Give the predictions of a model, one array per part, and what was measured of it."""
        model = self._model(role)
        try:
            predicted, latency_ms = self._predict(model, role)
        except CannotPredict as error:
            return None, {"error": f"the {role} {error}"}
        means = self._scorer.means(predicted)
        return predicted, {
            "metrics": {name: comparison.finite(value) for name, value in means.items()},
            "latency_ms": latency_ms,
        }

    def _model(self, role: str) -> ModelToScore:
        told = self._request[role]
        number = told.get("iteration")
        if number is None:
            return ModelToScore(
                iteration=None,
                folder=self._folder / role,
                python=told.get("python"),
                variables=told.get("variables") or {},
            )
        place = self._workspace / "artifacts" / folder_of(int(number))
        return ModelToScore(iteration=int(number), folder=place / "model")

    def _predict(
        self, model: ModelToScore, role: str
    ) -> tuple[Sequence[FloatArray], float | None]:
        """Take the predictions that are kept, where these rows have them; else make them."""
        if model.iteration is None or self._rows.kind == "test":
            predicted, latency_ms = self._predict_anew(model, role)
            return comparison.per_part(self._rows, predicted), latency_ms
        place = model.folder.parent
        try:
            kept = comparison.cut(self._rows, predictions.load(place, self._splits))
        except OSError as error:
            raise CannotPredict(f"left no predictions in {place}") from error
        return kept, self._predict_anew(model, role)[1] if self._request["latency"] else None

    def _predict_anew(self, model: ModelToScore, role: str) -> tuple[FloatArray, float]:
        """Let a process load a model and predict all rows, in the order of `Rows.used`."""
        rows, answer = self._folder / "rows", self._folder / f"{role}-answer"
        if not rows.exists():
            write_rows(comparison.features(self._rows), self._dataset, rows)
        program = self._folder / "predict_alone.py"
        program.write_bytes(Path(predict_alone.__file__).read_bytes())
        argv = [model.python or sys.executable, str(program)]
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        if model.python is None:
            environment = dict(os.environ)
        try:
            done = subprocess.run(
                [*argv, str(model.folder), str(rows), str(answer)],
                env=environment | dict(model.variables),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PREDICT_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotPredict(f"cannot be scored: {error}") from error
        if done.returncode != 0:
            last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            raise CannotPredict(f"cannot be loaded or scored: {last}")
        return self._read_answer(answer)

    def _read_answer(self, folder: Path) -> tuple[FloatArray, float]:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        predicted: FloatArray = np.load(folder / "predicted.npy", allow_pickle=False)
        if self._dataset.task == "classification":
            predicted = aligned(predicted, about["classes"], self._dataset)
        if len(predicted) != len(self._rows.used) or not np.isfinite(predicted).all():
            raise CannotPredict("does not predict a finite value for every row")
        return without_noise(predicted), float(about["latency_ms"])

    def _gain(
        self, first: Sequence[FloatArray], second: Sequence[FloatArray]
    ) -> dict[str, object] | None:
        metric, seed = self._request["metric"], int(self._request["seed"])
        found = comparison.gain(self._scorer, first, second, metric=metric, seed=seed)
        if found is None:
            return None
        return {
            "value": found.value,
            "standard_error": found.standard_error,
            "n_resamples": found.n_resamples,
            "seed": found.seed,
        }

    def _groups(
        self, first: Sequence[FloatArray], second: Sequence[FloatArray]
    ) -> dict[str, object]:
        column = self._request.get("group_by")
        if not column:
            return {}
        try:
            masks = comparison.groups(self._rows, column)
        except DataError as error:
            return {"group_error": str(error)}
        used = self._rows.used
        metric = self._request["metric"]
        return {
            "groups": [
                {
                    "value": value,
                    "n_rows": int(mask[used].sum()),
                    "challenger": self._scorer.of_some(mask, first, metric),
                    "incumbent": self._scorer.of_some(mask, second, metric),
                }
                for value, mask in masks.items()
            ]
        }


def aligned(predicted: FloatArray, classes: Sequence[object], dataset: Dataset) -> FloatArray:
    """Put probabilities into the order of the data's classes; one that a model lacks has none.

    Raises:
        CannotPredict: The model knows none of the classes.
    """
    places = {as_text(label): at for at, label in enumerate(classes)}
    found = np.zeros((len(predicted), len(dataset.classes)))
    known = [places.get(as_text(label)) for label in dataset.classes]
    if not any(place is not None for place in known):
        raise CannotPredict(f"knows none of the classes of the data, but {list(classes)[:5]}")
    for at, place in enumerate(known):
        if place is not None:
            found[:, at] = predicted[:, place]
    return found


def as_text(label: Any) -> str:
    """Write a label so that 1, 1.0 and numpy's 1 are the same."""
    value = label.item() if hasattr(label, "item") else label
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def write_rows(X: Features, dataset: Dataset, folder: Path) -> None:
    """Write features for `predict_alone.read_rows`."""
    folder.mkdir(parents=True)
    about: dict[str, object] = {"task": dataset.task}
    if isinstance(X, pd.DataFrame):
        columns = [
            (str(name), _write_column(X.iloc[:, at], folder, at))
            for at, name in enumerate(X.columns)
        ]
        about |= {"form": "table", "columns": columns}
    elif isinstance(X, np.ndarray):
        np.save(folder / "X.npy", X, allow_pickle=False)
        about |= {"form": "array"}
    else:
        for part in ("data", "indices", "indptr"):
            np.save(folder / f"{part}.npy", getattr(X, part), allow_pickle=False)
        about |= {"form": "sparse", "shape": X.shape}
    (folder / "rows.json").write_text(json.dumps(about), encoding="utf-8")


def _write_column(values: pd.Series[Any], folder: Path, at: int) -> str:
    if values.dtype.kind == "M":
        dates = values.dt.tz_convert(None) if values.dt.tz is not None else values
        np.save(folder / f"{at}.npy", dates.to_numpy(), allow_pickle=False)
        return "date"
    if values.dtype.kind in "fiub":
        np.save(folder / f"{at}.npy", values.to_numpy(), allow_pickle=False)
        return "number"
    text = [
        None if missing else str(value)
        for value, missing in zip(values, values.isna(), strict=True)
    ]
    (folder / f"{at}.json").write_text(json.dumps(text), encoding="utf-8")
    return "text"


def main(folder: Path) -> int:
    """Compare, and write down what came out."""
    try:
        result: dict[str, object] = {"evidence": Comparing(folder, folder.parents[1]).evidence()}
    except (DataError, OSError) as error:
        result = {"error": str(error)}
    write_aside(folder / RESULT, json.dumps(result, allow_nan=False).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
