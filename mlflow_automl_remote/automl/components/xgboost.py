"""XGBoost, whose classifier takes only the labels 0, 1, ... n_classes - 1."""

from __future__ import annotations

from typing import Any, Final

from xgboost import XGBClassifier, XGBRegressor
from xgboost.callback import TrainingCallback

from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS,
    PATIENCE_ROUNDS,
    TREE_SCALERS,
    BuildContext,
    Component,
    EarlyStopping,
    Estimator,
    Pace,
    Params,
    Part,
    Trial,
)
from mlflow_automl_remote.automl.components.labels import with_labels
from mlflow_automl_remote.automl.components.pace import Stopwatch, most_rounds, patience

FINE_BINS: Final = 512
USUAL_BINS: Final = 256
"""The library's own; with more, its index of a large table takes two bytes a cell."""


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
        "max_bin": FINE_BINS if context.has_fine_bins else USUAL_BINS,
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


def _fit_until(model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    settled = {"n_estimators": pace.rounds, "learning_rate": pace.learning_rate}
    model.set_params(**{name: value for name, value in settled.items() if value is not None})
    rate = float(model.learning_rate)
    most = most_rounds(fit.y, classifies=isinstance(model, XGBClassifier))
    watch = Stopwatch(pace, rate, most if stop else model.n_estimators)
    model.set_params(callbacks=[_InTime(watch)])
    if stop is None:
        model.fit(fit.X, fit.y, sample_weight=fit.weight)
        done = int(model.get_booster().num_boosted_rounds())
    else:
        model.set_params(n_estimators=most, early_stopping_rounds=patience(rate))
        model.fit(
            fit.X,
            fit.y,
            sample_weight=fit.weight,
            eval_set=[(stop.X, stop.y)],
            sample_weight_eval_set=None if stop.weight is None else [stop.weight],
            verbose=False,
        )
        done = int(model.best_iteration) + 1
    model.set_params(callbacks=None, n_estimators=done)
    return Pace(until=pace.until, rounds=done, learning_rate=watch.learning_rate)


class _InTime(TrainingCallback):
    """Ends the fit when its time is up, and hurries it when its first rounds were slow."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        del evals_log  # early stopping looks at it
        rate = self._watch.faster(epoch + 1)
        if rate is not None:
            model.set_param("learning_rate", rate)
        return self._watch.is_over()


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
        fit_until=_fit_until,
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
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
