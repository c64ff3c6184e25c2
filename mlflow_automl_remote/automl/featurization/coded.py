"""Gives codes of categories the type by which a model knows them from numbers.

Travels with the models that use it: imports nothing of this package.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin


class CodesAsIntegers(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Makes a table of numbers: its first columns are whole, as CatBoost wants categories.

    Args:
        n_codes: How many columns, the first, are codes of categories.
    """

    def __init__(self, n_codes: int = 0) -> None:
        self.n_codes = n_codes

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn nothing but the width."""
        del y
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Give the same numbers as columns of two types."""
        values = np.asarray(X)
        columns = {
            at: values[:, at].astype(np.int32) if at < self.n_codes else values[:, at]
            for at in range(values.shape[1])
        }
        return pd.DataFrame(columns, copy=False)
