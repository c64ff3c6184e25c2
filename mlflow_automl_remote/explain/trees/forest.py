"""Trees of any library as flat arrays: which way rows go, and the paths to their leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats

Ints = NDArray[np.intp]
Bools = NDArray[np.bool_]

MAX_PLAYERS: Final = 60  # on one path; their outcomes are bits of one number
LEAF: Final = -1


class TooDeep(Exception):
    """A path asks about more players than fit one number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Trees whose leaves add up, and what they leave out.

    Attributes:
        column: Column that each node asks about, (nodes,); -1 for leaves.
        threshold: A row goes left where its value is not above this, (nodes,).
        missing_left: Whether a missing value goes left, (nodes,).
        left: Node on the left, (nodes,).
        right: Node on the right, (nodes,).
        value: What a leaf adds to each output, (nodes, outputs).
        roots: First node of each tree.
        left_codes: The codes of a category that go left, for the nodes that ask about one.
        single: Whether values are compared in single precision.
    """

    column: Ints
    threshold: Floats
    missing_left: Bools
    left: Ints
    right: Ints
    value: Floats
    roots: Ints
    left_codes: Mapping[int, Ints] = field(default_factory=dict)
    single: bool = True

    def goes_left(self, Z: Floats) -> NDArray[np.uint8]:
        """Say for each node whether a row would go left there, (nodes, rows)."""
        values = Z.astype(np.float32).astype(np.float64) if self.single else Z
        left = np.zeros((len(self.column), len(Z)), dtype=np.uint8)
        nodes = np.flatnonzero(self.column >= 0)
        nodes = nodes[np.argsort(self.column[nodes], kind="stable")]
        columns, starts = np.unique(self.column[nodes], return_index=True)
        for column, mine in zip(columns, np.split(nodes, starts[1:]), strict=True):
            asked = values[:, column]
            left[mine] = asked <= self.threshold[mine, np.newaxis]
            missing = np.isnan(asked)
            if missing.any():
                left[np.ix_(mine, missing)] = self.missing_left[mine, np.newaxis]
        for node, codes in self.left_codes.items():
            asked = values[:, self.column[node]]
            found = np.isin(asked, codes)
            left[node] = np.where(np.isnan(asked), self.missing_left[node], found)
        return left

    def output(self, Z: Floats) -> Floats:
        """Give what the leaves of rows add up to, (rows, outputs)."""
        left = self.goes_left(Z)
        rows = np.arange(len(Z))
        total = np.zeros((len(Z), self.value.shape[1]))
        for root in self.roots:
            node = np.full(len(Z), root)
            while (inner := self.column[node] >= 0).any():
                down = np.where(left[node, rows], self.left[node], self.right[node])
                node = np.where(inner, down, node)
            total += self.value[node]
        return total

    def paths(self, player: Ints) -> Iterator[Paths]:
        """Give the paths to all leaves, those of one length at a time.

        Args:
            player: To whom each column belongs, (columns,).

        Raises:
            TooDeep: A path asks about more than 60 players.
        """
        at = self.roots
        nodes = np.empty((len(at), 0), dtype=np.intp)
        turns = np.empty((len(at), 0), dtype=np.intp)
        while len(at):
            is_leaf = self.column[at] < 0
            if is_leaf.any():
                yield _paths(at[is_leaf], nodes[is_leaf], turns[is_leaf], player[self.column])
            at, nodes, turns = at[~is_leaf], nodes[~is_leaf], turns[~is_leaf]
            nodes = np.column_stack([nodes, at]).repeat(2, axis=0)
            turn = np.tile([0, 1], len(at))
            turns = np.column_stack([turns.repeat(2, axis=0), turn])
            at = np.column_stack([self.left[at], self.right[at]]).ravel()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paths:
    """Paths of one length.

    Attributes:
        leaf: Where they end, (paths,).
        condition: What a row must fulfil at each step, (paths, steps): twice the node, and one
            more where it must go right.
        slot: Which of the path's players a step asks about, (paths, steps).
        players: The path's players in the order of their slots, (paths, most slots); -1 where a
            path has fewer.
        n_players: How many there are, (paths,).
    """

    leaf: Ints
    condition: Ints
    slot: Ints
    players: Ints
    n_players: Ints

    def of_size(self, n_players: int) -> Paths:
        """Give the paths with so many players."""
        mine = self.n_players == n_players
        return Paths(
            leaf=self.leaf[mine],
            condition=self.condition[mine],
            slot=self.slot[mine],
            players=self.players[mine, :n_players],
            n_players=self.n_players[mine],
        )


def _paths(leaf: Ints, nodes: Ints, turns: Ints, player_of_node: Ints) -> Paths:
    n_paths, n_steps = nodes.shape
    asked = player_of_node[nodes]
    first = np.tile(np.arange(n_steps), (n_paths, 1))
    for step in range(n_steps - 1, -1, -1):  # the earliest step that asks about the same player
        first = np.where(asked == asked[:, step : step + 1], step, first)
    is_first = first == np.arange(n_steps)
    number = np.cumsum(is_first, axis=1) - 1
    n_players = is_first.sum(axis=1)
    most = int(n_players.max(initial=0))
    if most > MAX_PLAYERS:
        raise TooDeep
    players = np.full((n_paths, most), -1)
    rows, steps = np.nonzero(is_first)
    players[rows, number[rows, steps]] = asked[rows, steps]
    return Paths(
        leaf=leaf,
        condition=2 * nodes + turns,
        slot=np.take_along_axis(number, first, axis=1) if n_steps else number,
        players=players,
        n_players=n_players,
    )


def joined(trees: Sequence[Forest]) -> Forest:
    """Put trees that were read one by one into one forest."""
    offsets = np.cumsum([0, *(len(tree.column) for tree in trees[:-1])])
    pairs = list(zip(trees, offsets, strict=True))
    return Forest(
        column=np.concatenate([tree.column for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        missing_left=np.concatenate([tree.missing_left for tree in trees]),
        left=np.concatenate([tree.left + offset for tree, offset in pairs]),
        right=np.concatenate([tree.right + offset for tree, offset in pairs]),
        value=np.concatenate([tree.value for tree in trees]),
        roots=np.concatenate([tree.roots + offset for tree, offset in pairs]),
        left_codes={
            node + int(offset): codes
            for tree, offset in pairs
            for node, codes in tree.left_codes.items()
        },
        single=trees[0].single,
    )
