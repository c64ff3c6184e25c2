"""Label encoding for libraries that take only the classes 0, 1, ... n_classes - 1.

For all other labels the model is the one member of a soft `VotingClassifier`, which encodes them,
gives them back and needs none of our code.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from sklearn.ensemble import VotingClassifier

from mlflow_automl_remote.automl.assembly import voting_classifier
from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    EarlyStopping,
    Estimator,
    Part,
)


def with_labels(name: str, model: Estimator, context: BuildContext) -> Estimator:
    """Make a classifier of codes one of the labels of the data."""
    if context.labels_are_codes:
        return model
    return cast("Estimator", VotingClassifier([(name, model)], voting="soft"))


def parameter_of(model: Any, name: str) -> str:
    """Give the name that a parameter of the model itself has from outside."""
    if isinstance(model, VotingClassifier):
        return f"{model.estimators[0][0]}__{name}"
    return name


def fit_stopping_early(stopping: EarlyStopping, model: Any, fit: Part, stop: Part) -> int:
    """Fit a model, encoded or not, in place until `stop` gets no better; give the rounds."""
    if not isinstance(model, VotingClassifier):
        return stopping.fit(model, fit, stop)
    classes, codes = np.unique(fit.y, return_inverse=True)
    name, inner = model.estimators[0]
    rounds = stopping.fit(
        inner,
        Part(X=fit.X, y=codes, weight=fit.weight),
        Part(X=stop.X, y=np.searchsorted(classes, stop.y), weight=stop.weight),
    )
    vars(model).update(vars(voting_classifier({name: inner}, [1.0], classes)))
    return rounds
