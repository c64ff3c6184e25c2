"""Exact SHAP values of trees of every library, for players that may be several columns each."""

from mlflow_automl_remote.explain.trees.forest import Forest, TooDeep
from mlflow_automl_remote.explain.trees.readers import Unreadable, can_read, read_forest
from mlflow_automl_remote.explain.trees.values import TreeValues

__all__ = ["Forest", "TooDeep", "TreeValues", "Unreadable", "can_read", "read_forest"]
