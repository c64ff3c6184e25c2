"""Scores one pipeline on rows that it was not fitted on, then fits it on all rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import metrics
from mlflow_automl_remote.automl.components import units
from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS_STOPPED_EARLY,
    Classifier,
    EarlyStopping,
    Estimator,
    Part,
)
from mlflow_automl_remote.automl.components.labels import fit_stopping_early, parameter_of
from mlflow_automl_remote.automl.dataset import (
    Dataset,
    Features,
    FloatArray,
    Indices,
    Labels,
)
from mlflow_automl_remote.automl.feature_store import FeatureStore
from mlflow_automl_remote.automl.features import Behind, RowSet, pass_on
from mlflow_automl_remote.automl.splits import Splits, hold_out

STOP_SHARE: Final = 0.1
"""Of the rows to fit on, held out to stop a booster: never rows that score."""
DECIMALS: Final = 12
"""Digits of a prediction that count: below them the order in which threads add up decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """What metrics depend on besides rows and predictions.

    Attributes:
        y_min: Lower end of the range that normalizes errors; None for that of the data.
        y_max: Upper end of it.
        positive: Position of the positive one of two classes; None if neither is.
        scorer: A scorer of scikit-learn, recorded too; None for none.
    """

    y_min: float | None = None
    y_max: float | None = None
    positive: int | None = None
    scorer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """What validation says of a pipeline.

    Attributes:
        metrics: Mean over the folds, by name; NaN where it is undefined in a fold.
        fold_metrics: One value per fold, by name.
        predictions: One array per fold, for its rows to score in order: of shape (n, n_classes),
            columns in the order of the sorted labels, for classification; (n,) for regression.
        rounds: Mean number of boosting rounds that were best; None unless stopped early.
        fit_s: Seconds of all fits of the folds.
        predict_s: Seconds of all predictions.
        rows: What the model of the last fold was fitted and scored on; None where another
            process did.
    """

    metrics: Mapping[str, float]
    fold_metrics: Mapping[str, list[float]]
    predictions: tuple[FloatArray, ...]
    rounds: int | None
    fit_s: float
    predict_s: float
    rows: RowSet | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldScore:
    """What one fold says of a pipeline.

    Attributes:
        metrics: By name.
        predictions: As in `Evaluation`.
        rounds: Boosting rounds that were best; None unless stopped early.
        fit_s: Seconds of the fit.
        predict_s: Seconds of the predictions.
        rows: What the model was fitted and scored on; None where another process did.
    """

    metrics: Mapping[str, float]
    predictions: FloatArray
    rounds: int | None
    fit_s: float
    predict_s: float
    rows: RowSet | None = None


def evaluate_fold(  # noqa: PLR0913 - all of it is needed once, and named at the call
    pipeline: Estimator,
    dataset: Dataset,
    splits: Splits,
    number: int,
    *,
    scoring: Scoring | None = None,
    early_stopping: EarlyStopping | None = None,
    seed: int = 0,
    store: FeatureStore | None = None,
) -> FoldScore:
    """Score a pipeline on one fold of a sweep.

    Args:
        pipeline: An unfitted pipeline; it is cloned, never changed.
        dataset: Features and targets.
        splits: The folds.
        number: Of the fold.
        scoring: What the metrics depend on.
        early_stopping: How its model is stopped early; None to fit all its rounds.
        seed: Of the rows that stop it; the same for all pipelines that share features.
        store: Where what the steps before the model make is shared; None to make it here.

    Raises:
        ValueError: The pipeline predicts values that are not finite.
        Exception: Whatever the pipeline raises.
    """
    begun = time.perf_counter()
    fit_rows, score_rows = splits.folds[number]
    X, y, weight = to_score(dataset, splits, score_rows)
    rows = _rows(f"fold{number}", dataset, fit_rows, (X, score_rows))
    rounds = None
    if early_stopping is None:
        behind = pass_on(pipeline, rows, store)
        model = _fit(clone(_model_of(pipeline)), behind.fit, rows.y, _weight(dataset, fit_rows))
    else:
        rows = hold_out_to_stop(dataset, rows, seed)
        behind, model, rounds = _fit_stopping_early(pipeline, dataset, rows, early_stopping, store)
    fitted_at = time.perf_counter()
    predicted = predict(model, behind.others[0], dataset)
    predicted_at = time.perf_counter()
    return FoldScore(
        metrics=score(dataset, y, predicted, weight, scoring),
        predictions=predicted,
        rounds=rounds,
        fit_s=fitted_at - begun,
        predict_s=predicted_at - fitted_at,
        rows=rows,
    )


def evaluate(pipeline: Estimator, dataset: Dataset, splits: Splits, **how: Any) -> Evaluation:
    """Score a pipeline on the folds of a sweep, one after the other; see `evaluate_fold`."""
    folds: list[FoldScore] = []
    for number in range(splits.n_folds):
        folds[-1:] = [replace(fold, rows=None) for fold in folds[-1:]]  # which need not be kept
        folds.append(evaluate_fold(pipeline, dataset, splits, number, **how))
    return combined(folds)


def combined(folds: Sequence[FoldScore]) -> Evaluation:
    """Say what all folds together say of a pipeline.

    Args:
        folds: In their order.
    """
    per_fold = [dict(fold.metrics) for fold in folds]
    rounds = [fold.rounds for fold in folds if fold.rounds is not None]
    return Evaluation(
        metrics=metrics.mean_over_folds(per_fold),
        fold_metrics=metrics.by_name(per_fold),
        predictions=tuple(fold.predictions for fold in folds),
        rounds=max(1, round(float(np.mean(rounds)))) if rounds else None,
        fit_s=sum(fold.fit_s for fold in folds),
        predict_s=sum(fold.predict_s for fold in folds),
        rows=folds[-1].rows,
    )


def refit(
    pipeline: Estimator,
    dataset: Dataset,
    *,
    train: Indices | None = None,
    store: FeatureStore | None = None,
    made: RowSet | None = None,
) -> Estimator:
    """Fit a clone on all rows, with the names of the columns where they are known.

    Args:
        pipeline: Is not changed.
        dataset: Features and targets.
        train: Only these rows; None for all.
        store: Where what the steps before the model make is shared; None to make it here.
        made: The same rows in another order, which the store has already, behind steps that were
            fitted on most of them: where rows take much memory they are not made again for that.
    """
    order = train
    behind = None if made is None else pass_on(pipeline, made, store)
    if made is not None and behind is not None and behind.whole is not None:
        X, order = behind.whole, made.order
    else:
        rows = _rows("all", dataset, train)
        if isinstance(dataset.X, np.ndarray):
            rows = replace(rows, names=dataset.feature_names)
        behind = pass_on(pipeline, rows, store)
        X = behind.fit
    y = dataset.y if order is None else dataset.y[order]
    weight = dataset.sample_weight if order is None else _weight(dataset, order)
    model = _fit(clone(_model_of(pipeline)), X, y, weight)
    return cast("Estimator", Pipeline([*behind.steps, ("model", model)]))


def hold_out_to_stop(dataset: Dataset, rows: RowSet, seed: int) -> RowSet:
    """Keep some of the rows to fit on for stopping a booster early: the last of the others.

    Args:
        dataset: Of which the rows are.
        rows: Not all rows of it.
        seed: The same for all pipelines that share features.
    """
    fit_rows, stop_rows = hold_out(
        dataset.y,
        cast("Indices", rows.fit),
        STOP_SHARE,
        np.random.default_rng(seed),
        dataset.task,
    )
    return replace(
        rows,
        name=f"{rows.name}, most",
        y=dataset.y[fit_rows],
        fit=fit_rows,
        others=(*rows.others, (dataset.X, stop_rows)),
    )


def with_rounds(pipeline: Estimator, early_stopping: EarlyStopping, rounds: int) -> Estimator:
    """Give a clone whose model has so many rounds."""
    changed = clone(pipeline)
    name = parameter_of(cast("Pipeline", changed)[-1], early_stopping.parameter)
    return cast("Estimator", changed.set_params(**{f"model__{name}": rounds}))


def predict(fitted: Estimator, X: Features, dataset: Dataset) -> FloatArray:
    """Give probabilities in the order of the data's classes, or predicted numbers.

    Returns:
        Of shape (n_rows, n_classes) for classification, (n_rows,) for regression.

    Raises:
        ValueError: A value is not finite.
    """
    if dataset.task == "regression":
        predicted = np.asarray(fitted.predict(X), dtype=np.float64).reshape(-1)
    else:
        classifier = cast("Classifier", fitted)
        predicted = np.zeros((X.shape[0], len(dataset.classes)))
        columns = np.searchsorted(dataset.classes, classifier.classes_)
        predicted[:, columns] = classifier.predict_proba(X)
    if not np.isfinite(predicted).all():
        raise ValueError("The pipeline predicts values that are not finite.")
    return without_noise(predicted)


def score(
    dataset: Dataset,
    y_true: Labels,
    predicted: FloatArray,
    weight: FloatArray | None = None,
    scoring: Scoring | None = None,
    *,
    only: str | None = None,
) -> dict[str, float]:
    """Give all metrics of predictions for some rows of a dataset.

    Args:
        dataset: Of which the rows are.
        y_true: Targets, of shape (n_rows,).
        predicted: As `predict` gives them.
        weight: Weights of the rows, of shape (n_rows,), or None.
        scoring: What metrics depend on.
        only: Name of a metric; give just those that come with it, in less time.
    """
    scoring = scoring or Scoring()
    if scoring.scorer is not None and only == scoring.scorer:
        return _by_scorer(scoring.scorer, dataset, y_true, predicted, weight, scoring)
    if dataset.task == "regression":
        y = cast("FloatArray", dataset.y)
        scored = metrics.score_regression(
            cast("FloatArray", y_true),
            predicted,
            y_min=float(y.min()) if scoring.y_min is None else scoring.y_min,
            y_max=float(y.max()) if scoring.y_max is None else scoring.y_max,
            sample_weight=weight,
            only=only,
        )
    else:
        scored = _of_classifier(dataset.classes, y_true, predicted, weight, scoring, only)
    if scoring.scorer is not None and only is None:
        scored |= _by_scorer(scoring.scorer, dataset, y_true, predicted, weight, scoring)
    return scored


def _of_classifier(
    classes: Labels,
    y_true: Labels,
    predicted: FloatArray,
    weight: FloatArray | None,
    scoring: Scoring,
    only: str | None,
) -> dict[str, float]:
    scored = metrics.score_classification(
        y_true, predicted, classes=classes, sample_weight=weight, only=only
    )
    if scoring.positive is not None:
        scored |= metrics.score_binary(
            y_true,
            predicted,
            classes=classes,
            positive=scoring.positive,
            sample_weight=weight,
        )
    return scored


def _by_scorer(
    name: str,
    dataset: Dataset,
    y_true: Labels,
    predicted: FloatArray,
    weight: FloatArray | None,
    scoring: Scoring,
) -> dict[str, float]:
    classes = dataset.classes if dataset.task == "classification" else None
    value = metrics.score_by_scorer(
        name,
        y_true,
        predicted,
        classes=classes,
        positive=scoring.positive,
        sample_weight=weight,
    )
    return {name: value}


def to_score(
    dataset: Dataset, splits: Splits, rows: Indices
) -> tuple[Features, Labels, FloatArray | None]:
    """Give the features that rows to score are rows of, and the rows' targets and weights."""
    if not splits.on_valid:
        return dataset.X, dataset.y[rows], _weight(dataset, rows)
    # For the type checker: splits are on the validation set only where there is one.
    assert dataset.X_valid is not None and dataset.y_valid is not None  # noqa: S101, PT018
    weight = dataset.sample_weight_valid
    return dataset.X_valid, dataset.y_valid[rows], None if weight is None else weight[rows]


def _rows(
    name: str, dataset: Dataset, fit: Indices | None, *others: tuple[Features, Indices]
) -> RowSet:
    y = dataset.y if fit is None else dataset.y[fit]
    return RowSet(name=name, X=dataset.X, y=y, fit=fit, others=others)


def _weight(dataset: Dataset, rows: Indices) -> FloatArray | None:
    return None if dataset.sample_weight is None else dataset.sample_weight[rows]


def _model_of(pipeline: Estimator) -> Estimator:
    model: Estimator = cast("Pipeline", pipeline)[-1]
    return model


def _fit(model: Estimator, X: object, y: Labels, weight: FloatArray | None) -> Estimator:
    options = {} if weight is None else {"sample_weight": weight}
    return cast("Estimator", units.fit(model, X, y, **options))


def _fit_stopping_early(
    pipeline: Estimator,
    dataset: Dataset,
    rows: RowSet,
    early_stopping: EarlyStopping,
    store: FeatureStore | None,
) -> tuple[Behind, Estimator, int]:
    """Fit a model, watch it on the last of the other rows; give it and its rounds too."""
    behind = pass_on(pipeline, rows, store)
    fit_rows, stop_rows = cast("Indices", rows.fit), rows.others[-1][1]
    model = _model_of(with_rounds(pipeline, early_stopping, MAX_ROUNDS_STOPPED_EARLY))
    rounds = fit_stopping_early(
        early_stopping,
        model,
        Part(X=behind.fit, y=dataset.y[fit_rows], weight=_weight(dataset, fit_rows)),
        Part(X=behind.others[-1], y=dataset.y[stop_rows], weight=_weight(dataset, stop_rows)),
    )
    return behind, model, rounds


def without_noise(predicted: FloatArray) -> FloatArray:
    """Round to so many significant digits of the largest value."""
    largest = float(np.abs(predicted).max(initial=0.0))
    if largest == 0.0 or predicted.ndim > 1:
        return np.round(predicted, DECIMALS)
    return np.round(predicted / largest, DECIMALS) * largest
