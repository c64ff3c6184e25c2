"""XGBoost, whose classifier takes only the labels 0, 1, ... n_classes - 1."""

from __future__ import annotations

from typing import Any, Final

from xgboost import XGBClassifier, XGBRegressor

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
        "n_estimators": trial.suggest_int("n_estimators", 40, MAX_ROUNDS, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.4, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 10),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 20.0, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "reg_alpha": trial.suggest_float("reg_alpha", 1e-4, 10.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-2, 10.0, log=True),
    }


def _settings(params: Params, context: BuildContext) -> Params:
    return {
        **params,
        "tree_method": "hist",
        "device": context.device,
        "random_state": context.seed,
        "n_jobs": context.n_jobs,
        "verbosity": 1,
    }


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    return with_labels("xgboost", XGBClassifier(**_settings(params, context)), context)


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return XGBRegressor(**_settings(params, context))


def _fit_stopping_early(model: Any, fit: Part, stop: Part) -> int:
    model.set_params(early_stopping_rounds=PATIENCE_ROUNDS)
    model.fit(
        fit.X,
        fit.y,
        sample_weight=fit.weight,
        eval_set=[(stop.X, stop.y)],
        sample_weight_eval_set=None if stop.weight is None else [stop.weight],
        verbose=False,
    )
    return int(model.best_iteration) + 1


def _seconds(context: BuildContext) -> float:
    columns = 2e-8 * context.n_rows * context.n_values + 5e-6 * context.n_features
    return columns * MAX_ROUNDS * context.n_outputs / 4


_STOPPING: Final = EarlyStopping(parameter="n_estimators", fit=_fit_stopping_early)
_DEFAULTS: Final[Params] = {
    "n_estimators": 80,
    "learning_rate": 0.2,
    "max_depth": 4,
    "min_child_weight": 1.0,
    "colsample_bytree": 0.5,
    "subsample": 0.9,
    "reg_alpha": 1e-3,
    "reg_lambda": 1.0,
}
CLASSIFIERS: Final = (
    Component(
        name="XGBoost",
        suggest=_suggest,
        build=_build_classifier,
        defaults=_DEFAULTS,
        scalers=TREE_SCALERS,
        takes_sparse=True,
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="XGBoost",
        suggest=_suggest,
        build=_build_regressor,
        defaults={**_DEFAULTS, "n_estimators": 200, "learning_rate": 0.1, "max_depth": 6},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        takes_missing=True,
        early_stopping=_STOPPING,
        seconds=_seconds,
    ),
)
