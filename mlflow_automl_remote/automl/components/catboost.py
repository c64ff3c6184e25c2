"""CatBoost, which needs the least tuning of all boosters, and makes most of categories."""

from __future__ import annotations

import time
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
    Pace,
    Params,
    Part,
    Trial,
)
from mlflow_automl_remote.automl.components.labels import with_labels
from mlflow_automl_remote.automl.components.pace import patience

_PILOT_ROUNDS: Final = 8
_FEWEST_ROUNDS: Final = 20
_MOST_ROUNDS: Final = 2000
_ROUNDS_UNWATCHED: Final = 400
_MORE_ROUNDS: Final = 1.6
"""Than the first ones say: they are slower, above all where they make statistics of categories."""
_ROUNDS_BY_RATE: Final = 45.0
_SLOWEST: Final = 0.03
_FASTEST: Final = 0.3
_MAX_ONE_HOT: Final = 25
"""Of fewer categories statistics of classes take ten times as long, and overfit."""
_MAX_ONE_HOT_OF_NUMBERS: Final = 2
"""Mean numbers show an order of categories that is worth the time."""


def _suggest(trial: Trial) -> Params:
    return {
        "iterations": trial.suggest_int("iterations", 40, MAX_ROUNDS, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.4, log=True),
        "depth": trial.suggest_int("depth", 3, 8),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 0.5, 10.0, log=True),
        "random_strength": trial.suggest_float("random_strength", 0.1, 3.0, log=True),
    }


def _settings(params: Params, context: BuildContext) -> dict[str, Any]:
    return {
        **(_of_categories(context) if context.n_codes else {}),
        **params,
        "random_seed": context.seed,
        "thread_count": context.n_jobs,
        "task_type": "GPU" if context.device == "cuda" else "CPU",
        "verbose": False,
        "allow_writing_files": False,
    }


def _of_categories(context: BuildContext) -> dict[str, Any]:
    return {
        "cat_features": tuple(range(context.n_codes)),  # of a list no clone can be made
        "one_hot_max_size": _MAX_ONE_HOT if context.n_classes else _MAX_ONE_HOT_OF_NUMBERS,
        # Pairs of columns: the library takes none where rounds are few. Of many classes each is
        # as much work as a column.
        "max_ctr_complexity": 2 if context.n_classes == 2 else 1,
    }


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    model = CatBoostClassifier(**_settings(params, context))
    # Of more than two classes it predicts a column, which scikit-learn's metrics warn of.
    return with_labels("catboost", model, context, always=context.n_classes > 2)


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return CatBoostRegressor(**_settings(params, context))  # type: ignore[no-any-return]


def _fit_stopping_early(model: Any, fit: Part, stop: Part) -> int:
    model.fit(
        _pool(model, fit),
        eval_set=_pool(model, stop),
        early_stopping_rounds=PATIENCE_ROUNDS,
    )
    return int(model.tree_count_)


def _pool(model: Any, part: Part) -> Any:
    codes = model.get_params().get("cat_features")
    return Pool(part.X, part.y, weight=part.weight, cat_features=codes)


def _fit_until(model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    """Fit within a time; the learning rate is at least what so few rounds as it has room for need.

    Where nothing watches it, rounds and learning rate are those of the model, if it has them.
    """
    pool = _pool(model, fit)
    rounds = pace.rounds
    if rounds is None:
        per_round_s = _seconds_of_a_round(model, pool, pace)
        possible = int(0.9 * (pace.until - time.monotonic()) / per_round_s)
        unwatched = model.get_params().get("iterations") or _ROUNDS_UNWATCHED
        rounds = max(_FEWEST_ROUNDS, min(possible, _MOST_ROUNDS if stop else unwatched))
    own = model.get_params().get("learning_rate")
    if stop is not None or own is None:
        own = max(own or _SLOWEST, min(_FASTEST, _ROUNDS_BY_RATE / rounds))
    rate = pace.learning_rate or own
    if stop is not None:
        rounds = min(round(_MORE_ROUNDS * rounds), _MOST_ROUNDS)  # the clock ends them too
    model.set_params(iterations=rounds, learning_rate=rate)
    watched: dict[str, Any] = {}
    if stop is not None:
        watched["eval_set"] = _pool(model, stop)
        watched["early_stopping_rounds"] = patience(rate)
    model.fit(pool, callbacks=[_InTime(pace)], **watched)
    done = int(model.tree_count_)
    return Pace(until=pace.until, rounds=done, learning_rate=float(rate))


def _seconds_of_a_round(model: Any, pool: Any, pace: Pace) -> float:
    """Time a few rounds; the first ones, which are slower than the rest, are left out."""
    timed = _InTime(pace)
    pilot = model.copy()
    pilot.set_params(iterations=_PILOT_ROUNDS, learning_rate=None)
    pilot.fit(pool, callbacks=[timed])
    ends = timed.ends
    if len(ends) < _PILOT_ROUNDS:
        return max(pace.until - ends[0], 0.05) if ends else 1.0
    return max((ends[-1] - ends[1]) / (len(ends) - 2), 1e-5)


class _InTime:
    """Ends the fit when its time is up."""

    def __init__(self, pace: Pace) -> None:
        self._until = pace.until
        self.ends: list[float] = []

    def after_iteration(self, info: Any) -> bool:
        """Say whether to go on."""
        del info
        self.ends.append(time.monotonic())
        return self.ends[-1] < self._until


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
        mode="coded",
        takes_missing=True,
        early_stopping=_STOPPING,
        fit_until=_fit_until,
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
        mode="coded",
        takes_missing=True,
        early_stopping=_STOPPING,
        fit_until=_fit_until,
        seconds=_seconds,
    ),
)
