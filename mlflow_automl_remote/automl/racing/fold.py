"""Fits one pipeline on some folds against the clock, and leaves what it learnt in a folder.

Runs in a process of its own. What the folds leave is made an iteration by `finish`, and is what
ensembles are made of.
"""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import data, evaluation, pipelines
from mlflow_automl_remote.automl.components import units
from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Device,
    Estimator,
    Pace,
    Part,
)
from mlflow_automl_remote.automl.components.labels import fit_until
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices
from mlflow_automl_remote.automl.feature_store import FeatureStore
from mlflow_automl_remote.automl.features import Behind, RowSet, pass_on
from mlflow_automl_remote.automl.iteration import scoring_of
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.config import AutoMLConfig

MANY_TO_PREDICT: Final = 20_000
"""Rows times classes from which on it pays to predict with several threads, but for boosters, of
which it costs nothing to begin them."""
_QUICK_TO_BEGIN: Final = frozenset(("LightGBM", "XGBoost"))
FOLDS_NAME: Final = "folds"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldsOrder:
    """What the process is asked for.

    Attributes:
        spec: The pipeline.
        config: The settings of the sweep.
        data_dir: Folder of the dataset.
        features_dir: Where iterations share what the steps before their models make.
        output_dir: Of the iteration; gets `folds`.
        seed: Of the pipeline.
        folds: Which folds, by number.
        n_jobs: Threads that it may use.
        device: Where boosters that can are fitted.
        fit_s: What the fit of one fold may take.
        left_s: Seconds after which all of it should have ended.
        settled: What an earlier fold has shown; None for the first one.
    """

    spec: PipelineSpec
    config: AutoMLConfig
    data_dir: Path
    features_dir: Path
    output_dir: Path
    seed: int
    folds: tuple[int, ...]
    n_jobs: int
    device: Device
    fit_s: float
    left_s: float
    settled: Pace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldsResult:
    """What the process gives back.

    Attributes:
        scores: Of the primary metric, one per fold.
        fit_s: Seconds of all fits.
        predict_s: Seconds of all predictions.
        keep_s: Seconds to write all models.
        settled: Rounds and learning rate for the folds to come.
    """

    scores: tuple[float, ...]
    fit_s: float
    predict_s: float
    keep_s: float
    settled: Pace | None


def run_folds(order: FoldsOrder) -> FoldsResult:
    """Fit a pipeline on some folds, score it on their other rows, and keep both.

    Raises:
        Exception: Whatever the pipeline raises.
    """
    end, dataset = time.monotonic() + order.left_s, data.open_dataset(order.data_dir)
    splits = splits_of(order.data_dir, dataset, order.config)
    context = pipelines.context_for(
        dataset, splits=splits, seed=order.seed, n_jobs=order.n_jobs, device=order.device
    )
    component = pipelines.components_of(order.spec, dataset.task)[1]
    scoring = scoring_of(order.config, dataset)
    store = FeatureStore(order.features_dir, order.data_dir)
    (order.output_dir / FOLDS_NAME).mkdir(exist_ok=True)
    settled, scores, fit_s, predict_s, keep_s = order.settled, [], 0.0, 0.0, 0.0
    for number in order.folds:
        begun = time.monotonic()
        fit_rows, score_rows = splits.folds[number]
        until = min(begun + order.fit_s, end)
        pipeline = pipelines.build(
            order.spec, dataset.task, context, dataset=dataset, features_seed=order.config.seed
        )
        X, y, weight = evaluation.to_score(dataset, splits, score_rows)
        rows = RowSet(
            name=f"fold{number}",
            X=dataset.X,
            y=dataset.y[fit_rows],
            fit=fit_rows,
            others=((X, score_rows),),
            names=dataset.feature_names if isinstance(dataset.X, np.ndarray) else None,
        )
        fitting = _Fitting(component, dataset, context, settled, until, store, order.config.seed)
        behind, model, settled = fitting.fit(pipeline, rows)
        fitted = Pipeline([*behind.steps, ("model", model)])
        fitted_at = time.monotonic()
        predicted = evaluation.predict(model, behind.others[0], dataset)
        predicted_at = time.monotonic()
        predict_s += predicted_at - fitted_at
        fit_s += fitted_at - begun
        metric = order.config.primary_metric
        scored = evaluation.score(dataset, y, predicted, weight, scoring, only=metric)
        scores.append(scored[metric])
        if _is_worth_threads(order.spec.model, len(fit_rows) * context.n_outputs):
            _free_threads(fitted)
        _keep(order.output_dir, number, fitted, predicted)
        keep_s += time.monotonic() - predicted_at
    return FoldsResult(
        scores=tuple(scores), fit_s=fit_s, predict_s=predict_s, keep_s=keep_s, settled=settled
    )


def has_folds(folder: Path) -> bool:
    """Whether an iteration was fitted fold by fold against the clock."""
    return (folder / FOLDS_NAME).is_dir()


def has_fold(folder: Path, number: int) -> bool:
    """Whether an iteration was fitted, against the clock, on one fold."""
    return (folder / FOLDS_NAME / f"{number}.npy").exists()


def load_predictions(folder: Path, number: int) -> FloatArray:
    """Read what an iteration predicted for the rows to score of one fold."""
    loaded: FloatArray = np.load(folder / FOLDS_NAME / f"{number}.npy", allow_pickle=False)
    return loaded


def count_models(folder: Path) -> int:
    """Say how many pipelines an iteration fitted; one if it was not fitted fold by fold."""
    return len(_files(folder)) if has_folds(folder) else 1


def load_models(folder: Path, n_models: int | None = None, *, first: int = 0) -> list[Estimator]:
    """Read the pipelines that an iteration fitted, one per fold, or so many of them.

    Args:
        folder: Of the iteration.
        n_models: How many; None for all.
        first: The fold to begin with; after the last one comes that of fold 0.
    """
    files = _files(folder)
    at = first % len(files) if files else 0
    return [pickle.loads(file.read_bytes()) for file in (files[at:] + files[:at])[:n_models]]


def _files(folder: Path) -> list[Path]:
    return sorted((folder / FOLDS_NAME).glob("*.pkl"), key=lambda path: int(path.stem))


def _is_worth_threads(model: str, size: int) -> bool:
    return size >= MANY_TO_PREDICT or model in _QUICK_TO_BEGIN


def _free_threads(fitted: Estimator) -> None:
    """Let a fitted model predict with all cores of whoever uses it."""
    model = cast("Pipeline", fitted)[-1]
    if "n_jobs" in model.get_params(deep=False):
        model.set_params(n_jobs=-1)


def _keep(folder: Path, number: int, fitted: Estimator, predicted: FloatArray) -> None:
    """Write model and predictions; whoever sees the predictions can rely on the model."""
    place = folder / FOLDS_NAME
    (place / f"{number}.pkl").write_bytes(pickle.dumps(fitted, protocol=5))
    np.save(place / f"{number}.npy", predicted, allow_pickle=False)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """How the model of one fold is fitted."""

    component: Component
    dataset: Dataset
    context: BuildContext
    settled: Pace | None
    until: float
    store: FeatureStore
    stop_seed: int

    def fit(self, pipeline: Estimator, rows: RowSet) -> tuple[Behind, Estimator, Pace | None]:
        """Fit on some rows; the first fold finds out how many rounds are best, on part of them."""
        model: Estimator = cast("Pipeline", pipeline)[-1]
        how = self.component.fit_until
        if how is None:
            behind = pass_on(pipeline, rows, self.store)
            part = self._part(behind.fit, cast("Indices", rows.fit))
            weight = {} if part.weight is None else {"sample_weight": part.weight}
            return behind, units.fit(model, part.X, part.y, **weight), None
        stops = self.settled is None and self.context.stops_early
        if stops:
            rows = evaluation.hold_out_to_stop(self.dataset, rows, self.stop_seed)
        behind = pass_on(pipeline, rows, self.store)
        fit = self._part(behind.fit, cast("Indices", rows.fit))
        stop = self._part(behind.others[-1], rows.others[-1][1]) if stops else None
        rounds, rate = None, None
        if self.settled is not None:
            rounds, rate = self.settled.rounds, self.settled.learning_rate
        pace = Pace(until=self.until, rounds=rounds, learning_rate=rate)
        done = fit_until(how, model, fit, stop, pace)
        return behind, model, self.settled or done

    def _part(self, X: Any, rows: Indices) -> Part:
        weight = self.dataset.sample_weight
        return Part(X=X, y=self.dataset.y[rows], weight=None if weight is None else weight[rows])
