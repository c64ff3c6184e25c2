"""All components by name: to add one, write its file and name it here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlflow_automl_remote.automl.components import (
    catboost,
    gradient_boosting,
    hist_gradient_boosting,
    lightgbm,
    linear,
    mlp,
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

_FAMILIES_OF_BOTH: Final = (
    linear,
    sgd,
    neighbors,
    mlp,
    trees,
    gradient_boosting,
    hist_gradient_boosting,
    lightgbm,
    xgboost,
    catboost,
)
_CLASSIFIER_FAMILIES: Final = (*_FAMILIES_OF_BOTH, naive_bayes, svm)
_REGRESSOR_FAMILIES: Final = _FAMILIES_OF_BOTH

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
