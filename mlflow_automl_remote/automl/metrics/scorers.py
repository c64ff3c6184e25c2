"""Scorers of scikit-learn, by their names, on predictions that are there already."""

from __future__ import annotations

import math
import warnings
from typing import Final, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer

from mlflow_automl_remote.automl.dataset import FloatArray, Labels
from mlflow_automl_remote.errors import DataError

_WITHOUT_WEIGHTS: Final = frozenset(
    ("neg_max_error", "neg_negative_likelihood_ratio", "positive_likelihood_ratio")
)
_MAX_ROWS: Final = 1_000  # as many as tell whether a scorer takes such targets
_NO_FEATURES: Final = np.empty((0, 0))


class _Predicted(BaseEstimator):  # type: ignore[misc]
    """Stands in for a fitted pipeline, so that scorers are called as they are meant to be."""

    def __init__(self, predicted: FloatArray) -> None:
        self.predicted_ = predicted


class _Classifier(ClassifierMixin, _Predicted):  # type: ignore[misc]
    """Classes are their positions: labels of any type then do for any scorer."""

    @property
    def classes_(self) -> Labels:
        return np.arange(self.predicted_.shape[1])

    def predict(self, _: object) -> Labels:
        return cast("Labels", self.predicted_.argmax(axis=1))

    def predict_proba(self, _: object) -> FloatArray:
        return self.predicted_


class _Regressor(RegressorMixin, _Predicted):  # type: ignore[misc]
    def predict(self, _: object) -> FloatArray:
        return self.predicted_


def score_by_scorer(
    name: str,
    y_true: Labels,
    predicted: FloatArray,
    *,
    classes: Labels | None = None,
    positive: int | None = None,
    sample_weight: FloatArray | None = None,
) -> float:
    """Give what a scorer of scikit-learn says: greater is better; NaN where it says nothing.

    Args:
        name: As `sklearn.metrics.get_scorer` knows it.
        y_true: Labels or numbers, of shape (n_rows,).
        predicted: Probabilities of shape (n_rows, n_classes), columns in the order of `classes`;
            or numbers of shape (n_rows,).
        classes: All labels, sorted; None for regression.
        positive: Position of the positive one of two classes; None for the second.
        sample_weight: Weights of the rows, of shape (n_rows,); left out where the scorer takes
            none. None for equal ones.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _score(name, y_true, predicted, classes, positive, sample_weight)
    except ValueError:  # such as a class that is not in this fold
        return math.nan


def refuse_unfit(name: str, y: Labels, classes: Labels | None, positive: int | None) -> None:
    """Try a scorer on the targets themselves, before anything is fitted.

    Raises:
        DataError: It takes no such targets, as `f1` takes two classes only.
    """
    if classes is None:
        some = np.concatenate([y[:_MAX_ROWS], [y.min(), y.max()]])
        predicted = cast("FloatArray", some)
    else:
        some = np.concatenate([y[:_MAX_ROWS], classes, classes])
        predicted = np.eye(len(classes))[np.searchsorted(classes, some)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _score(name, some, predicted, classes, positive, None)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"The scorer '{name}' of scikit-learn, the 'primary_metric', does not take this y: "
            f"{reason} Choose another metric."
        ) from error


def _score(
    name: str,
    y_true: Labels,
    predicted: FloatArray,
    classes: Labels | None,
    positive: int | None,
    weight: FloatArray | None,
) -> float:
    pairwise = name.startswith("roc_auc_ovo") and predicted.shape[1] > 2
    unweighted = weight is None or name in _WITHOUT_WEIGHTS or pairwise
    given = {} if unweighted else {"sample_weight": weight}
    scorer = get_scorer(name)
    if classes is None:
        return float(scorer(_Regressor(predicted), _NO_FEATURES, y_true, **given))
    codes = np.searchsorted(classes, y_true)
    if positive == 0:  # scorers take the last of two classes for the positive one
        codes, predicted = 1 - codes, predicted[:, ::-1]
    return float(scorer(_Classifier(predicted), _NO_FEATURES, codes, **given))
