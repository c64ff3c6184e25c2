"""A small neural network: for images, smooth targets, and ensembles of trees that want company."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from mlflow_automl_remote.automl.components.base import (
    Build,
    BuildContext,
    Component,
    Estimator,
    Pace,
    Params,
    Part,
    Trial,
)

_MAX_EPOCHS: Final = 100
_PATIENCE_EPOCHS: Final = 5
_PATIENCE_WATCHED: Final = 10
_FEWEST_OF_STEP: Final = 64
_MOST_OF_STEP: Final = 200
_STEPS: Final = 40
"""Of an epoch, within those bounds: with fewer a small table is not learned in time."""


def _suggest(trial: Trial) -> Params:
    return {
        "n_layers": trial.suggest_int("n_layers", 1, 2),
        "n_units": trial.suggest_int("n_units", 16, 128, log=True),
        "alpha": trial.suggest_float("alpha", 1e-6, 1.0, log=True),
        "learning_rate_init": trial.suggest_float("learning_rate_init", 3e-4, 3e-2, log=True),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh"]),
    }


def _build(kind: Callable[..., Estimator]) -> Build:
    def build(params: Params, context: BuildContext) -> Estimator:
        rest = {name: params[name] for name in ("alpha", "learning_rate_init", "activation")}
        n_units, n_layers = int(params["n_units"] or 1), int(params["n_layers"] or 1)
        return kind(
            hidden_layer_sizes=(n_units,) * n_layers,
            batch_size=_rows_of_step(context.n_rows),
            max_iter=_MAX_EPOCHS,
            n_iter_no_change=_PATIENCE_EPOCHS,
            random_state=context.seed,
            **rest,
        )

    return build


def _rows_of_step(n_rows: int) -> int:
    return min(n_rows, max(_FEWEST_OF_STEP, min(n_rows // _STEPS, _MOST_OF_STEP)))


def _fit_until(model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    """Fit epoch by epoch; where it is watched, the weights of the best epoch are kept.

    Where it is not, it ends as its `fit` does: when the loss on what it learns is no longer less.
    """
    first: dict[str, Any] = (
        {"classes": np.unique(fit.y)} if hasattr(model, "predict_proba") else {}
    )
    weight = {} if fit.weight is None else {"sample_weight": fit.weight}
    wanted = pace.rounds or model.max_iter
    patience, least = (_PATIENCE_WATCHED, 0.0) if stop else (model.n_iter_no_change, model.tol)
    best, best_at, kept = -np.inf, 0, None
    for epoch in range(1, wanted + 1):
        model.partial_fit(fit.X, fit.y, **(first if epoch == 1 else {}), **weight)
        score = -model.loss_ if stop is None else _watched_score(model, stop)
        if score > best + least:
            best, best_at = score, epoch
            kept = copy.deepcopy((model.coefs_, model.intercepts_)) if stop else None
        elif pace.rounds is None and epoch - best_at >= patience:
            break
        if time.monotonic() >= pace.until:
            break
    if kept is not None:
        model.coefs_, model.intercepts_ = kept
        epoch = best_at
    return Pace(until=pace.until, rounds=epoch)


def _watched_score(model: Any, stop: Part) -> float:
    """Give minus the loss on the rows that are watched."""
    if not hasattr(model, "predict_proba"):
        return -float(np.average((model.predict(stop.X) - stop.y) ** 2, weights=stop.weight))
    at = np.searchsorted(model.classes_, stop.y)
    of_truth = model.predict_proba(stop.X)[np.arange(len(at)), at]
    return float(np.average(np.log(np.maximum(of_truth, 1e-12)), weights=stop.weight))


def _seconds(context: BuildContext) -> float:
    width = context.n_values + 128 + context.n_outputs
    step = 1.3e-7 * (context.n_features + context.n_outputs)  # to move all weights
    n_steps = context.n_rows / _rows_of_step(context.n_rows)
    return (2.5e-8 * context.n_rows * width + step * n_steps) * _MAX_EPOCHS


_DEFAULTS: Final[Params] = {
    "n_layers": 1,
    "n_units": 64,
    "alpha": 1e-3,
    "learning_rate_init": 3e-3,
    "activation": "relu",
}
_SCALERS: Final = ("MaxAbsScaler", "MinMaxScaler", "PCA", "RobustScaler", "StandardScaler")
CLASSIFIERS: Final = (
    Component(
        name="MLP",
        suggest=_suggest,
        build=_build(MLPClassifier),
        defaults=_DEFAULTS,
        scalers=_SCALERS,
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="MLP",
        suggest=_suggest,
        build=_build(MLPRegressor),
        defaults=_DEFAULTS,
        scalers=("MinMaxScaler", "RobustScaler", "StandardScaler"),
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
