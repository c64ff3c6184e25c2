"""An ensemble as an iteration: learnt, scored honestly and saved in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import data, evaluation, metrics, predictions
from mlflow_automl_remote.automl.components.base import Estimator, Scalar
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices, Labels
from mlflow_automl_remote.automl.ensemble.blends import LEARN, Blend, Predictions, Vote
from mlflow_automl_remote.automl.ensemble.scoring import Scorer
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
from mlflow_automl_remote.automl.racing.finish import mean_of
from mlflow_automl_remote.automl.racing.fold import (
    count_models,
    has_fold,
    has_folds,
    load_models,
    load_predictions,
)
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.automl.splits import Fold, Splits
from mlflow_automl_remote.config import AutoMLConfig

_PARTS_OF_ONE_FOLD: Final = 5
_MOST_PARTS: Final = 5  # folds are put together: an ensemble is learnt anew for each part


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A finished iteration that an ensemble may use.

    Attributes:
        number: Of the iteration.
        label: Of its pipeline.
        folder: Where it left its predictions and its model.
        predict_ms: Milliseconds a row of one of the models it was fitted as.
    """

    number: int
    label: str
    folder: Path
    predict_ms: float = 0.0


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
        n_folds: It is learnt from so many folds, the first; None for all.
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
    n_folds: int | None = None


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
    whole = splits_of(order.data_dir, dataset, order.config)
    splits = replace(whole, folds=whole.folds[: order.n_folds])
    known = _known(order, dataset, splits)
    bind = Scorer(order.config, dataset)
    fold_of = np.repeat(np.arange(splits.n_folds), [len(rows) for _, rows in splits.folds])
    nested = np.empty(known.values.shape[1:])
    for learn_rows, score_rows in _parts(fold_of, splits.n_folds, order.seed):
        blend = LEARN[order.kind](known.of_rows(learn_rows), bind, order.seed)
        nested[score_rows] = blend.predict(known.values[:, score_rows])
    blend = LEARN[order.kind](known, bind, order.seed)
    by_fold = [nested[fold_of == fold] for fold in range(splits.n_folds)]
    by_fold += _of_further_folds(order, blend, whole.folds[splits.n_folds :], splits.n_folds)
    splits = replace(whole, folds=whole.folds[: len(by_fold)])
    per_fold = _scores(order.config, dataset, splits, by_fold)
    mean = metrics.mean_over_folds(per_fold)
    refuse_undefined(mean, order.config.primary_metric)
    learnt_s = time.perf_counter() - begun
    predictions.save(order.output_dir, by_fold, dataset, splits)
    model = _model(order, blend, known.classes)
    if model is not None and order.save_model is not None:
        order.save_model(model, dataset, order.output_dir / MODEL_NAME)
    if order.save_charts is not None:
        found = predictions.held_out(dataset, splits, np.concatenate(by_fold))
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


def _scores(
    config: AutoMLConfig, dataset: Dataset, splits: Splits, by_fold: Sequence[FloatArray]
) -> list[dict[str, float]]:
    """Score each fold by itself."""
    per_fold = []
    for (_, rows), predicted in zip(splits.folds, by_fold, strict=True):
        _, y, weight = evaluation.to_score(dataset, splits, rows)
        scoring = scoring_of(config, dataset)
        per_fold.append(evaluation.score(dataset, y, predicted, weight, scoring))
    return per_fold


def _of_further_folds(
    order: EnsembleOrder, blend: Blend, folds: Sequence[Fold], first: int
) -> list[FloatArray]:
    """Predict folds that the vote was not chosen by, with those of its members that know them."""
    found: list[FloatArray] = []
    for number in range(first, first + len(folds)):
        known = [
            (weight, load_predictions(member.folder, number))
            for member, weight in zip(order.members, blend.weights, strict=True)
            if weight > 0 and has_fold(member.folder, number)
        ]
        if order.kind != "VotingEnsemble" or not known:
            break
        weights = np.array([weight for weight, _ in known])
        values = np.stack([predicted for _, predicted in known])
        found.append(Vote(weights=weights / weights.sum()).predict(values))
    return found


def _known(order: EnsembleOrder, dataset: Dataset, splits: Splits) -> Predictions:
    values = np.stack([_predictions_of(member, splits) for member in order.members])
    found = predictions.held_out(dataset, splits, values[0])
    return Predictions(
        values=values,
        y=found.y,
        weight=found.weight,
        classes=dataset.classes if dataset.task == "classification" else np.array([]),
    )


def _parts(fold_of: Indices, n_folds: int, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """Give rows to learn from and rows to score: some folds, or parts of the only one."""
    n_parts = min(n_folds, _MOST_PARTS)
    part_of = fold_of % n_parts
    if n_folds == 1:
        n_parts = min(_PARTS_OF_ONE_FOLD, len(fold_of))
        part_of = np.random.default_rng(seed).permutation(len(fold_of)) % n_parts
    for part in range(n_parts):
        yield np.flatnonzero(part_of != part), np.flatnonzero(part_of == part)


def _predictions_of(member: Member, splits: Splits) -> FloatArray:
    """Give what a member predicted for the rows of all folds, one after the other."""
    if not has_folds(member.folder):
        return predictions.load(member.folder, splits)
    return np.concatenate([load_predictions(member.folder, at) for at in range(splits.n_folds)])


def _model(order: EnsembleOrder, blend: Blend, classes: Labels) -> Estimator | None:
    if order.load_model is None:
        return None
    chosen = [
        (member, float(weight))
        for member, weight in zip(order.members, blend.weights, strict=True)
        if weight > 0
    ]
    if order.kind == "VotingEnsemble" and any(has_folds(member.folder) for member, _ in chosen):
        limit_ms = order.config.max_predict_ms_per_row
        return _flat_vote(order.load_model, within(chosen, limit_ms), classes)
    members = {
        f"iteration_{member.number}": _model_of(member, order.load_model, classes)
        for member, _ in chosen
    }
    ensemble: Estimator = Pipeline([("model", blend.assemble(members, classes))])
    return ensemble


def _model_of(member: Member, load_model: LoadModel, classes: Labels) -> Estimator:
    if has_folds(member.folder):
        return mean_of(load_models(member.folder), classes)
    return load_model(member.folder / MODEL_NAME)


def within(
    chosen: list[tuple[Member, float]], limit_ms: float | None
) -> list[tuple[Member, float, int | None]]:
    """Say how many models of each member fit into the time that a row may take; None for all.

    Each member keeps its share of them, at least one; if that is too slow, the last ones go.
    """
    n_models = {member.number: count_models(member.folder) for member, _ in chosen}
    whole_ms = sum(member.predict_ms * n_models[member.number] for member, _ in chosen)
    if limit_ms is None or whole_ms <= limit_ms:
        return [(member, weight, None) for member, weight in chosen]
    found: list[tuple[Member, float, int | None]] = []
    left_ms = limit_ms
    for member, weight in sorted(chosen, key=lambda each: -each[1]):
        n_kept = max(1, int(n_models[member.number] * limit_ms / whole_ms))
        if member.predict_ms * n_kept <= left_ms or not found:
            found.append((member, weight, n_kept))
            left_ms -= member.predict_ms * n_kept
    return found


def _flat_vote(
    load_model: LoadModel, chosen: list[tuple[Member, float, int | None]], classes: Labels
) -> Estimator:
    """Make one vote of the models that members were fitted as, fold by fold."""
    models: dict[str, Estimator] = {}
    shares: list[float] = []
    for member, weight, n_models in chosen:
        if has_folds(member.folder):
            fitted = load_models(member.folder, n_models)
        else:
            fitted = [load_model(member.folder / MODEL_NAME)]
        for at, model in enumerate(fitted):
            models[f"iteration_{member.number}_fold_{at}"] = model
            shares.append(weight / len(fitted))
    ensemble: Estimator = Pipeline(
        [("model", Vote(weights=np.array(shares)).assemble(models, classes))]
    )
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
