"""LightGBM, the model that most sweeps end with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping
from lightgbm.callback import EarlyStopException

from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS,
    PATIENCE_ROUNDS,
    TREE_SCALERS,
    Build,
    BuildContext,
    Component,
    EarlyStopping,
    Estimator,
    Pace,
    Params,
    Part,
    Trial,
)
from mlflow_automl_remote.automl.components.pace import Stopwatch, most_rounds, patience

MANY_FOR_BINS: Final = 200_000
FEW_FOR_BINS: Final = 50_000
FINE_BINS: Final = 1023
USUAL_BINS: Final = 255
RARE: Final = 0.1
"""Of the mean number of rows of a class: below it a class is rare."""


def _suggest(trial: Trial) -> Params:
    return {
        "n_estimators": trial.suggest_int("n_estimators", 40, MAX_ROUNDS, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 128, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 2, 60, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "reg_alpha": trial.suggest_float("reg_alpha", 1e-4, 10.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-4, 10.0, log=True),
        "extra_trees": trial.suggest_categorical("extra_trees", [False, True]),
    }


def _smallest_leaf(context: BuildContext) -> float:
    """Give the least sum of Hessians in a leaf.

    A class with very few rows among many has next to none, and a Newton step divides by it: its
    leaves then grow without bound (58,000 rows with a class of 10: its recall fell from 1 to 0).
    Where classes are alike, the library's own value is better.
    """
    rare = context.n_classes > 2 and context.n_rarest * context.n_classes < RARE * context.n_rows
    return 1.0 if rare else 1e-3


def learns_logarithm(params: Params) -> bool:
    """Whether a model with such parameters learns the logarithm of the target."""
    return params.get("objective") == "poisson"


def _with_log_link(params: Params, context: BuildContext) -> dict[str, Any]:
    """Give parameters of the library for trees that add up to the logarithm of the mean.

    What is multiplied in the units of the target adds up there (prices, counts), and a Poisson
    likelihood is right for the mean whatever the targets are distributed like, if it is not
    negative (Gourieroux, Monfort and Trognon 1984). Its gradients have the units of the target,
    so what they are compared with gets them too. Where a target may be negative the usual
    squared error is left.
    """
    rest = {name: value for name, value in params.items() if name != "objective"}
    unit = context.positive_mean
    if not (learns_logarithm(params) and unit):
        return rest
    scaled = {name: float(params[name] or 0.0) * unit for name in ("reg_alpha", "reg_lambda")}
    least = _smallest_leaf(context) * unit
    return {**params, **scaled, "metric": "l2", "min_child_weight": least}


def _build(kind: Callable[..., Estimator]) -> Build:
    def build(params: Params, context: BuildContext) -> Estimator:
        # An alias of `categorical_feature`, which `fit` takes and the constructor ignores.
        codes = {"cat_feature": list(range(context.n_codes))} if context.n_codes else {}
        settings: dict[str, Any] = {
            "subsample_freq": 1,  # without it `subsample` does nothing
            "min_child_weight": _smallest_leaf(context),
            "random_state": context.seed,
            "n_jobs": context.n_jobs,
            "verbosity": -1,
            "deterministic": True,
            # Else it times both ways first, and the faster one differs.
            "force_row_wise": not context.is_large,
            "force_col_wise": context.is_large,  # by rows it has its bins twice
            "max_bin": FINE_BINS if context.has_fine_bins else USUAL_BINS,
            # Rows that bins are found from are held in double precision, beside all others.
            "subsample_for_bin": FEW_FOR_BINS if context.is_large else MANY_FOR_BINS,
        }
        return kind(**{**settings, **codes, **_with_log_link(params, context)})

    return build


def _fit_stopping_early(model: Any, fit: Part, stop: Part) -> int:
    _fit_watched(model, fit, stop, [early_stopping(PATIENCE_ROUNDS, verbose=False)])
    return int(model.best_iteration_)


def _fit_watched(model: Any, fit: Part, stop: Part, callbacks: list[Any]) -> None:
    with warnings.catch_warnings():
        # Since 4.7 it is called `eval_X` and `eval_y`; but text labels work with `eval_set` only.
        warnings.filterwarnings("ignore", "The argument 'eval_set' is deprecated")
        model.fit(
            fit.X,
            fit.y,
            sample_weight=fit.weight,
            eval_set=[(stop.X, stop.y)],
            eval_sample_weight=None if stop.weight is None else [stop.weight],
            callbacks=callbacks,
        )


def _fit_until(model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    settled = {"n_estimators": pace.rounds, "learning_rate": pace.learning_rate}
    model.set_params(**{name: value for name, value in settled.items() if value is not None})
    rate, rounds = model.learning_rate, model.n_estimators
    if stop is None:
        watch = Stopwatch(pace, rate, rounds)
        model.fit(fit.X, fit.y, sample_weight=fit.weight, callbacks=[_InTime(watch)])
        done = model.best_iteration_ if model.best_iteration_ > 0 else rounds
    else:
        most = most_rounds(fit.y, classifies=isinstance(model, LGBMClassifier))
        model.set_params(n_estimators=most)
        watch = Stopwatch(pace, rate, most)
        early = early_stopping(patience(rate), verbose=False)
        _fit_watched(model, fit, stop, [_InTime(watch), early])
        done = model.best_iteration_ if model.best_iteration_ > 0 else most
        model.set_params(n_estimators=done)
    return Pace(until=pace.until, rounds=int(done), learning_rate=watch.learning_rate)


class _InTime:
    """Ends the fit when its time is up, and hurries it when its first rounds were slow."""

    before_iteration = False
    order = 5  # before the library's own early stopping, which is 30

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def __call__(self, env: Any) -> None:
        rate = self._watch.faster(env.iteration + 1)
        if rate is not None:
            env.model.reset_parameter({"learning_rate": rate})
        if self._watch.is_over():
            raise EarlyStopException(env.iteration, env.evaluation_result_list or [])


def _seconds(context: BuildContext) -> float:
    columns = 2e-8 * context.n_rows * context.n_values + 2e-6 * context.n_features
    return columns * MAX_ROUNDS * context.n_outputs / 4


_STOPPING: Final = EarlyStopping(parameter="n_estimators", fit=_fit_stopping_early)
_DEFAULTS: Final[Params] = {
    "n_estimators": 80,
    "learning_rate": 0.12,
    "num_leaves": 24,
    "min_child_samples": 10,
    "colsample_bytree": 0.5,
    "subsample": 0.9,
    "reg_alpha": 1e-3,
    "reg_lambda": 0.1,
    "extra_trees": False,
}
CLASSIFIERS: Final = (
    Component(
        name="LightGBM",
        suggest=_suggest,
        build=_build(LGBMClassifier),
        defaults=_DEFAULTS,
        scalers=TREE_SCALERS,
        mode="native",
        takes_sparse=True,
        takes_missing=True,
        early_stopping=_STOPPING,
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="LightGBM",
        suggest=_suggest,
        build=_build(LGBMRegressor),
        defaults={**_DEFAULTS, "n_estimators": 200, "learning_rate": 0.08},
        scalers=TREE_SCALERS,
        mode="native",
        takes_sparse=True,
        takes_missing=True,
        early_stopping=_STOPPING,
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
