"""Puts fitted models together into scikit-learn's ensembles without fitting any of them again.

What comes out is of scikit-learn's own classes, so it loads and predicts without our code. Their
`fit` would fit every member; here the attributes that it would set are set from what is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import logit
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder
from sklearn.utils import Bunch

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.components.base import Estimator
    from mlflow_automl_remote.automl.dataset import Labels

LEAST_PROBABILITY: Final = 1e-12
"""Smaller ones are taken for this where their logarithm is needed."""


def voting_classifier(
    members: Mapping[str, Estimator], weights: Sequence[float], classes: Labels
) -> VotingClassifier:
    """Average the probabilities of fitted classifiers.

    Args:
        members: Fitted on the same labels, by name.
        weights: One per member, in order.
        classes: Sorted labels, the columns of every member's probabilities.
    """
    ensemble = VotingClassifier(list(members.items()), voting="soft", weights=list(weights))
    ensemble.le_ = LabelEncoder().fit(classes)
    ensemble.classes_ = ensemble.le_.classes_
    return _with_members(ensemble, members)


def voting_regressor(
    members: Mapping[str, Estimator], weights: Sequence[float]
) -> VotingRegressor:
    """Average the predictions of fitted regressors."""
    ensemble = VotingRegressor(list(members.items()), weights=list(weights))
    return _with_members(ensemble, members)


def stacking_classifier(
    members: Mapping[str, Estimator], final: Estimator, classes: Labels
) -> StackingClassifier:
    """Let a classifier of probabilities, fitted on class numbers, decide.

    Args:
        members: Fitted on the same labels, by name.
        final: Fitted on the members' probabilities side by side (of two classes the second only)
            and on the classes 0, 1, ... n_classes - 1.
        classes: Sorted labels, the columns of every member's probabilities.
    """
    ensemble = StackingClassifier(list(members.items()), final, stack_method="predict_proba")
    ensemble.stack_method_ = ["predict_proba"] * len(members)
    ensemble._label_encoder = LabelEncoder().fit(classes)
    ensemble.classes_ = ensemble._label_encoder.classes_
    ensemble.final_estimator_ = final
    return _with_members(ensemble, members)


def at_temperature(vote: VotingClassifier, temperature: float) -> StackingClassifier:
    """Raise a vote's probabilities to the power of one over a temperature, and normalise them.

    That is a logistic regression on their logarithms, or of two classes on their log odds.
    """
    n_classes = len(vote.classes_)
    final = LogisticRegression()
    final.classes_ = np.arange(n_classes)
    final.coef_ = np.eye(1 if n_classes == 2 else n_classes) / temperature
    final.intercept_ = np.zeros(len(final.coef_))
    final.n_features_in_ = len(final.coef_)
    limits = {"a_min": LEAST_PROBABILITY, "a_max": 1 - LEAST_PROBABILITY}
    logarithm = logit if n_classes == 2 else np.log
    steps = (FunctionTransformer(np.clip, kw_args=limits), FunctionTransformer(logarithm), final)
    return stacking_classifier({"vote": vote}, make_pipeline(*steps), vote.classes_)


def stacking_regressor(members: Mapping[str, Estimator], final: Estimator) -> StackingRegressor:
    """Let a regressor, fitted on the members' predictions side by side, decide."""
    ensemble = StackingRegressor(list(members.items()), final)
    ensemble.stack_method_ = ["predict"] * len(members)
    ensemble.final_estimator_ = final
    return _with_members(ensemble, members)


def _with_members(ensemble: Any, members: Mapping[str, Estimator]) -> Any:
    ensemble.estimators_ = list(members.values())
    ensemble.named_estimators_ = Bunch(**members)
    names = getattr(ensemble.estimators_[0], "feature_names_in_", None)
    if names is not None:
        ensemble.feature_names_in_ = names
    return ensemble
