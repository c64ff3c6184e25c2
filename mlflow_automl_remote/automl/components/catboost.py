"""CatBoost, which needs the least tuning of all boosters."""

from __future__ import annotations

from typing import Any, Final

from catboost import CatBoostClassifier, CatBoostRegressor, Pool

from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS,
    PATIENCE_ROUNDS,
    TREE_SCALERS,
    BuildContext,
    Component,
    EarlyStopping,
    Estimator,
    Params,
    Part,
    Trial,
)
from mlflow_automl_remote.automl.components.labels import with_labels


def _suggest(trial: Trial) -> Params:
    return {
        "iterations": trial.suggest_int("iterations", 40, MAX_ROUNDS, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.4, log=True),
        "depth": trial.suggest_int("depth", 3, 8),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 0.5, 10.0, log=True),
        "random_strength": trial.suggest_float("random_strength", 0.1, 3.0, log=True),
    }


def _settings(params: Params, context: BuildContext) -> Params:
    return {
        **params,
        "random_seed": context.seed,
        "thread_count": context.n_jobs,
        "task_type": "GPU" if context.device == "cuda" else "CPU",
        "verbose": False,
        "allow_writing_files": False,
    }


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    return with_labels("catboost", CatBoostClassifier(**_settings(params, context)), context)


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return CatBoostRegressor(**_settings(params, context))  # type: ignore[no-any-return]


def _fit_stopping_early(model: Any, fit: Part, stop: Part) -> int:
    model.fit(
        Pool(fit.X, fit.y, weight=fit.weight),
        eval_set=Pool(stop.X, stop.y, weight=stop.weight),
        early_stopping_rounds=PATIENCE_ROUNDS,
    )
    return int(model.tree_count_)


def _seconds(context: BuildContext) -> float:
    return 1.2e-8 * context.n_rows * context.n_features * MAX_ROUNDS * context.n_outputs / 2


_DEFAULTS: Final[Params] = {
    "iterations": 120,
    "learning_rate": 0.15,
    "depth": 5,
    "l2_leaf_reg": 3.0,
    "random_strength": 1.0,
}
_STOPPING: Final = EarlyStopping(parameter="iterations", fit=_fit_stopping_early)
CLASSIFIERS: Final = (
    Component(
        name="CatBoost",
        suggest=_suggest,
        build=_build_classifier,
        defaults=_DEFAULTS,
        scalers=TREE_SCALERS,
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="CatBoost",
        suggest=_suggest,
        build=_build_regressor,
        defaults={**_DEFAULTS, "iterations": 300, "learning_rate": 0.1, "depth": 6},
        scalers=TREE_SCALERS,
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
