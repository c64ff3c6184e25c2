"""SHAP values of any model from its answers alone: all coalitions, or sampled permutations.

A coalition takes some columns from the row and the others from a background row. With few columns
all coalitions are asked for, and the values are exact; otherwise random orders of the columns are
walked forth and back (antithetic), each against one background row, all background rows equally
often. The differences along a walk telescope, so the values of a row always add up to its output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.chains import Front
from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import Answer, Attributed, Combine
from mlflow_automl_remote.explain.tables import Encoded, Ints

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


class Asked(Protocol):
    """What is asked for mixed rows."""

    @property
    def rows(self) -> Encoded:
        """Give the rows and the background as they are mixed."""
        ...

    def base(self) -> Floats:
        """Answer for the background rows, (m, outputs)."""
        ...

    def differs(self, rows: Ints, n_players: int) -> NDArray[np.bool_]:
        """Say in which players rows differ from any background row, (players,)."""
        ...

    def answer(
        self, taken: NDArray[np.bool_], place: Ints, rows: Ints, backgrounds: Ints
    ) -> Floats:
        """Answer for mixed rows, (k, outputs).

        Args:
            taken: Which players are taken from the explained row, (k, active players).
            place: Where each player is among the active ones, or -1; (players,).
            rows: The explained row of each, (k,).
            backgrounds: The background row of each, (k,).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedModel:
    """A model, from one place of its pipeline on; see `Asked`.

    Attributes:
        front: The rows at this place.
        output: From there to (rows, outputs).
    """

    front: Front
    output: Answer

    @property
    def rows(self) -> Encoded:
        """Give the rows at this place."""
        return self.front.rows

    def base(self) -> Floats:
        """Answer for the background rows."""
        return self.output(self.rows.restore(self.rows.background))

    def differs(self, rows: Ints, n_players: int) -> NDArray[np.bool_]:
        """Compare what has come of each player here."""
        X, background = self.rows.X[rows], self.rows.background
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
        """Mix the rows and answer."""
        encoded, at = self.rows, place[self.front.player]
        mixed = encoded.background[backgrounds]
        moved = np.flatnonzero(at >= 0)
        here = encoded.X[rows[:, np.newaxis], moved]
        mixed[:, moved] = np.where(taken[:, at[moved]], here, mixed[:, moved])
        return self.output(encoded.restore(mixed))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AskedTogether:
    """Models whose answers make one, each asked from its own place on; see `Asked`.

    Attributes:
        parts: All of them have the same rows and the same background.
        combine: From the answers of each part, (rows, its outputs), to (rows, outputs).
    """

    parts: Sequence[Asked]
    combine: Combine

    @property
    def rows(self) -> Encoded:
        """Give the rows of the first."""
        return self.parts[0].rows

    def base(self) -> Floats:
        """Answer for the background rows."""
        return self.combine([part.base() for part in self.parts])

    def differs(self, rows: Ints, n_players: int) -> NDArray[np.bool_]:
        """Say in which players any part sees a difference."""
        found = [part.differs(rows, n_players) for part in self.parts]
        either: NDArray[np.bool_] = np.logical_or.reduce(found)
        return either

    def answer(
        self, taken: NDArray[np.bool_], place: Ints, rows: Ints, backgrounds: Ints
    ) -> Floats:
        """Ask all parts for the same mixes."""
        return self.combine([part.answer(taken, place, rows, backgrounds) for part in self.parts])


class Sampler:
    """Explains rows by asking models, whose answers add up.

    Args:
        asked: What is asked for mixed rows.
        n_players: Raw columns.
        seed: Of the sampled orders.
        n_jobs: Threads that ask at a time.
    """

    def __init__(self, asked: Asked, *, n_players: int, seed: int, n_jobs: int = 1) -> None:
        self._asked = asked
        self._n_players = n_players
        self._seed = seed
        self._n_jobs = n_jobs
        self._n_background = len(asked.rows.background)
        everything = np.arange(len(asked.rows.X))
        self.n_active = int(asked.differs(everything, n_players).sum())
        self.base_values: Floats = asked.base().mean(axis=0)
        self.is_exact = (1 << min(self.n_active, 62)) * self._n_background <= N_EVALUATIONS

    @property
    def n_rows_at_once(self) -> int:
        """Rows that are asked for between two looks at the budget, with one round for each."""
        per_row = 1 << self.n_active if self.is_exact else 2 * self.n_active
        return max(1, self._n_jobs * N_ASKED // (per_row * self._n_background))

    @property
    def n_rounds(self) -> int:
        """Rounds that a row is worth; in each all background rows are walked to once."""
        if self.is_exact:
            return 1
        per_round = 2 * max(self.n_active, 1) * self._n_background
        return min(MAX_ROUNDS, max(1, N_EVALUATIONS // per_round))

    def attribute(self, rows: Ints, n_rounds: int) -> Attributed:
        """Explain rows by their numbers.

        Each row draws its own orders, whatever rows come with it: the first are the same however
        many rounds there are.
        """
        active = np.flatnonzero(self._asked.differs(rows, self._n_players))
        place = np.full(self._n_players, -1)
        place[active] = np.arange(len(active))
        n_outputs = len(self.base_values)
        values = np.zeros((len(rows), self._n_players, n_outputs))
        errors = np.zeros_like(values)
        if len(active):
            if self.is_exact:
                values[:, active] = self._by_coalitions(rows, place, len(active))
            else:
                found = self._by_walks(rows, place, len(active), n_rounds)
                values[:, active], errors[:, active] = found
        return Attributed(values=values, squared_error=errors)

    def _by_coalitions(self, rows: Ints, place: Ints, n_active: int) -> Floats:
        masks, weights = _coalitions(n_active)
        m = self._n_background
        answers = self._asked.answer(
            np.tile(masks, (len(rows) * m, 1)),
            place,
            rows.repeat(m * len(masks)),
            np.tile(np.arange(m).repeat(len(masks)), len(rows)),
        )
        mean = answers.reshape(len(rows), m, len(masks), -1).mean(axis=1)
        values: Floats = weights @ mean
        return values

    def _by_walks(
        self, rows: Ints, place: Ints, n_active: int, n_rounds: int
    ) -> tuple[Floats, Floats]:
        n_walks = n_rounds * self._n_background
        orders = np.concatenate([self._orders(int(row), n_walks, n_active) for row in rows])
        row_of = rows.repeat(n_walks)
        background_of = np.tile(np.arange(self._n_background), len(rows) * n_rounds)
        at_once = max(1, N_CELLS // (2 * n_active**2))
        at_once = min(at_once, math.ceil(len(orders) / self._n_jobs))
        parts = [slice(start, start + at_once) for start in range(0, len(orders), at_once)]

        def walk(part: slice) -> Floats:
            return self._walk(orders[part], place, row_of[part], background_of[part])

        # Models spend their time in native code, which lets other threads go on.
        with ThreadPoolExecutor(self._n_jobs) as threads:
            samples = np.concatenate(list(threads.map(walk, parts)))
        shape = (len(rows), n_rounds, self._n_background, n_active, -1)
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
        answers = self._asked.answer(
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
