"""Linear models by exact solvers: logistic regression, elastic net, lasso by least angle."""

from __future__ import annotations

from typing import Final

from sklearn.linear_model import ElasticNet, LassoLars, LogisticRegression

from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)

_MAX_STEPS: Final = 300  # of the solver; a step costs a pass over the data


def _suggest_logistic(trial: Trial) -> Params:
    return {
        "C": trial.suggest_float("C", 1e-3, 1e2, log=True),
        "class_weight": trial.suggest_categorical("class_weight", [None, "balanced"]),
    }


def _build_logistic(params: Params, context: BuildContext) -> Estimator:
    del context  # lbfgs is deterministic and has one thread
    return LogisticRegression(max_iter=_MAX_STEPS, **params)  # type: ignore[no-any-return]


def _suggest_elastic_net(trial: Trial) -> Params:
    return {
        "alpha": trial.suggest_float("alpha", 1e-4, 10.0, log=True),
        "l1_ratio": trial.suggest_float("l1_ratio", 0.05, 1.0),
    }


def _build_elastic_net(params: Params, context: BuildContext) -> Estimator:
    return ElasticNet(  # type: ignore[no-any-return]
        max_iter=5000, random_state=context.seed, **params
    )


def _suggest_lasso(trial: Trial) -> Params:
    return {"alpha": trial.suggest_float("alpha", 1e-5, 1.0, log=True)}


def _build_lasso(params: Params, context: BuildContext) -> Estimator:
    return LassoLars(random_state=context.seed, **params)  # type: ignore[no-any-return]


def _seconds_of_lasso(context: BuildContext) -> float:
    return 1e-9 * context.n_features**2 * (context.n_rows + context.n_features)


def _seconds_of_logistic(context: BuildContext) -> float:
    return 6e-8 * context.n_rows * context.n_values * context.n_outputs


CLASSIFIERS: Final = (
    Component(
        name="LogisticRegression",
        suggest=_suggest_logistic,
        build=_build_logistic,
        defaults={"C": 1.0, "class_weight": None},
        takes_sparse=True,
        seconds=_seconds_of_logistic,
    ),
)
REGRESSORS: Final = (
    Component(
        name="ElasticNet",
        suggest=_suggest_elastic_net,
        build=_build_elastic_net,
        defaults={"alpha": 0.01, "l1_ratio": 0.5},
        takes_sparse=True,
    ),
    Component(
        name="LassoLars",
        suggest=_suggest_lasso,
        build=_build_lasso,
        defaults={"alpha": 1e-3},
        takes_weights=False,
        seconds=_seconds_of_lasso,
    ),
)
