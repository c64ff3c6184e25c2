"""SHAP values of any model from its answers alone: all coalitions, or sampled permutations.

A coalition takes some columns from the row and the others from a background row. With few columns
all coalitions are asked for, and the values are exact; otherwise random orders of the columns are
walked forth and back (antithetic), each against one background row, all background rows equally
often. The differences along a walk telescope, so the values of a row always add up to its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.outputs import Attributed, Method, Output

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


def sampled_method(output: Output, space: OutputSpace, background: Floats, *, seed: int) -> Method:
    """Explain a model by its answers, exactly where the columns are few.

    Args:
        output: Raw rows (n, d) to (n, outputs).
        space: What it answers in.
        background: Raw background rows in random order, (m, d); the first 20 at most are used.
        seed: Of the sampled orders.
    """
    n_columns = background.shape[1]
    n_used = min(N_BACKGROUND, max(MIN_BACKGROUND, MAX_EVALUATIONS // (2 * n_columns)))
    used = background[:n_used]
    if 2**n_columns * len(used) <= N_EVALUATIONS:
        return exact_method(output, space, used)
    return permutation_method(output, space, used, seed=seed)


def exact_method(output: Output, space: OutputSpace, background: Floats) -> Method:
    """Explain by asking for every coalition of columns: 2**d answers per background row."""
    n_columns = background.shape[1]
    masks = (np.arange(2**n_columns)[:, np.newaxis] >> np.arange(n_columns)) & 1 == 1
    weights = _shapley_weights(masks)

    def attribute(X: Floats, ids: NDArray[np.intp]) -> Attributed:
        per_row = []
        for row in X:
            answers = output(
                np.where(masks, row, background[:, np.newaxis]).reshape(-1, n_columns)
            )
            mean = answers.reshape(len(background), len(masks), -1).mean(axis=0)
            per_row.append(weights @ mean)
        values = np.stack(per_row)
        return Attributed(values=values, squared_error=np.zeros_like(values))

    return Method(
        name="exact",
        output_space=space,
        output=output,
        base_values=output(background).mean(axis=0),
        n_background=len(background),
        attribute=attribute,
        n_rows_at_once=max(1, N_ASKED // (len(masks) * len(background))),
    )


def _shapley_weights(masks: NDArray[np.bool_]) -> Floats:
    """Give the (d, 2**d) table that turns coalition outputs into Shapley values."""
    n_columns = masks.shape[1]
    size = masks.sum(axis=1)
    scale = np.array([1 / (n_columns * math.comb(n_columns - 1, k)) for k in range(n_columns)])
    gained = scale[np.maximum(size - 1, 0)]
    missed = scale[np.minimum(size, n_columns - 1)]
    weights: Floats = np.where(masks, gained[:, np.newaxis], -missed[:, np.newaxis]).T
    return weights


def permutation_method(
    output: Output, space: OutputSpace, background: Floats, *, seed: int
) -> Method:
    """Explain by antithetic walks through random orders of the columns."""
    n_columns = background.shape[1]
    n_walks = len(background)
    n_rounds = min(MAX_ROUNDS, max(1, N_EVALUATIONS // (2 * n_columns * n_walks)))
    sampler = _Sampler(output=output, background=background, n_rounds=n_rounds, seed=seed)
    return Method(
        name="permutation",
        output_space=space,
        output=output,
        base_values=output(background).mean(axis=0),
        n_background=len(background),
        attribute=sampler.attribute,
        n_rows_at_once=max(1, N_ASKED // (2 * n_columns * n_walks * n_rounds)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sampler:
    """Walks every background row `n_rounds` times, forth and back, for each explained row."""

    output: Output
    background: Floats
    n_rounds: int
    seed: int

    def attribute(self, X: Floats, ids: NDArray[np.intp]) -> Attributed:
        """Explain rows; each draws its own orders, whatever rows it is explained with."""
        n_rows, n_columns = X.shape
        n_walks = self.n_rounds * len(self.background)
        orders = np.concatenate([self._orders(int(number), n_walks) for number in ids])
        row_of_walk = np.repeat(np.arange(n_rows), n_walks)
        background_of_walk = np.tile(np.arange(len(self.background)), n_rows * self.n_rounds)
        at_once = max(1, N_CELLS // (2 * n_columns**2))
        samples = np.concatenate(
            [
                self._walk(
                    orders[start : start + at_once],
                    X[row_of_walk[start : start + at_once]],
                    self.background[background_of_walk[start : start + at_once]],
                )
                for start in range(0, len(orders), at_once)
            ]
        )
        shape = (n_rows, self.n_rounds, len(self.background), n_columns, -1)
        return _averaged(samples.reshape(shape))

    def _orders(self, number: int, n_walks: int) -> NDArray[np.intp]:
        rng = np.random.default_rng([self.seed, number])
        columns = np.tile(np.arange(self.background.shape[1]), (n_walks, 1))
        return rng.permuted(columns, axis=1)

    def _walk(self, orders: NDArray[np.intp], to: Floats, start: Floats) -> Floats:
        """Give one sample of the values per walk: (walks, d, outputs)."""
        n_walks, n_columns = orders.shape
        place = np.argsort(orders, axis=1)
        length = np.arange(n_columns + 1)[:, np.newaxis]
        taken = place[:, np.newaxis, :] < length  # (walks, d + 1, d)
        forth = np.where(taken, to[:, np.newaxis], start[:, np.newaxis])
        # The walk back takes the columns in reverse, so it passes the complements.
        back = np.where(taken[:, 1:-1], start[:, np.newaxis], to[:, np.newaxis])
        asked = np.concatenate([forth, back], axis=1)
        answers = self.output(asked.reshape(-1, n_columns)).reshape(n_walks, 2 * n_columns, -1)
        begin, end = answers[:, :1], answers[:, n_columns : n_columns + 1]
        gains_forth = np.diff(answers[:, : n_columns + 1], axis=1)
        gains_back = -np.diff(
            np.concatenate([end, answers[:, n_columns + 1 :], begin], axis=1), axis=1
        )
        gains = (gains_forth + gains_back) / 2
        in_place: Floats = np.take_along_axis(gains, place[:, :, np.newaxis], axis=1)
        return in_place


def _averaged(samples: Floats) -> Attributed:
    """Average (rows, rounds, background, d, outputs) and estimate the error of the mean.

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
    return Attributed(values=values, squared_error=within / (n_rounds * n_background))
