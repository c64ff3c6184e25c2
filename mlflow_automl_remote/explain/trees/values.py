"""Interventional SHAP values of a forest: exact, for players of one or several columns.

For one leaf, one explained row and one background row, only this matters: which players on the
path the explained row alone satisfies, which the background row alone, and whether one of the two
satisfies each of them. With u and v players of the two kinds, the leaf's Shapley value is
(u - 1)! v! / (u + v)! of its value for each of the former and -u! (v - 1)! / (u + v)! for each of
the latter (Lundberg et al. 2020, "From local explanations to global understanding with explainable
AI for trees", algorithm 3). What a row fails on a path is one number with a bit per player; which
background rows fail a player is another one with a bit per row. So the few pairs that count are
found by a handful of operations on whole words.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.trees.forest import MAX_PLAYERS, Forest, Ints


class TreeValues:
    """Explains rows by a forest, against a background.

    Args:
        forest: The trees.
        background: Rows as the trees get them, (m, columns).
        player: To whom each column belongs, (columns,).
        n_players: How many players there are.

    Raises:
        TooDeep: A path has too many players.
    """

    def __init__(
        self, forest: Forest, background: Floats, *, player: Ints, n_players: int
    ) -> None:
        self._forest = forest
        self._left = forest.goes_left(background)
        self._n_players = n_players
        self._paths = [
            paths.of_size(int(size))
            for paths in forest.paths(player)
            for size in np.unique(paths.n_players)
            if size > 0
        ]
        self.base_values: Floats = forest.output(background).mean(axis=0)

    def __call__(self, Z: Floats) -> Floats:
        """Give the values of rows, (rows, players, outputs)."""
        from mlflow_automl_remote.explain.trees.compiled import add_shares

        left = self._forest.goes_left(Z)
        values: Floats = np.zeros((len(Z), self._n_players, self._forest.value.shape[1]))
        for paths in self._paths:
            add_shares(
                values,
                left,
                self._left,
                paths.condition,
                paths.slot,
                paths.players,
                self._forest.value[paths.leaf],
                _weights(),
            )
        values /= self._left.shape[1]
        return values


@cache
def _weights() -> Floats:
    """Table a! b! / (a + b + 1)! for a and b up to the number of players of a path."""
    sizes = range(MAX_PLAYERS + 1)
    return np.array([[1 / ((a + b + 1) * math.comb(a + b, a)) for b in sizes] for a in sizes])
