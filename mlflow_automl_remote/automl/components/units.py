"""Regression without units: targets of mean 0 and deviation 1, for models that need them.

The penalty of a linear model and the steps of a network mean little where targets are prices in
one table and shares in another. What such a model has learned is turned back into the units of the
data in its last coefficients, so that it needs nothing around it to predict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from sklearn.linear_model import ElasticNet, LassoLars, SGDRegressor
from sklearn.neural_network import MLPRegressor

from mlflow_automl_remote.automl.dataset import Labels

_LINEAR: Final = (ElasticNet, LassoLars, SGDRegressor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Of targets.

    Attributes:
        mean: Their mean.
        deviation: Their standard deviation; 1 where all are equal.
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, y: Labels) -> Self:
        """Give those of targets, of shape (n_rows,)."""
        numbers = np.asarray(y, dtype=np.float64)
        return cls(mean=float(numbers.mean()), deviation=float(numbers.std()) or 1.0)

    def without(self, y: Labels) -> Labels:
        """Give targets as a model is to learn them."""
        return (np.asarray(y, dtype=np.float64) - self.mean) / self.deviation

    def turn_back(self, model: Any) -> None:
        """Let a model, fitted on targets without units, predict in them."""
        if isinstance(model, MLPRegressor):
            model.coefs_[-1] = model.coefs_[-1] * self.deviation
            model.intercepts_[-1] = model.intercepts_[-1] * self.deviation + self.mean
        else:
            model.coef_ = model.coef_ * self.deviation
            model.intercept_ = model.intercept_ * self.deviation + self.mean


def matter_to(model: object) -> bool:
    """Whether a model learns something else where targets have other units."""
    return isinstance(model, (*_LINEAR, MLPRegressor))


def fit(model: Any, X: Any, y: Labels, **options: Any) -> Any:
    """Fit a model, without units where they matter to it; give the model.

    Args:
        model: Any unfitted estimator.
        X: Features, of shape (n_rows, n_features).
        y: Targets or labels, of shape (n_rows,).
        options: Further ones of its `fit`, such as weights of rows.
    """
    if not matter_to(model):
        return model.fit(X, y, **options)
    units = Units.of(y)
    model.fit(X, units.without(y), **options)
    units.turn_back(model)
    return model
