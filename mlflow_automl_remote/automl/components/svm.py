"""Support vector machines, with probabilities.

`SVC(probability=True)` is deprecated since scikit-learn 1.9, and it fits the kernel machine six
times per fit. `CalibratedClassifierCV(ensemble=False)` gives Platt's probabilities from
cross-validated margins of three folds and keeps one machine, fitted on all rows.

With more than two classes the margins must be one-against-rest: those that `SVC` makes of its
votes cannot be calibrated (digits, 5 folds: log loss 0.27 and AUC 0.995, not 0.06 and 0.9997).
"""

from __future__ import annotations

from typing import Final

import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC

from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)

CALIBRATION_FOLDS: Final = 3
_CACHE_MB: Final = 200
# Softmax of the margins over one temperature; unlike Platt's it keeps the order of the classes.
_HAS_TEMPERATURE: Final = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)


def _suggest_kernel(trial: Trial) -> Params:
    return {
        "C": trial.suggest_float("C", 1e-2, 1e3, log=True),
        "class_weight": trial.suggest_categorical("class_weight", [None, "balanced"]),
        **_suggest_gamma(trial),
    }


def _suggest_gamma(trial: Trial) -> Params:
    """Scikit-learn's own rule (1 / (n_features * variance of X)), or a number."""
    if trial.suggest_categorical("gamma_rule", ["scale", "value"]) == "scale":
        return {"gamma_rule": "scale"}
    gamma = trial.suggest_float("gamma_value", 1e-4, 1e1, log=True)
    return {"gamma_rule": "value", "gamma_value": gamma}


def _build_kernel(params: Params, context: BuildContext) -> Estimator:
    machine = SVC(
        C=params["C"],
        gamma=params.get("gamma_value", "scale"),
        class_weight=params["class_weight"],
        cache_size=_CACHE_MB,
    )
    if context.n_classes > 2:
        machine = OneVsRestClassifier(machine, n_jobs=context.n_jobs)
    return _with_probabilities(machine, context)


def _suggest_linear(trial: Trial) -> Params:
    return {
        "C": trial.suggest_float("C", 1e-3, 1e2, log=True),
        "class_weight": trial.suggest_categorical("class_weight", [None, "balanced"]),
    }


def _build_linear(params: Params, context: BuildContext) -> Estimator:
    return _with_probabilities(LinearSVC(random_state=context.seed, **params), context)


def _with_probabilities(machine: Estimator, context: BuildContext) -> Estimator:
    method = "temperature" if context.n_classes > 2 and _HAS_TEMPERATURE else "sigmoid"
    return CalibratedClassifierCV(  # type: ignore[no-any-return]
        machine, ensemble=False, cv=CALIBRATION_FOLDS, method=method
    )


def _seconds(context: BuildContext) -> float:
    n_fits = (CALIBRATION_FOLDS + 1) * context.n_outputs
    return 1.2e-9 * n_fits * context.n_rows**2 * max(context.n_values, 10)


def _seconds_of_linear(context: BuildContext) -> float:
    n_fits = (CALIBRATION_FOLDS + 1) * context.n_outputs
    return 4e-8 * n_fits * context.n_rows * context.n_values


CLASSIFIERS: Final = (
    Component(
        name="LinearSVM",
        suggest=_suggest_linear,
        build=_build_linear,
        defaults={"C": 1.0, "class_weight": None},
        takes_sparse=True,
        seconds=_seconds_of_linear,
    ),
    Component(
        name="SVM",
        suggest=_suggest_kernel,
        build=_build_kernel,
        defaults={"C": 10.0, "gamma_rule": "scale", "class_weight": None},
        scalers=("MaxAbsScaler", "MinMaxScaler", "PCA", "RobustScaler", "StandardScaler"),
        takes_sparse=True,
        takes_weights=False,  # one machine against the rest cannot pass them on
        seconds=_seconds,
    ),
)
