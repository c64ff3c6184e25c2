"""Label encoding for libraries that take only the classes 0, 1, ... n_classes - 1.

For all other labels the model is the one member of a soft `VotingClassifier`, which encodes them,
gives them back and needs none of our code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from sklearn.ensemble import VotingClassifier

from mlflow_automl_remote.automl.assembly import voting_classifier
from mlflow_automl_remote.automl.components import units
from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    EarlyStopping,
    Estimator,
    FitUntil,
    Pace,
    Part,
)
from mlflow_automl_remote.automl.dataset import Labels


def with_labels(
    name: str, model: Estimator, context: BuildContext, *, always: bool = False
) -> Estimator:
    """Make a classifier of codes one of the labels of the data.

    Args:
        name: Of the member.
        model: The classifier.
        context: Says what the labels are.
        always: Even where they are codes: what it predicts has another shape than theirs.
    """
    if context.labels_are_codes and not always:
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
    classes = np.unique(fit.y)
    inner = model.estimators[0][1]
    rounds = stopping.fit(inner, _coded(fit, classes), _coded(stop, classes))
    _take_in(model, classes)
    return rounds


def fit_until(how: FitUntil, model: Any, fit: Part, stop: Part | None, pace: Pace) -> Pace:
    """Fit a model in place against the clock, on codes or targets without units if it needs them.

    How it ends, see `FitUntil`.
    """
    if units.matter_to(model):
        of = units.Units.of(fit.y)
        watched = None if stop is None else replace(stop, y=of.without(stop.y))
        done = how(model, replace(fit, y=of.without(fit.y)), watched, pace)
        of.turn_back(model)
        return done
    if not isinstance(model, VotingClassifier):
        return how(model, fit, stop, pace)
    classes = np.unique(fit.y)
    inner = model.estimators[0][1]
    watched = None if stop is None else _coded(stop, classes)
    done = how(inner, _coded(fit, classes), watched, pace)
    _take_in(model, classes)
    return done


def _coded(part: Part, classes: Labels) -> Part:
    return Part(X=part.X, y=np.searchsorted(classes, part.y), weight=part.weight)


def _take_in(model: VotingClassifier, classes: Labels) -> None:
    """Make a fitted ensemble of one whose member has been fitted."""
    name, inner = model.estimators[0]
    vars(model).update(vars(voting_classifier({name: inner}, [1.0], classes)))
