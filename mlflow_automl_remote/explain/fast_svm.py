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
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from mlflow_automl_remote.explain.chains import Chain, Front
from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import whole_output

Floats32 = NDArray[np.float32]

ROWS_AT_ONCE: Final = 4096
CLOSE: Final = 1e-4
"""How far an answer may be from libsvm's, relative where it is over 1."""


def accelerated(front: Front) -> Chain:
    """Give what is behind a front with fast SVMs inside, or as it is.

    The answers for the background rows must agree with libsvm's.
    """
    chain = front.rest
    model = _fast(chain.model)
    if model is None:
        return chain
    fast = dataclasses.replace(chain, model=model)
    table = front.rows.restore(front.rows.background)
    try:
        theirs, ours = whole_output(chain)[0](table), whole_output(fast)[0](table)
    except (TypeError, ValueError):  # a sparse matrix, which libsvm takes and we do not
        return chain
    return fast if np.allclose(theirs, ours, rtol=CLOSE, atol=CLOSE) else chain


def _fast(model: Any) -> Any:
    """Give a copy of a model with fast SVMs; None where there is no kernel machine in it."""
    if isinstance(model, SVC):
        plain = model.kernel in _KERNELS and not hasattr(model, "predict_proba")
        return _fast_svc(model) if plain else None
    if isinstance(model, OneVsRestClassifier):
        machines = [_fast(one) for one in model.estimators_]
        return _copy(model, estimators_=machines) if all(machines) else None
    if not isinstance(model, CalibratedClassifierCV):
        return None
    machines = [_fast(one.estimator) for one in model.calibrated_classifiers_]
    if any(machine is None for machine in machines):
        return None
    calibrated = [
        _copy(one, estimator=machine)
        for one, machine in zip(model.calibrated_classifiers_, machines, strict=True)
    ]
    return _copy(model, calibrated_classifiers_=calibrated)


def _copy(model: Any, **changes: object) -> Any:
    found = copy.copy(model)
    vars(found).update(changes)
    return found


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
