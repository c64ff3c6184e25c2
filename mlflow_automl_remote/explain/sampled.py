"""SHAP values of any model from its answers alone: all coalitions, or sampled permutations.

A coalition takes some columns from the row and the others from a background row. With few columns
all coalitions are asked for, and the values are exact; otherwise random orders of the columns are
walked forth and back (antithetic), each against one background row, all background rows equally
often. The differences along a walk telescope, so the values of a row always add up to its output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.chains import Front
from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import Answer, Attributed
from mlflow_automl_remote.explain.tables import Ints

N_BACKGROUND: Final = 20
MIN_BACKGROUND: Final = 5
N_EVALUATIONS: Final = 2560
"""Model answers per explained row; more when the columns are many."""
MAX_EVALUATIONS: Final = 8192
"""Above this many answers per row, the background is cut."""
MAX_ROUNDS: Final = 16
N_ASKED: Final = 8_192
"""Answers that a model is asked for between two looks at the budget."""
N_CELLS: Final = 2_000_000
"""Cells of a table of coalitions that is built at once."""


def n_background_for(n_players: int) -> int:
    """Say how many background rows are worth their time."""
    return min(N_BACKGROUND, max(MIN_BACKGROUND, MAX_EVALUATIONS // (2 * n_players)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """A model that is asked for mixed rows, from one place of its pipeline on.

    Attributes:
        front: The rows at this place.
        output: From there to (rows, outputs).
    """

    front: Front
    output: Answer

    def differs(self, rows: Ints, n_players: int) -> NDArray[np.bool_]:
        """Say in which players rows differ from any background row, (players,)."""
        X, background = self.front.rows.X[rows], self.front.rows.background
        same = np.ones(X.shape[1], dtype=bool)
        for column in range(X.shape[1]):
            seen = np.concatenate([X[:, column], background[:, column]])
            same[column] = bool((seen == seen[0]).all() or np.isnan(seen).all())
        found = np.zeros(n_players, dtype=bool)
        found[self.front.player[~same]] = True
        return found

    def answer(
        self, taken: NDArray[np.bool_], place: Ints, rows: Ints, backgrounds: Ints
    ) -> Floats:
        """Ask for mixed rows.

        Args:
            taken: Which players are taken from the explained row, (k, active players).
            place: Where each player is among the active ones, or -1; (players,).
            rows: The explained row of each, (k,).
            backgrounds: The background row of each, (k,).
        """
        encoded, at = self.front.rows, place[self.front.player]
        mixed = encoded.background[backgrounds]
        moved = np.flatnonzero(at >= 0)
        here = encoded.X[rows[:, np.newaxis], moved]
        mixed[:, moved] = np.where(taken[:, at[moved]], here, mixed[:, moved])
        return self.output(encoded.restore(mixed))


class Sampler:
    """Explains rows by asking models, whose answers add up.

    Args:
        models: What is asked; all of them have the same background.
        n_players: Raw columns.
        seed: Of the sampled orders.
    """

    def __init__(self, models: Sequence[Asked], *, n_players: int, seed: int) -> None:
        self._models = tuple(models)
        self._n_players = n_players
        self._seed = seed
        rows = models[0].front.rows
        self._n_background = len(rows.background)
        everything = np.arange(len(rows.X))
        self.n_active = int(self._differs(everything).sum())
        self.base_values: Floats = np.sum(
            [one.output(one.front.rows.restore(one.front.rows.background)) for one in models],
            axis=0,
        ).mean(axis=0)
        self.is_exact = (1 << min(self.n_active, 62)) * self._n_background <= N_EVALUATIONS

    @property
    def n_rows_at_once(self) -> int:
        """Rows that are asked for between two looks at the budget."""
        per_row = 1 << self.n_active if self.is_exact else 2 * self.n_active * self._n_rounds
        return max(1, N_ASKED // (per_row * self._n_background))

    @property
    def _n_rounds(self) -> int:
        per_round = 2 * max(self.n_active, 1) * self._n_background
        return min(MAX_ROUNDS, max(1, N_EVALUATIONS // per_round))

    def attribute(self, rows: Ints) -> Attributed:
        """Explain rows by their numbers; each draws its own orders, whatever rows come with it."""
        active = np.flatnonzero(self._differs(rows))
        place = np.full(self._n_players, -1)
        place[active] = np.arange(len(active))
        n_outputs = len(self.base_values)
        values = np.zeros((len(rows), self._n_players, n_outputs))
        errors = np.zeros_like(values)
        if len(active):
            explain = self._by_coalitions if self.is_exact else self._by_walks
            values[:, active], errors[:, active] = explain(rows, place, len(active))
        return Attributed(values=values, squared_error=errors)

    def _differs(self, rows: Ints) -> NDArray[np.bool_]:
        found = [one.differs(rows, self._n_players) for one in self._models]
        both: NDArray[np.bool_] = np.logical_or.reduce(found)
        return both

    def _answer(
        self, taken: NDArray[np.bool_], place: Ints, rows: Ints, backgrounds: Ints
    ) -> Floats:
        total = self._models[0].answer(taken, place, rows, backgrounds)
        for one in self._models[1:]:
            total = total + one.answer(taken, place, rows, backgrounds)
        return total

    def _by_coalitions(self, rows: Ints, place: Ints, n_active: int) -> tuple[Floats, Floats]:
        masks, weights = _coalitions(n_active)
        m = self._n_background
        answers = self._answer(
            np.tile(masks, (len(rows) * m, 1)),
            place,
            rows.repeat(m * len(masks)),
            np.tile(np.arange(m).repeat(len(masks)), len(rows)),
        )
        mean = answers.reshape(len(rows), m, len(masks), -1).mean(axis=1)
        values: Floats = weights @ mean
        return values, np.zeros_like(values)

    def _by_walks(self, rows: Ints, place: Ints, n_active: int) -> tuple[Floats, Floats]:
        n_walks = self._n_rounds * self._n_background
        orders = np.concatenate([self._orders(int(row), n_walks, n_active) for row in rows])
        row_of = rows.repeat(n_walks)
        background_of = np.tile(np.arange(self._n_background), len(rows) * self._n_rounds)
        at_once = max(1, N_CELLS // (2 * n_active**2))
        samples = np.concatenate(
            [
                self._walk(orders[part], place, row_of[part], background_of[part])
                for part in (
                    slice(start, start + at_once) for start in range(0, len(orders), at_once)
                )
            ]
        )
        shape = (len(rows), self._n_rounds, self._n_background, n_active, -1)
        return _averaged(samples.reshape(shape))

    def _orders(self, row: int, n_walks: int, n_active: int) -> Ints:
        rng = np.random.default_rng([self._seed, row])
        return rng.permuted(np.tile(np.arange(n_active), (n_walks, 1)), axis=1)

    def _walk(self, orders: Ints, place: Ints, rows: Ints, backgrounds: Ints) -> Floats:
        """Give one sample of the values per walk, (walks, active players, outputs)."""
        n_walks, n_active = orders.shape
        turn = np.argsort(orders, axis=1)
        taken = turn[:, np.newaxis, :] < np.arange(n_active + 1)[:, np.newaxis]
        # The walk back takes the columns in reverse, so it passes the complements.
        asked = np.concatenate([taken, ~taken[:, 1:-1]], axis=1).reshape(-1, n_active)
        answers = self._answer(
            asked, place, rows.repeat(2 * n_active), backgrounds.repeat(2 * n_active)
        ).reshape(n_walks, 2 * n_active, -1)
        begin, end = answers[:, :1], answers[:, n_active : n_active + 1]
        forth = np.diff(answers[:, : n_active + 1], axis=1)
        back = -np.diff(np.concatenate([end, answers[:, n_active + 1 :], begin], axis=1), axis=1)
        gains: Floats = np.take_along_axis((forth + back) / 2, turn[:, :, np.newaxis], axis=1)
        return gains


@cache
def _coalitions(n_players: int) -> tuple[NDArray[np.bool_], Floats]:
    """Give all coalitions, (2**d, d), and what turns their outputs into values, (d, 2**d)."""
    masks = (np.arange(2**n_players)[:, np.newaxis] >> np.arange(n_players)) & 1 == 1
    size = masks.sum(axis=1)
    scale = np.array([1 / (n_players * math.comb(n_players - 1, k)) for k in range(n_players)])
    gained = scale[np.maximum(size - 1, 0)]
    missed = scale[np.minimum(size, n_players - 1)]
    weights: Floats = np.where(masks, gained[:, np.newaxis], -missed[:, np.newaxis]).T
    return masks, weights


def _averaged(samples: Floats) -> tuple[Floats, Floats]:
    """Average (rows, rounds, background, d, outputs) and estimate the squared error of the mean.

    With several rounds the error is the spread between the walks against one background row. With
    one round the spread between background rows stands in for it, which is never too small.
    """
    n_rounds, n_background = samples.shape[1:3]
    values = samples.mean(axis=(1, 2))
    if n_rounds > 1:
        within = samples.var(axis=1, ddof=1).mean(axis=1)
    elif n_background > 1:
        within = samples[:, 0].var(axis=1, ddof=1)
    else:
        within = np.zeros_like(values)
    return values, within / (n_rounds * n_background)
