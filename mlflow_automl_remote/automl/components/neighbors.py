"""Nearest neighbours."""

from __future__ import annotations

from typing import Final

from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)


def _suggest(trial: Trial) -> Params:
    return {
        "n_neighbors": trial.suggest_int("n_neighbors", 1, 50, log=True),
        "weights": trial.suggest_categorical("weights", ["uniform", "distance"]),
        "p": trial.suggest_categorical("p", [1, 2]),
    }


def _settings(params: Params, context: BuildContext) -> Params:
    """Never ask for more neighbours than there are rows."""
    wanted = int(params["n_neighbors"] or 1)
    return {
        **params,
        "n_neighbors": min(wanted, context.n_rows),
        "n_jobs": context.n_jobs,
    }


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    return KNeighborsClassifier(**_settings(params, context))  # type: ignore[no-any-return]


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return KNeighborsRegressor(**_settings(params, context))  # type: ignore[no-any-return]


def _seconds(context: BuildContext) -> float:
    return 4e-10 * context.n_rows**2 * max(context.n_values, 10)


_DEFAULTS: Final[Params] = {"n_neighbors": 5, "weights": "distance", "p": 2}
CLASSIFIERS: Final = (
    Component(
        name="KNN",
        suggest=_suggest,
        build=_build_classifier,
        defaults=_DEFAULTS,
        takes_sparse=True,
        takes_weights=False,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="KNN",
        suggest=_suggest,
        build=_build_regressor,
        defaults=_DEFAULTS,
        takes_sparse=True,
        takes_weights=False,
        seconds=_seconds,
    ),
)
