"""Interventional SHAP values of a forest: exact, for players of one or several columns.

For one leaf, one explained row and one background row, only this matters: which players on the
path the explained row alone satisfies, which the background row alone, and whether one of the two
satisfies each of them. With u and v players of the two kinds, the leaf's Shapley value is
(u - 1)! v! / (u + v)! of its value for each of the former and -u! (v - 1)! / (u + v)! for each of
the latter (Lundberg et al. 2020, "From local explanations to global understanding with explainable
AI for trees", algorithm 3). What rows fail on a path is one number with a bit per player. Short
paths are summed over all background rows at once, by subset sums over these numbers; long ones
pair by pair, in products of matrices, which also add up the leaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.trees.forest import MAX_PLAYERS, Forest, Ints, Paths

Bits = NDArray[np.uint64]

MAX_CELLS: Final = 4_000_000
"""Of a table that is built at once; 32 MB."""
MAX_SUBSETS_OF: Final = 10
"""Players of a path up to which all subsets may be tabled."""

KINDS: Final = (np.uint8, np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bundle:
    """Paths with one number of players and one length, and what the background fails on them."""

    paths: Paths
    background: Bits  # (paths, background rows)
    value: Floats  # (paths, outputs)


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
        self._n_background = len(background)
        self._n_players = n_players
        unmet = _unmet(forest, background)
        self._bundles = [
            _Bundle(paths=mine, background=_failed(mine, unmet), value=forest.value[mine.leaf])
            for paths in forest.paths(player)
            for size in np.unique(paths.n_players)
            if size > 0
            for mine in (paths.of_size(int(size)),)
        ]
        self.base_values: Floats = forest.output(background).mean(axis=0)

    def __call__(self, Z: Floats) -> Floats:
        """Give the values of rows, (rows, players, outputs)."""
        unmet = _unmet(self._forest, Z)
        values = np.zeros((self._n_players, len(Z), self._forest.value.shape[1]))
        for bundle in self._bundles:
            for part, shares in self._shares(bundle, unmet, len(Z)):
                _add(values, part, shares)
        return values.transpose(1, 0, 2) / self._n_background

    def _shares(
        self, bundle: _Bundle, unmet: NDArray[np.uint8], n_rows: int
    ) -> Iterator[tuple[_Bundle, Floats]]:
        """Give the shares of a leaf's value, (paths, players, rows), for some paths at a time."""
        size = int(bundle.paths.n_players[0])
        n_pairs = n_rows * self._n_background
        by_subsets = size <= MAX_SUBSETS_OF and 2 * size * (size + 1) << size <= 4 * n_pairs
        widest = max(size * n_rows, (size + 1) << size if by_subsets else n_pairs)
        at_once = max(1, MAX_CELLS // widest)
        for start in range(0, len(bundle.value), at_once):
            part = _slice(bundle, slice(start, start + at_once))
            rows = _failed(part.paths, unmet)
            method = _by_subsets if by_subsets else _by_products
            yield part, method(rows, part.background, size)


def _slice(bundle: _Bundle, part: slice) -> _Bundle:
    paths = bundle.paths
    return _Bundle(
        paths=Paths(
            leaf=paths.leaf[part],
            condition=paths.condition[part],
            slot=paths.slot[part],
            players=paths.players[part],
            n_players=paths.n_players[part],
        ),
        background=bundle.background[part],
        value=bundle.value[part],
    )


def _unmet(forest: Forest, Z: Floats) -> NDArray[np.uint8]:
    """Say which rows fail each condition, (2 * nodes, rows); see `Paths.condition`."""
    left = forest.goes_left(Z)
    return np.stack([1 - left, left], axis=1).reshape(-1, len(Z))


def _failed(paths: Paths, unmet: NDArray[np.uint8]) -> Bits:
    """Give the players that each row fails as bits of one number, (paths, rows)."""
    width = int(paths.n_players.max())
    kind: Any = next(kind for kind in KINDS if width <= 8 * np.dtype(kind).itemsize)
    failed = np.zeros((len(paths.leaf), unmet.shape[1]), dtype=kind)
    for step in range(paths.condition.shape[1]):
        bit = kind(1) << paths.slot[:, step].astype(kind)
        failed |= unmet[paths.condition[:, step]] * bit[:, np.newaxis]
    return failed


@cache
def _weights() -> Floats:
    """Table a! b! / (a + b + 1)! for a and b up to the number of players of a path."""
    sizes = range(MAX_PLAYERS + 1)
    return np.array([[1 / ((a + b + 1) * math.comb(a + b, a)) for b in sizes] for a in sizes])


def _by_subsets(rows: Bits, background: Bits, size: int) -> Floats:
    """Sum over the background for every subset of players, then look rows up.

    Args:
        rows: What explained rows fail, (paths, rows).
        background: What background rows fail, (paths, background rows).
        size: Players of each path.
    """
    gained, lost = _tables(_subset_sums(background, size), size)
    satisfied = (rows ^ rows.dtype.type((1 << size) - 1)).astype(np.intp)
    satisfied += np.arange(len(rows))[:, np.newaxis] << size
    shares = np.empty((len(rows), size, rows.shape[1]))
    for slot in range(size):
        by_slot = lost.reshape(len(lost), -1, 2, 1 << slot).copy()
        by_slot[:, :, 1] = gained[slot].reshape(by_slot.shape)[:, :, 1]
        shares[:, slot] = by_slot.ravel().take(satisfied)
    return shares


def _subset_sums(background: Bits, size: int) -> Floats:
    """Count background rows whose failures are within a subset, by how many they fail.

    Returns:
        Of shape (size + 1, paths, 2 ** size).
    """
    n_paths, n_subsets = len(background), 1 << size
    failed = background.astype(np.intp)
    count = np.bitwise_count(background).astype(np.intp)
    place = (count * n_paths + np.arange(n_paths)[:, np.newaxis]) * n_subsets + failed
    counted = np.bincount(place.ravel(), minlength=(size + 1) * n_paths * n_subsets)
    sums: Floats = counted.astype(np.float64).reshape(size + 1, n_paths, n_subsets)
    for slot in range(size):
        pairs = sums.reshape(size + 1, n_paths, -1, 2, 1 << slot)
        pairs[:, :, :, 1] += pairs[:, :, :, 0]
    return sums


def _tables(sums: Floats, size: int) -> tuple[Floats, Floats]:
    """Give what a player gains, by what a row satisfies, and what one loses that it fails.

    Returns:
        Of shapes (size, paths, 2 ** size) and (paths, 2 ** size).
    """
    weights = _weights()
    n_failed = size - np.bitwise_count(np.arange(1 << size, dtype=np.uint64)).astype(np.intp)
    lost = -np.einsum("jps,js->ps", sums, weights[: size + 1][:, np.maximum(n_failed - 1, 0)])
    gain = weights[:size][:, n_failed]
    whole = np.einsum("jps,js->ps", sums[1:], gain)
    gained = np.empty((size, *lost.shape))
    for slot in range(size):
        without = sums[1:].reshape(size, len(lost), -1, 2, 1 << slot)[:, :, :, 0]
        of_without = gain.reshape(size, -1, 2, 1 << slot)[:, :, 1]
        gained[slot] = whole
        upper = gained[slot].reshape(len(lost), -1, 2, 1 << slot)
        upper[:, :, 1] -= np.einsum("jpab,jab->pab", without, of_without)
    return gained, lost


def _by_products(rows: Bits, background: Bits, size: int) -> Floats:
    """Sum over those pairs of rows of which each player on the path is satisfied by one.

    Rows that fail the same players on a path are one row there. Arguments as for `_by_subsets`.
    """
    bits = np.arange(size, dtype=rows.dtype)
    weights = _weights()
    shares = np.empty((len(rows), size, rows.shape[1]))
    for path, others in enumerate(background):
        kinds, kind = np.unique(rows[path], return_inverse=True)
        v = np.bitwise_count(kinds).astype(np.intp)[:, np.newaxis]
        u = np.bitwise_count(others).astype(np.intp)
        apart = (kinds[:, np.newaxis] & others) == 0
        gain = weights[np.maximum(u, 1) - 1, v] * apart
        gained = gain @ ((others[:, np.newaxis] >> bits) & 1).astype(np.float64)
        lost = np.einsum("rb,rb->r", weights[u, np.maximum(v, 1) - 1], apart)
        fails = (kinds[:, np.newaxis] >> bits) & 1 != 0
        shares[path] = np.where(fails, -lost[:, np.newaxis], gained)[kind].T
    return shares


def _add(values: Floats, part: _Bundle, shares: Floats) -> None:
    """Add shares of leaves to the values of players, in place: (players, rows, outputs)."""
    players = part.paths.players.ravel()
    order = np.argsort(players, kind="stable")
    path = order // part.paths.players.shape[1]
    flat = shares.reshape(len(players), -1)
    found, starts = np.unique(players[order], return_index=True)
    ends = [*starts[1:], len(order)]
    for player, start, end in zip(found, starts, ends, strict=True):
        mine = order[start:end]
        values[player] += flat[mine].T @ part.value[path[start:end]]
