"""Linear models by stochastic gradient descent: for many rows."""

from __future__ import annotations

from typing import Final

from sklearn.linear_model import SGDClassifier, SGDRegressor

from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)


def _suggest_penalty(trial: Trial) -> Params:
    return {
        "alpha": trial.suggest_float("alpha", 1e-6, 1e-1, log=True),
        "penalty": trial.suggest_categorical("penalty", ["l2", "l1", "elasticnet"]),
        "average": trial.suggest_categorical("average", [False, True]),
    }


def _suggest_classifier(trial: Trial) -> Params:
    losses = ["log_loss", "modified_huber"]  # the two that give probabilities
    return {"loss": trial.suggest_categorical("loss", losses), **_suggest_penalty(trial)}


def _build_classifier(params: Params, context: BuildContext) -> Estimator:
    return SGDClassifier(  # type: ignore[no-any-return]
        random_state=context.seed, n_jobs=context.n_jobs, **params
    )


def _suggest_regressor(trial: Trial) -> Params:
    losses = ["squared_error", "huber"]
    return {
        "loss": trial.suggest_categorical("loss", losses),
        "eta0": trial.suggest_float("eta0", 1e-4, 1e-1, log=True),
        **_suggest_penalty(trial),
    }


def _build_regressor(params: Params, context: BuildContext) -> Estimator:
    return SGDRegressor(random_state=context.seed, **params)  # type: ignore[no-any-return]


def _seconds(context: BuildContext) -> float:
    return 1e-7 * context.n_rows * context.n_values * context.n_outputs


_PENALTY: Final[Params] = {"alpha": 1e-4, "penalty": "l2", "average": False}
CLASSIFIERS: Final = (
    Component(
        name="SGD",
        suggest=_suggest_classifier,
        build=_build_classifier,
        defaults={"loss": "log_loss", **_PENALTY},
        scalers=("MaxAbsScaler", "MinMaxScaler", "Normalizer", "RobustScaler", "StandardScaler"),
        takes_sparse=True,
        seconds=_seconds,
    ),
)
REGRESSORS: Final = (
    Component(
        name="SGD",
        suggest=_suggest_regressor,
        build=_build_regressor,
        defaults={"loss": "squared_error", "eta0": 0.01, **_PENALTY},
        scalers=("MaxAbsScaler", "MinMaxScaler", "StandardScaler"),  # others let it diverge
        takes_sparse=True,
        seconds=_seconds,
    ),
)
