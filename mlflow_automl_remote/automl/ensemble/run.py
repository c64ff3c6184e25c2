"""An ensemble as an iteration: learnt, scored honestly and saved in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import data, evaluation, metrics, predictions
from mlflow_automl_remote.automl.components.base import Estimator, Scalar
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices, Labels
from mlflow_automl_remote.automl.ensemble.blends import LEARN, Blend, Predictions, Score
from mlflow_automl_remote.automl.iteration import (
    CHARTS_NAME,
    MODEL_NAME,
    IterationResult,
    LoadModel,
    SaveCharts,
    SaveModel,
    refuse_undefined,
    score_on_test,
    scoring_of,
)
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.config import AutoMLConfig

_PARTS_OF_ONE_FOLD: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A finished iteration that an ensemble may use.

    Attributes:
        number: Of the iteration.
        label: Of its pipeline.
        folder: Where it left its predictions and its model.
    """

    number: int
    label: str
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleOrder:
    """What an ensemble's process is asked for.

    Attributes:
        kind: `VotingEnsemble` or `StackEnsemble`.
        members: What it may use, the best first.
        config: The settings of the sweep.
        data_dir: Folder of the dataset.
        output_dir: Gets the predictions and `model`.
        seed: Of everything random in it.
        save_model: Writes the fitted ensemble, or None.
        load_model: Reads the model of a member; None to save none.
        save_charts: Draws the predictions, or None.
    """

    kind: str
    members: tuple[Member, ...]
    config: AutoMLConfig
    data_dir: Path
    output_dir: Path
    seed: int
    save_model: SaveModel | None
    load_model: LoadModel | None
    save_charts: SaveCharts | None = None


def run_ensemble(order: EnsembleOrder) -> IterationResult:
    """Learn an ensemble from out-of-fold predictions, score it and save a model of it.

    The score is nested: the rows of each fold are predicted by an ensemble that was learnt from
    the other folds alone; with one fold, from four fifths of its rows. The model that is saved is
    learnt from all of them.

    Raises:
        MetricUndefined: The primary metric is not a number.
    """
    begun = time.perf_counter()
    dataset = data.open_dataset(order.data_dir)
    splits = splits_of(order.data_dir, dataset, order.config)
    known = _known(order, dataset, splits)
    score = _score_of(order.config, dataset)
    fold_of = np.repeat(np.arange(splits.n_folds), [len(rows) for _, rows in splits.folds])
    nested = np.empty(known.values.shape[1:])
    for learn_rows, score_rows in _parts(fold_of, splits.n_folds, order.seed):
        blend = LEARN[order.kind](known.of_rows(learn_rows), score, order.seed)
        nested[score_rows] = blend.predict(known.values[:, score_rows])
    blend = LEARN[order.kind](known, score, order.seed)
    per_fold = [
        evaluation.score(
            dataset,
            known.y[fold_of == fold],
            nested[fold_of == fold],
            None if known.weight is None else known.weight[fold_of == fold],
            scoring_of(order.config, dataset),
        )
        for fold in range(splits.n_folds)
    ]
    mean = metrics.mean_over_folds(per_fold)
    refuse_undefined(mean, order.config.primary_metric)
    learnt_s = time.perf_counter() - begun
    by_fold = [nested[fold_of == fold] for fold in range(splits.n_folds)]
    predictions.save(order.output_dir, by_fold, dataset, splits)
    model = _model(order, blend, known.classes)
    if model is not None and order.save_model is not None:
        order.save_model(model, dataset, order.output_dir / MODEL_NAME)
    if order.save_charts is not None:
        found = predictions.held_out(dataset, splits, nested)
        order.save_charts(dataset, found, order.output_dir / CHARTS_NAME, order.kind)
    return IterationResult(
        metrics=mean,
        fold_metrics=metrics.by_name(per_fold),
        hyperparameters=_hyperparameters(order, blend),
        fit_s=learnt_s,
        predict_s=0.0,
        test_metrics=(
            {} if model is None else score_on_test(model, dataset, splits, order.config)
        ),
    )


def _known(order: EnsembleOrder, dataset: Dataset, splits: Splits) -> Predictions:
    values = np.stack([predictions.load(member.folder, splits) for member in order.members])
    found = predictions.held_out(dataset, splits, values[0])
    return Predictions(
        values=values,
        y=found.y,
        weight=found.weight,
        classes=dataset.classes if dataset.task == "classification" else np.array([]),
    )


def _score_of(config: AutoMLConfig, dataset: Dataset) -> Score:
    """Give the primary metric as a function, higher is better."""
    sign = 1.0 if config.greater_is_better else -1.0
    scoring = scoring_of(config, dataset)
    classes = dataset.classes if dataset.task == "classification" else None

    metric = config.primary_metric
    binary = metric.endswith("_binary")

    def score(y: Labels, predicted: FloatArray, weight: FloatArray | None) -> float:
        if config.scorer is not None:
            return metrics.score_by_scorer(
                metric,
                y,
                predicted,
                classes=classes,
                positive=scoring.positive,
                sample_weight=weight,
            )
        if classes is None:
            scored = evaluation.score(dataset, y, predicted, weight, scoring, only=metric)
        elif binary and scoring.positive is not None:
            scored = metrics.score_binary(
                y, predicted, classes=classes, positive=scoring.positive, sample_weight=weight
            )
        else:
            scored = metrics.score_classification(
                y, predicted, classes=classes, sample_weight=weight, only=metric
            )
        return sign * scored[metric]

    return score


def _parts(fold_of: Indices, n_folds: int, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """Give rows to learn from and rows to score: fold by fold, or parts of the only one."""
    part_of, n_parts = fold_of, n_folds
    if n_folds == 1:
        n_parts = min(_PARTS_OF_ONE_FOLD, len(fold_of))
        part_of = np.random.default_rng(seed).permutation(len(fold_of)) % n_parts
    for part in range(n_parts):
        yield np.flatnonzero(part_of != part), np.flatnonzero(part_of == part)


def _model(order: EnsembleOrder, blend: Blend, classes: Labels) -> Estimator | None:
    if order.load_model is None:
        return None
    members = {
        f"iteration_{member.number}": order.load_model(member.folder / MODEL_NAME)
        for member, weight in zip(order.members, blend.weights, strict=True)
        if weight > 0
    }
    ensemble: Estimator = Pipeline([("model", blend.assemble(members, classes))])
    return ensemble


def _hyperparameters(order: EnsembleOrder, blend: Blend) -> dict[str, Scalar]:
    """Say which iterations it is made of, and how much each of them counts."""
    chosen = {
        member: round(float(weight), 6)
        for member, weight in zip(order.members, blend.weights, strict=True)
        if weight > 0
    }
    found: dict[str, Scalar] = {
        f"model__iteration_{member.number}": f"{weight:g} {member.label}"
        for member, weight in chosen.items()
    }
    return {"model__members": ", ".join(str(member.number) for member in chosen), **found}
