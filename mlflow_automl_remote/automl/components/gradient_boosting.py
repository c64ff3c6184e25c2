"""Scikit-learn's gradient boosting, bounded: it has one thread and a tree per class and round.

Few rounds with a high learning rate, part of the rows and columns per tree, and early stopping
keep a fit on 1,400 x 64 with ten classes near half a second, where the defaults need ten.
"""

from __future__ import annotations

from typing import Final

from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

from mlflow_automl_remote.automl.components.base import (
    TREE_SCALERS,
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)

_N_ROUNDS: Final = 50
_PATIENCE_ROUNDS: Final = 5
_VALIDATION_SHARE: Final = 0.1
_FEWEST_TO_VALIDATE: Final = 20  # rows; fewer say nothing of when to stop


def _suggest(trial: Trial) -> Params:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.5, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 6),
        "max_features": trial.suggest_float("max_features", 0.05, 0.6, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 30, log=True),
    }


def _settings(params: Params, context: BuildContext) -> Params:
    return {
        **params,
        "n_estimators": _N_ROUNDS,
        "n_iter_no_change": _PATIENCE_ROUNDS if _can_stop_early(context) else None,
        "validation_fraction": _VALIDATION_SHARE,
        "random_state": context.seed,
    }


def _can_stop_early(context: BuildContext) -> bool:
    """Whether a stratified part of the rows can be held out, and is worth it."""
    held_out = int(context.n_rows * _VALIDATION_SHARE)
    enough = held_out >= max(_FEWEST_TO_VALIDATE, context.n_classes)
    return enough and (context.n_classes == 0 or context.n_rarest >= 2)


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    return GradientBoostingClassifier(**_settings(params, context))  # type: ignore[no-any-return]


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return GradientBoostingRegressor(**_settings(params, context))  # type: ignore[no-any-return]


def _seconds(context: BuildContext) -> float:
    return 1e-7 * context.n_rows * context.n_values * _N_ROUNDS * context.n_outputs


_DEFAULTS: Final[Params] = {
    "learning_rate": 0.25,
    "max_depth": 3,
    "max_features": 0.15,
    "subsample": 0.8,
    "min_samples_leaf": 3,
}
CLASSIFIERS: Final = (
    Component(
        name="GradientBoosting",
        suggest=_suggest,
        build=_build_classifier,
        defaults=_DEFAULTS,
        scalers=TREE_SCALERS,
        takes_sparse=True,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="GradientBoosting",
        suggest=_suggest,
        build=_build_regressor,
        defaults={**_DEFAULTS, "max_depth": 4, "max_features": 0.5},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        seconds=_seconds,
    ),
)
