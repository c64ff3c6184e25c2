"""Exact SHAP values of linear models behind linear steps, in closed form."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlflow_automl_remote.explain.chains import Chain, Front
from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import Answer, margin_output, whole_output
from mlflow_automl_remote.explain.tables import Ints

LINEAR_STEPS: Final = frozenset(("PCA", "TruncatedSVD"))


def is_linear(front: Front) -> bool:
    """Whether the output is linear in what comes next: a value, or margins."""
    chain, model = front.rest, front.rest.model
    return (
        front.rows.is_plain
        and type(model).__module__.startswith(("sklearn.linear_model", "sklearn.svm"))
        and "coef_" in vars(model)
        and np.ndim(model.coef_) <= 2
        and (not chain.is_classifier or hasattr(model, "decision_function"))
        and all(type(step).__name__ in LINEAR_STEPS for step in chain.steps)
    )


def linear_output(chain: Chain) -> Answer:
    """Give the output that is linear: margins of a classifier, the value of a regression."""
    return margin_output(chain) if chain.is_classifier else whole_output(chain)[0]


class LinearValues:
    """A column's value is its slope times its distance from the background mean; see `Exact`.

    Args:
        front: The rows; what is behind must be linear.
        n_players: Raw columns.
    """

    def __init__(self, front: Front, n_players: int) -> None:
        rows = front.rows
        self._X = rows.X - rows.background.mean(axis=0)
        self._slopes = _slopes(front)
        self._order = np.argsort(front.player, kind="stable")
        self._players, self._starts = np.unique(front.player[self._order], return_index=True)
        self._n_players = n_players
        output = linear_output(front.rest)
        self.base_values: Floats = output(rows.restore(rows.background)).mean(axis=0)

    def values(self, rows: Ints) -> Floats:
        """Give (rows, players, outputs)."""
        n_outputs = self._slopes.shape[1]
        found = np.zeros((len(rows), self._n_players, n_outputs))
        moved, slopes = self._X[np.ix_(rows, self._order)], self._slopes[self._order]
        for output in range(n_outputs):
            parts = moved * slopes[:, output]
            found[:, self._players, output] = np.add.reduceat(parts, self._starts, axis=1)
        return found


def _slopes(front: Front) -> Floats:
    """Give the slope of each column of the front, (p, outputs)."""
    slopes = np.atleast_2d(np.asarray(front.rest.model.coef_, dtype=np.float64)).T
    for step in reversed(front.rest.steps):
        if getattr(step, "whiten", False):
            slopes = slopes / np.sqrt(step.explained_variance_)[:, np.newaxis]
        slopes = step.components_.T @ slopes
    if front.rest.is_classifier and slopes.shape[1] == 1:
        slopes = np.hstack([-slopes, slopes])
    return slopes[front.rows.columns]
