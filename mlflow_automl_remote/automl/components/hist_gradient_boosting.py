"""Scikit-learn's gradient boosting over histograms: fast, and at home with missing values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS,
    PATIENCE_ROUNDS,
    TREE_SCALERS,
    Build,
    BuildContext,
    Component,
    EarlyStopping,
    Estimator,
    Params,
    Part,
    Trial,
)


def _suggest(trial: Trial) -> Params:
    return {
        "max_iter": trial.suggest_int("max_iter", 40, MAX_ROUNDS, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.4, log=True),
        "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 4, 128, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 2, 60, log=True),
        "l2_regularization": trial.suggest_float("l2_regularization", 1e-4, 10.0, log=True),
        "max_features": trial.suggest_float("max_features", 0.2, 1.0),
    }


def _build(kind: Callable[..., Estimator]) -> Build:
    def build(params: Params, context: BuildContext) -> Estimator:
        return kind(
            early_stopping=False,
            categorical_features=list(range(context.n_codes)) or None,
            random_state=context.seed,
            **params,
        )

    return build


def _fit_stopping_early(model: Any, fit: Part, stop: Part) -> int:
    model.set_params(early_stopping=True, n_iter_no_change=PATIENCE_ROUNDS)
    model.fit(
        fit.X,
        fit.y,
        sample_weight=fit.weight,
        X_val=stop.X,
        y_val=stop.y,
        sample_weight_val=stop.weight,
    )
    return int(model.n_iter_)


def _seconds(context: BuildContext) -> float:
    return 2e-8 * context.n_rows * context.n_features * MAX_ROUNDS * context.n_outputs / 4


_DEFAULTS: Final[Params] = {
    "max_iter": 80,
    "learning_rate": 0.12,
    "max_leaf_nodes": 24,
    "min_samples_leaf": 10,
    "l2_regularization": 0.1,
    "max_features": 0.5,
}
_STOPPING: Final = EarlyStopping(parameter="max_iter", fit=_fit_stopping_early)
CLASSIFIERS: Final = (
    Component(
        name="HistGradientBoosting",
        suggest=_suggest,
        build=_build(HistGradientBoostingClassifier),
        defaults=_DEFAULTS,
        scalers=TREE_SCALERS,
        mode="native",
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="HistGradientBoosting",
        suggest=_suggest,
        build=_build(HistGradientBoostingRegressor),
        defaults={**_DEFAULTS, "max_iter": 200, "learning_rate": 0.08},
        scalers=TREE_SCALERS,
        mode="native",
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
