"""Finds out how to read the trees of a fitted model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mlflow_automl_remote.explain.trees import boosters, sklearn_trees
from mlflow_automl_remote.explain.trees.forest import Forest
from mlflow_automl_remote.explain.trees.sklearn_trees import Unreadable

__all__ = ["Unreadable", "can_read", "read_forest"]

_LOG_LINKS: Final = ("poisson", "gamma", "tweedie")
_FORESTS: Final = ("RandomForest", "ExtraTrees")
_READERS: Final[Mapping[str, Callable[[Any], Forest]]] = {
    **{f"DecisionTree{task}": sklearn_trees.read_tree for task in ("Classifier", "Regressor")},
    **{
        f"{name}{task}": sklearn_trees.read_forest
        for name in _FORESTS
        for task in ("Classifier", "Regressor")
    },
    **{
        f"GradientBoosting{task}": sklearn_trees.read_boosting
        for task in ("Classifier", "Regressor")
    },
    **{
        f"HistGradientBoosting{task}": sklearn_trees.read_histograms
        for task in ("Classifier", "Regressor")
    },
    **{f"LGBM{task}": boosters.read_lightgbm for task in ("Classifier", "Regressor")},
    **{f"XGB{task}": boosters.read_xgboost for task in ("Classifier", "Regressor")},
    **{f"CatBoost{task}": boosters.read_catboost for task in ("Classifier", "Regressor")},
}


def can_read(model: object) -> bool:
    """Whether this is a model of trees that add up to what it predicts, or to margins."""
    return type(model).__name__ in _READERS and not _has_log_link(model)


def _has_log_link(model: Any) -> bool:
    """Whether the trees of a regression add up to the logarithm of what it predicts."""
    params = model.get_params(deep=False)
    names = [str(params.get(name)).lower() for name in ("objective", "loss", "loss_function")]
    return any(word in name for name in names for word in _LOG_LINKS)


def read_forest(model: Any) -> Forest:
    """Read the trees of a fitted model.

    Raises:
        Unreadable: It is of no known kind, or of a kind whose trees do not just add up.
    """
    if not can_read(model):
        raise Unreadable(type(model).__name__)
    return _READERS[type(model).__name__](model)
