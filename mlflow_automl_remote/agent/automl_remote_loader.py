"""Loads a classifier for `mlflow.pyfunc`: labels, or probabilities if a parameter asks for them.

A copy of this file lies in the folder of every classifier, because it is loaded where this package
is not installed. It uses nothing but MLflow and pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import mlflow.sklearn
import pandas as pd
from mlflow.exceptions import MlflowException

METHOD: Final = "predict_method"
METHODS: Final = ("predict", "predict_proba", "predict_log_proba")


class Classifier:
    """A fitted classifier as `mlflow.pyfunc` calls it."""

    def __init__(self, fitted: Any) -> None:
        self._fitted = fitted

    def get_raw_model(self) -> Any:
        """Give the pipeline itself."""
        return self._fitted

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Predict labels; or, by the parameter `predict_method`, a table with a column a class."""
        method = (params or {}).get(METHOD) or METHODS[0]
        if method not in METHODS:
            raise MlflowException.invalid_parameter_value(
                f"The parameter '{METHOD}' must be one of {', '.join(METHODS)}. "
                f"Got '{method}' instead."
            )
        predicted = getattr(self._fitted, method)(data)
        if method == METHODS[0]:
            return predicted
        return pd.DataFrame(predicted, columns=self._fitted.classes_.tolist())


def _load_pyfunc(path: str) -> Classifier:
    return Classifier(mlflow.sklearn.load_model(path))
