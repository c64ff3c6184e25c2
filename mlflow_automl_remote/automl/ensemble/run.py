"""An ensemble as an iteration: learnt, scored honestly and saved in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import data, evaluation, metrics, predictions, speed
from mlflow_automl_remote.automl.components.base import Estimator, Scalar
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Indices, Labels
from mlflow_automl_remote.automl.ensemble.blends import (
    LEARN,
    TEMPERATURES,
    TEMPERATURES_OF_BAGS,
    Blend,
    Predictions,
    Vote,
)
from mlflow_automl_remote.automl.ensemble.lighter import Cost
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
from mlflow_automl_remote.automl.racing.finish import mean_of, n_models_of
from mlflow_automl_remote.automl.racing.fold import (
    count_models,
    has_fold,
    has_folds,
    load_models,
    load_predictions,
)
from mlflow_automl_remote.automl.sample import splits_of
from mlflow_automl_remote.automl.splits import Splits
from mlflow_automl_remote.config import AutoMLConfig

_PARTS_OF_ONE_FOLD: Final = 5
_ROUNDING: Final = 1e-9
_NEAR_THE_LIMIT: Final = 0.5
"""What folds have shown may be wrong by so much: features were made before, other work went on."""
_LEAST_KNOWN: Final = 0.8
"""Of the weight of a vote, that of members that know a fold, for it to be scored there."""
_MOST_PARTS: Final = 5  # folds are put together: an ensemble is learnt anew for each part


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A finished iteration that an ensemble may use.

    Attributes:
        number: Of the iteration.
        label: Of its pipeline.
        folder: Where it left its predictions and its model.
        predict_ms: Milliseconds a row of one of the models it was fitted as, about.
        is_measured: Whether that is of such a model by itself.
    """

    number: int
    label: str
    folder: Path
    predict_ms: float = 0.0
    is_measured: bool = False


Part = tuple[Member, float, int]
"""A member, its weight and of how many models it is."""


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
    order = replace(order, members=_quick_enough(order, dataset))
    known = _known(order, dataset, splits)
    bind = Scorer(order.config, dataset)
    fold_of = np.repeat(np.arange(splits.n_folds), [len(rows) for _, rows in splits.folds])
    nested = np.empty(known.values.shape[1:])
    for learn_rows, score_rows in _parts(fold_of, splits.n_folds, order.seed):
        blend = LEARN[order.kind](known.of_rows(learn_rows), bind, order.seed)
        nested[score_rows] = blend.predict(known.values[:, score_rows])
    blend = LEARN[order.kind](known, bind, order.seed)
    by_fold = [nested[fold_of == fold] for fold in range(splits.n_folds)]
    by_fold += _of_further_folds(order, blend, dataset, whole, splits.n_folds)
    splits = replace(whole, folds=whole.folds[: len(by_fold)])
    per_fold = _scores(order.config, dataset, splits, by_fold)
    mean = metrics.mean_over_folds(per_fold)
    refuse_undefined(mean, order.config.primary_metric)
    learnt_s = time.perf_counter() - begun
    predictions.save(order.output_dir, by_fold, dataset, splits)
    model, predict_ms = _model(order, blend, dataset, known.classes)
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
        predict_ms_per_row=predict_ms,
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
    order: EnsembleOrder, blend: Blend, dataset: Dataset, whole: Splits, n_known: int
) -> list[FloatArray]:
    """Predict the folds that the ensemble was not chosen by, as far as a member knows them.

    Members of a vote that know a fold vote there, if they have most of its weight. Else the best
    pipeline stands in: scores over the same rows can be compared, those over others cannot.
    """
    found: list[FloatArray] = []
    if n_known == whole.n_folds:
        return found
    stand_in, n_folds = _most_tried(order, dataset, whole)
    for fold in range(n_known, n_folds):
        has = [has_fold(member.folder, fold) for member in order.members]
        weights = np.where(has, blend.weights, 0.0)
        if isinstance(blend, Vote) and weights.sum() >= _LEAST_KNOWN:
            values = np.stack(
                [
                    load_predictions(member.folder, fold)
                    for member, weight in zip(order.members, weights, strict=True)
                    if weight > 0
                ]
            )
            known = replace(blend, weights=weights[weights > 0] / weights.sum())
            found.append(known.predict(values))
        else:
            found.append(load_predictions(stand_in.folder, fold))
    return found


def _most_tried(order: EnsembleOrder, dataset: Dataset, whole: Splits) -> tuple[Member, int]:
    """Give the best of those members that know the most folds, and how many these are."""
    n_folds = [
        sum(has_fold(member.folder, fold) for fold in range(whole.n_folds))
        for member in order.members
    ]
    most = max(n_folds)
    tried = [one for one, n in zip(order.members, n_folds, strict=True) if n == most]
    splits = replace(whole, folds=whole.folds[:most])
    bind = Scorer(order.config, dataset)
    total = np.zeros(len(tried))
    for fold, (_, rows) in enumerate(splits.folds):
        _, y, weight = evaluation.to_score(dataset, splits, rows)
        predicted = np.stack([load_predictions(member.folder, fold) for member in tried])
        values, score = bind(y, predicted, weight)
        total += score(values)
    return tried[int(np.argmax(total))], most


def _quick_enough(order: EnsembleOrder, dataset: Dataset) -> tuple[Member, ...]:
    """Leave out members of which a single model is too slow, if there are others."""
    limit_ms, load_model = order.config.max_predict_ms_per_row, order.load_model
    if limit_ms is None or load_model is None:
        return order.members
    members = [
        _measured(member, load_model, dataset)
        if member.predict_ms > _NEAR_THE_LIMIT * limit_ms
        else member
        for member in order.members
    ]
    return tuple(one for one in members if one.predict_ms <= limit_ms) or order.members


def _known(order: EnsembleOrder, dataset: Dataset, splits: Splits) -> Predictions:
    values = np.stack([_predictions_of(member, splits) for member in order.members])
    found = predictions.held_out(dataset, splits, values[0])
    return Predictions(
        values=values,
        y=found.y,
        weight=found.weight,
        classes=dataset.classes if dataset.task == "classification" else np.array([]),
        cost=_cost(order),
        temperatures=_temperatures(order),
    )


def _temperatures(order: EnsembleOrder) -> tuple[float, float] | None:
    if order.config.primary_metric != "log_loss":
        return None
    bagged = any(count_models(member.folder) > 1 for member in order.members)
    return TEMPERATURES_OF_BAGS if bagged else TEMPERATURES


def _cost(order: EnsembleOrder) -> Cost | None:
    """Say what an ensemble may take, of which each member is one model at least."""
    limit_ms, is_latency = order.config.max_predict_ms_per_row, n_models_of(order.config) == 1
    if limit_ms is None and not is_latency:
        return None
    ms = np.array([member.predict_ms for member in order.members])
    return Cost(ms=ms, limit_ms=limit_ms, is_latency=is_latency)


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


def _model(
    order: EnsembleOrder, blend: Blend, dataset: Dataset, classes: Labels
) -> tuple[Estimator | None, float | None]:
    """Make the model, of so many models of each member as keep to the limit, and measure it."""
    if order.load_model is None:
        return None, None
    chosen = [
        (member, float(weight))
        for member, weight in zip(order.members, blend.weights, strict=True)
        if weight > 0
    ]
    chosen = [(_measured(member, order.load_model, dataset), weight) for member, weight in chosen]
    parts = within(chosen, order.config.max_predict_ms_per_row, n_models_of(order.config))
    if order.kind != "VotingEnsemble" and len(parts) < len(chosen):
        parts = [(member, weight, 1) for member, weight in chosen]  # what decides knows them all
    taken_ms = sum(member.predict_ms * n_models for member, _, n_models in parts)
    return _assembled(order, blend, parts, classes), taken_ms


def _measured(member: Member, load_model: LoadModel, dataset: Dataset) -> Member:
    """Say what one model of a member takes to predict; the others are like it."""
    if member.is_measured:
        return member
    if has_folds(member.folder):
        (model,) = load_models(member.folder, 1)
    else:
        model = load_model(member.folder / MODEL_NAME)
    taken_ms = speed.predict_ms_per_row(model, dataset, expected_ms=member.predict_ms)
    return replace(member, predict_ms=taken_ms, is_measured=True)


def _assembled(
    order: EnsembleOrder, blend: Blend, parts: list[Part], classes: Labels
) -> Estimator:
    load = order.load_model
    assert load is not None  # noqa: S101 - for the type checker: `_model` has looked
    is_flat = any(has_folds(member.folder) for member, _, _ in parts)
    if isinstance(blend, Vote) and (is_flat or len(parts) < (blend.weights > 0).sum()):
        return _flat_vote(blend, load, parts, classes)
    members = {
        f"iteration_{member.number}": _model_of(member, load, classes, n_models)
        for member, _, n_models in parts
    }
    ensemble: Estimator = Pipeline([("model", blend.assemble(members, classes))])
    return ensemble


def _model_of(member: Member, load_model: LoadModel, classes: Labels, n_models: int) -> Estimator:
    if has_folds(member.folder):
        return mean_of(load_models(member.folder, n_models), classes)
    return load_model(member.folder / MODEL_NAME)


def within(
    chosen: Sequence[tuple[Member, float]], limit_ms: float | None, n_most: int | None = None
) -> list[Part]:
    """Say how many models of each member fit into the time that a row may take.

    Each has one; then those come that bring most for their time. The error of a mean of n models
    that comes from their differences is a share 1 / n of that of one (Breiman: Bagging Predictors,
    1996), and counts by the square of the member's weight. If one of each is too slow, those go
    that are so alone, and then the least important; one stays whatever it takes.

    Args:
        chosen: Members and their weights.
        limit_ms: Of all models together; None for any time.
        n_most: Of models of a member; None for all.
    """
    n_models = {member.number: count_models(member.folder) for member, _ in chosen}
    if n_most is not None:
        n_models = {number: min(n, n_most) for number, n in n_models.items()}
    whole_ms = sum(member.predict_ms * n_models[member.number] for member, _ in chosen)
    if limit_ms is None or whole_ms <= limit_ms:
        return [(member, weight, n_models[member.number]) for member, weight in chosen]
    kept: list[tuple[Member, float]] = []
    left_ms = limit_ms
    in_order = sorted(chosen, key=lambda each: -each[1])
    for member, weight in in_order:
        if member.predict_ms <= left_ms + _ROUNDING:
            kept.append((member, weight))
            left_ms -= member.predict_ms
    kept = kept or in_order[:1]
    n_used = {member.number: 1 for member, _ in kept}
    while True:
        more = [
            (_gain(member, weight, n_used[member.number]), member)
            for member, weight in kept
            if n_used[member.number] < n_models[member.number]
            and member.predict_ms <= left_ms + _ROUNDING
        ]
        if not more:
            break
        _, member = max(more, key=lambda each: each[0])
        n_used[member.number] += 1
        left_ms -= member.predict_ms
    return [
        (member, weight, n_used[member.number])
        for member, weight in chosen
        if (member, weight) in kept
    ]


def _gain(member: Member, weight: float, n_models: int) -> float:
    """Say what one more model takes off the error of a vote, for each of its milliseconds."""
    return weight**2 / (n_models * (n_models + 1)) / max(member.predict_ms, _ROUNDING)


def _flat_vote(vote: Vote, load_model: LoadModel, parts: list[Part], classes: Labels) -> Estimator:
    """Make one vote of the models that members were fitted as, fold by fold.

    Members of which not all models are used have those of different folds: together they have seen
    more of the rows. The weight of a member is that of all its models together.
    """
    models: dict[str, Estimator] = {}
    shares: list[float] = []
    n_taken = 0
    for member, weight, n_models in parts:
        n_all = count_models(member.folder)
        if has_folds(member.folder):
            fitted = load_models(member.folder, n_models, first=n_taken)
        else:
            fitted = [load_model(member.folder / MODEL_NAME)]
        for at, model in enumerate(fitted, n_taken):
            models[f"iteration_{member.number}_fold_{at % n_all}"] = model
            shares.append(weight / n_models)
        n_taken += n_models
    weights = np.array(shares) / sum(shares)
    flat = replace(vote, weights=weights).assemble(models, classes)
    ensemble: Estimator = Pipeline([("model", flat)])
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
    if isinstance(blend, Vote) and blend.temperature != 1:
        found["model__temperature"] = round(blend.temperature, 6)
    return {"model__members": ", ".join(str(member.number) for member in chosen), **found}
