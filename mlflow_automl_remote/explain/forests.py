"""Explains models of trees; the output is probabilities, a value, or the margins that add up."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np

from mlflow_automl_remote.explain.chains import Chain, Front, ask, is_classifier, per_class
from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.outputs import Answer, whole_output
from mlflow_automl_remote.explain.tables import Ints
from mlflow_automl_remote.explain.trees import TreeValues, Unreadable, can_read, read_forest
from mlflow_automl_remote.explain.trees.forest import LEAF

_MARGIN: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "LGBMClassifier": ("predict", {"raw_score": True}),
    "XGBClassifier": ("predict", {"output_margin": True}),
    "CatBoostClassifier": ("predict", {"prediction_type": "RawFormulaVal"}),
    "GradientBoostingClassifier": ("decision_function", {}),
    "HistGradientBoostingClassifier": ("decision_function", {}),
}
"""How boosters are asked for what their trees add up to; they alone have it."""
_ZERO_IS_MISSING: Final = ("XGBClassifier", "XGBRegressor")
"""These take what a sparse matrix leaves out for missing values."""


def is_forest(front: Front) -> bool:
    """Whether a model of trees is next, without steps between that mix columns."""
    return front.rows.is_plain and not front.rest.steps and can_read(front.rest.model)


def space_of(model: object) -> OutputSpace:
    """Say what the trees of a model add up to."""
    if not is_classifier(model):
        return "value"
    return "margin" if type(model).__name__ in _MARGIN else "probability"


def forest_output(chain: Chain) -> Answer:
    """Give the output that the trees of a chain's model add up to, from raw rows."""
    if type(chain.model).__name__ not in _MARGIN:
        return whole_output(chain)[0]
    method, options = _MARGIN[type(chain.model).__name__]

    def answer(X: Any) -> Floats:
        for step in chain.steps:
            X = ask(step, "transform", X)
        return per_class(ask(chain.model, method, X, **options))

    return answer


class ForestValues:
    """Exact values by the trees themselves; see `Exact`.

    Args:
        front: The rows, in front of a model of trees.
        n_players: Raw columns.

    Raises:
        Unreadable: The trees do not just add up, or cannot be read.
        TooDeep: A path asks about more columns than can be counted.
    """

    def __init__(self, front: Front, n_players: int) -> None:
        model = front.rest.model
        forest = read_forest(model)
        used = np.unique(forest.column[forest.column >= 0])
        self._Z, background, player = _seen_by_trees(front, used)
        forest = dataclasses.replace(
            forest,
            column=np.where(forest.column >= 0, np.searchsorted(used, forest.column), LEAF),
        )
        self._by_trees = TreeValues(forest, background, player=player, n_players=n_players)
        self._n_outputs = front.rest.n_outputs
        output = forest_output(front.rest)
        first = output(front.rows.restore(front.rows.background[:1]))
        # What no tree holds: the score that boosting began with.
        start = first - self._per_output(forest.output(background[:1]))
        self.base_values: Floats = (
            self._per_output(self._by_trees.base_values[np.newaxis]) + start
        )[0]

    def values(self, rows: Ints) -> Floats:
        """Give (rows, players, outputs)."""
        return self._per_output(self._by_trees(self._Z[rows]))

    def _per_output(self, values: Floats) -> Floats:
        """Show the one margin of two classes as both, on the last axis."""
        if values.shape[-1] == self._n_outputs:
            return values
        if self._n_outputs == 2:
            return np.concatenate([-values, values], axis=-1)
        raise Unreadable("other outputs than the model")


def _seen_by_trees(front: Front, used: Ints) -> tuple[Floats, Floats, Ints]:
    """Give the columns that trees ask about: rows, background, and to whom each belongs."""
    rows, model = front.rows, front.rest.model
    if getattr(model, "_preprocessor", None) is not None:  # it puts categories first
        is_category = np.asarray(model.is_categorical_)
        order = np.concatenate([np.flatnonzero(is_category), np.flatnonzero(~is_category)])[used]
        X, background = (
            np.asarray(model._preprocess_X(rows.restore(Z), reset=False), dtype=np.float64)
            for Z in (rows.X, rows.background)
        )
        return X[:, used], background[:, used], front.player[order]
    absent = np.nan if rows.is_sparse and type(model).__name__ in _ZERO_IS_MISSING else 0.0
    place = np.minimum(np.searchsorted(rows.columns, used), max(len(rows.columns) - 1, 0))
    there = np.isin(used, rows.columns)  # the others are zero in all of these rows

    def seen(Z: Floats) -> Floats:
        found = np.zeros((len(Z), len(used)))
        found[:, there] = Z[:, place[there]]
        return np.where(found == 0, absent, found) if rows.is_sparse else found

    player = np.zeros(len(used), dtype=np.intp)
    player[there] = front.player[place[there]]
    return seen(rows.X), seen(rows.background), player
