"""Answers of a kernel SVM by matrix products; libsvm asks row by row, ten times as slowly.

A sampled explanation asks a model for hundreds of thousands of rows, and nothing else takes so
long.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import Steps, whole_output

Floats32 = NDArray[np.float32]

ROWS_AT_ONCE: Final = 4096
CLOSE: Final = 1e-4
"""How far an answer may be from libsvm's, relative where it is over 1."""


def accelerated(steps: Steps, X: Floats) -> Steps:
    """Give the same pipeline with fast SVMs inside, or the pipeline itself.

    Args:
        steps: The pipeline; it is not changed.
        X: Rows on which the answers must agree with libsvm's, (n, d).
    """
    model = _fast(steps.model)
    if model is None:
        return steps
    pipeline = Pipeline([*steps.pipeline.steps[:-1], (steps.pipeline.steps[-1][0], model)])
    fast = dataclasses.replace(steps, pipeline=pipeline, model=model)
    theirs, ours = whole_output(steps)[0](X), whole_output(fast)[0](X)
    return fast if np.allclose(theirs, ours, rtol=CLOSE, atol=CLOSE) else steps


def _fast(model: object) -> SVC | CalibratedClassifierCV | None:
    if isinstance(model, SVC) and model.kernel in _KERNELS and not hasattr(model, "predict_proba"):
        return _fast_svc(model)
    if not isinstance(model, CalibratedClassifierCV):
        return None
    inner = [calibrated.estimator for calibrated in model.calibrated_classifiers_]
    if not all(isinstance(svc, SVC) and svc.kernel in _KERNELS for svc in inner):
        return None
    fast = copy.copy(model)
    fast.calibrated_classifiers_ = [copy.copy(one) for one in model.calibrated_classifiers_]
    for calibrated, svc in zip(fast.calibrated_classifiers_, inner, strict=True):
        calibrated.estimator = _fast_svc(svc)
    return fast


def _rbf(products: Floats32, X: Floats32, support: Floats32, svc: Any) -> Floats32:
    squares = (X**2).sum(axis=1)[:, np.newaxis] + (support**2).sum(axis=1) - 2 * products
    kernel: Floats32 = np.exp(np.float32(-svc._gamma) * squares)
    return kernel


def _poly(products: Floats32, X: Floats32, support: Floats32, svc: Any) -> Floats32:
    result: Floats32 = (np.float32(svc._gamma) * products + np.float32(svc.coef0)) ** svc.degree
    return result


def _sigmoid(products: Floats32, X: Floats32, support: Floats32, svc: Any) -> Floats32:
    kernel: Floats32 = np.tanh(np.float32(svc._gamma) * products + np.float32(svc.coef0))
    return kernel


def _linear(products: Floats32, X: Floats32, support: Floats32, svc: Any) -> Floats32:
    return products


_KERNELS: Final[Mapping[str, Callable[[Floats32, Floats32, Floats32, Any], Floats32]]] = {
    "rbf": _rbf,
    "poly": _poly,
    "sigmoid": _sigmoid,
    "linear": _linear,
}


class _FastSVC(SVC):  # type: ignore[misc]
    """An SVC that was fitted by scikit-learn and answers by matrix products."""

    def _decision_function(self, X: ArrayLike) -> Floats:
        """Give the margins of each pair of classes, (n, pairs), or (n,) for two classes."""
        table = np.asarray(X, dtype=np.float64)
        parts = [
            self._margins(table[start : start + ROWS_AT_ONCE])
            for start in range(0, len(table), ROWS_AT_ONCE)
        ]
        margins = np.concatenate(parts)
        return margins[:, 0] if len(self.classes_) == 2 else margins

    def _margins(self, X: Floats) -> Floats:
        # Distances do not change when the origin moves, and keep their digits near it.
        origin = self.support_vectors_.mean(axis=0) if self.kernel == "rbf" else 0.0
        near = (X - origin).astype(np.float32)
        support = (self.support_vectors_ - origin).astype(np.float32)
        kernel = _KERNELS[self.kernel](near @ support.T, near, support, self)
        margins: Floats = kernel @ self.pair_weights_ + self.intercept_
        return margins


def _fast_svc(svc: SVC) -> _FastSVC:
    fast = _FastSVC(**svc.get_params(deep=False))
    fast.__dict__.update(vars(svc))
    fast.pair_weights_ = _pair_weights(svc).astype(np.float32)
    return fast


def _pair_weights(svc: SVC) -> Floats:
    """Spread libsvm's packed coefficients over one column per pair, (support vectors, pairs)."""
    n_classes = len(svc.classes_)
    if n_classes == 2:
        return np.asarray(svc.dual_coef_).T
    ends = np.cumsum(svc.n_support_)
    of_class = [slice(end - n, end) for end, n in zip(ends, svc.n_support_, strict=True)]
    pairs = list(combinations(range(n_classes), 2))
    weights = np.zeros((len(svc.support_vectors_), len(pairs)))
    for column, (i, j) in enumerate(pairs):
        weights[of_class[i], column] = svc.dual_coef_[j - 1, of_class[i]]
        weights[of_class[j], column] = svc.dual_coef_[i, of_class[j]]
    return weights
