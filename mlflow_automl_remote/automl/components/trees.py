"""One tree, and forests of independent trees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_automl_remote.automl.components.base import (
    MAX_ROUNDS,
    TREE_SCALERS,
    Build,
    BuildContext,
    Component,
    Estimator,
    Pace,
    Params,
    Part,
    Suggest,
    Trial,
)

_FIRST_TREES: Final = 4
_IMPURITIES: Final = ("gini", "entropy")


def _suggest_tree(trial: Trial) -> Params:
    return {
        "max_depth": trial.suggest_int("max_depth", 2, 30, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 50, log=True),
        "ccp_alpha": trial.suggest_float("ccp_alpha", 1e-6, 1e-2, log=True),
    }


def _suggest_forest(trial: Trial) -> Params:
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, MAX_ROUNDS, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 1.0, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 20, log=True),
    }


def _with_impurity(suggest: Suggest) -> Suggest:
    def suggest_classifier(trial: Trial) -> Params:
        impurity = trial.suggest_categorical("criterion", list(_IMPURITIES))
        return {"criterion": impurity, **suggest(trial)}

    return suggest_classifier


def _tree(kind: Callable[..., Estimator]) -> Build:
    def build(params: Params, context: BuildContext) -> Estimator:
        return kind(random_state=context.seed, **params)

    return build


def _forest(kind: Callable[..., Estimator]) -> Build:
    def build(params: Params, context: BuildContext) -> Estimator:
        return kind(random_state=context.seed, n_jobs=context.n_jobs, **params)

    return build


def _fit_until(model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    """Grow a forest a few trees at a time, until it is whole or the time is up."""
    del stop  # a forest does not get worse by more trees
    wanted = model.n_estimators
    model.set_params(warm_start=True)
    n_trees, step, begun = 0, _FIRST_TREES, time.monotonic()
    while n_trees < wanted:
        n_trees = min(wanted, n_trees + step)
        model.set_params(n_estimators=n_trees)
        model.fit(fit.X, fit.y, sample_weight=fit.weight)
        now = time.monotonic()
        possible = int((pace.until - now) / max((now - begun) / n_trees, 1e-6))
        if possible < 1:
            break
        step = min(possible, 4 * n_trees)
    model.set_params(warm_start=False)
    return Pace(until=pace.until, rounds=n_trees)


def _seconds_of_a_tree(context: BuildContext) -> float:
    """Every place to split is looked at for every class."""
    per_class = 3e-9 * max(context.n_outputs, 30)
    return per_class * context.n_rows * math.log2(context.n_rows + 1) * context.n_values


def _seconds_of_a_forest(context: BuildContext) -> float:
    return _seconds_of_a_tree(context) * MAX_ROUNDS / 9


_TREE: Final[Params] = {"max_depth": 12, "min_samples_leaf": 2, "ccp_alpha": 1e-6}
_FOREST: Final[Params] = {"n_estimators": 100, "min_samples_leaf": 1}
CLASSIFIERS: Final = (
    Component(
        name="DecisionTree",
        suggest=_with_impurity(_suggest_tree),
        build=_tree(DecisionTreeClassifier),
        defaults={"criterion": "gini", **_TREE},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        seconds=_seconds_of_a_tree,
    ),
    Component(
        name="RandomForest",
        suggest=_with_impurity(_suggest_forest),
        build=_forest(RandomForestClassifier),
        defaults={"criterion": "gini", "max_features": 0.2, **_FOREST},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds_of_a_forest,
    ),
    Component(
        name="ExtremeRandomTrees",
        suggest=_with_impurity(_suggest_forest),
        build=_forest(ExtraTreesClassifier),
        defaults={"criterion": "gini", "max_features": 0.2, **_FOREST},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds_of_a_forest,
    ),
)
REGRESSORS: Final = (
    Component(
        name="DecisionTree",
        suggest=_suggest_tree,
        build=_tree(DecisionTreeRegressor),
        defaults=_TREE,
        scalers=TREE_SCALERS,
        takes_sparse=True,
        seconds=_seconds_of_a_tree,
    ),
    Component(
        name="RandomForest",
        suggest=_suggest_forest,
        build=_forest(RandomForestRegressor),
        defaults={"max_features": 0.5, **_FOREST},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds_of_a_forest,
    ),
    Component(
        name="ExtremeRandomTrees",
        suggest=_suggest_forest,
        build=_forest(ExtraTreesRegressor),
        defaults={"max_features": 0.8, **_FOREST},
        scalers=TREE_SCALERS,
        takes_sparse=True,
        fit_until=_fit_until,
        seconds=_seconds_of_a_forest,
    ),
)
