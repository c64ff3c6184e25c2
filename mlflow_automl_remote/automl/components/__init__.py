"""All components by name: to add one, write its file and name it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlflow_automl_remote.automl.components import (
    gradient_boosting,
    lightgbm,
    linear,
    naive_bayes,
    neighbors,
    scalers,
    sgd,
    svm,
    trees,
    xgboost,
)
from mlflow_automl_remote.automl.components.base import Component
from mlflow_automl_remote.config import Task

_CLASSIFIER_FAMILIES: Final = (
    linear,
    sgd,
    naive_bayes,
    neighbors,
    svm,
    trees,
    gradient_boosting,
    lightgbm,
    xgboost,
)
_REGRESSOR_FAMILIES: Final = (linear, sgd, neighbors, trees, gradient_boosting, lightgbm, xgboost)

SCALERS: Final[Mapping[str, Component]] = {
    component.name: component for component in scalers.SCALERS
}
MODELS: Final[Mapping[Task, Mapping[str, Component]]] = {
    "classification": {
        component.name: component
        for family in _CLASSIFIER_FAMILIES
        for component in family.CLASSIFIERS
    },
    "regression": {
        component.name: component
        for family in _REGRESSOR_FAMILIES
        for component in family.REGRESSORS
    },
}
