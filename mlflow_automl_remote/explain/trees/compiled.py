"""The innermost loops over leaves and pairs of rows, compiled by numba when they are first called.

Importing it takes half a second, so only who calls it does. What is compiled is kept beside this
file, or where numba keeps such things; without a place for it, it is compiled anew each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.trees.forest import Ints

Bits = NDArray[np.uint64]
"""What a row fails on a path, with a bit per player."""
Bytes = NDArray[np.uint8]

WORD: Final = 64
MAX_TABLED: Final = 12
"""Players of a path up to which rows that fail the same are found by a table of what can fail."""
_ONE: Final = np.uint64(1)


def _compiled(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # numba finds no folder that it may write to
        return numba.njit(function)


@_compiled
def _count(word: Any) -> int:
    """Count the bits of a number."""
    n_bits = 0
    while word:
        word &= word - _ONE
        n_bits += 1
    return n_bits


@_compiled
def _fail(left: Bytes, condition: Ints, slot: Ints, fails: Bits) -> None:
    """Find what each row fails on one path."""
    fails[:] = 0
    for step in range(len(condition)):
        node, must_go_right = condition[step] >> 1, condition[step] & 1
        mine, shift = left[node], np.uint64(slot[step])
        met = np.uint8(1 - must_go_right)
        for row in range(len(fails)):
            fails[row] |= np.uint64(mine[row] ^ met) << shift


@_compiled
def _merge(fails: Bits, times: Floats, kind: Ints, place: Ints) -> int:
    """Make rows that fail the same one; give how many are left, the first of `fails`.

    Args:
        fails: What each row fails.
        times: Gets how many rows each of those that are left stands for.
        kind: Gets for each row the one that stands for it.
        place: A table of -1 with an entry for everything that can be failed.
    """
    n_kinds = 0
    for row in range(len(kind)):
        failed = fails[row]
        at = place[failed]
        if at < 0:
            at = n_kinds
            place[failed] = at
            fails[at] = failed
            times[at] = 0.0
            n_kinds += 1
        times[at] += 1.0
        kind[row] = at
    for row in range(n_kinds):
        place[fails[row]] = -1
    return n_kinds


@_compiled
def _index(fails: Bits, n_rows: int, by_slot: NDArray[np.uint64], n_failed: Ints) -> None:
    """Set a bit per row that fails a player, (players, words), and count what each row fails."""
    by_slot[:] = 0
    for row in range(n_rows):
        failed = fails[row]
        n_failed[row] = _count(failed)
        bit = _ONE << np.uint64(row % WORD)
        while failed:
            rest = failed & (failed - _ONE)
            by_slot[_count((failed ^ rest) - _ONE), row // WORD] |= bit
            failed = rest


@_compiled
def _are_free(failed: Any, by_slot: NDArray[np.uint64], n_others: int, free: Any) -> bool:
    """Mark the background rows that fail no player whom a row fails too; say if there is one."""
    for word in range(len(free)):
        n_here = n_others - word * WORD
        free[word] = (
            ~np.uint64(0) if n_here >= WORD else (_ONE << np.uint64(max(n_here, 0))) - _ONE
        )
    while failed:
        rest = failed & (failed - _ONE)
        slot = _count((failed ^ rest) - _ONE)
        failed, found = rest, np.uint64(0)
        for word in range(len(free)):
            free[word] &= ~by_slot[slot, word]
            found |= free[word]
        if not found:
            return False
    return True


@_compiled
def _give(failed: Any, by: float, shares: Floats) -> None:
    """Add to the shares of the players that are failed."""
    while failed:
        rest = failed & (failed - _ONE)
        shares[_count((failed ^ rest) - _ONE)] += by
        failed = rest


@_compiled
def _pair(  # noqa: PLR0913 - numba takes arrays, not objects that hold them
    failed: Any,
    free: NDArray[np.uint64],
    others: Bits,
    n_others_failed: Ints,
    times: Floats,
    weights: Floats,
    shares: Floats,
) -> None:
    """Sum the shares of one row over the background rows that are free.

    Args:
        failed: What the row fails.
        free: See `_are_free`.
        others: What the background rows fail.
        n_others_failed: How many players that are.
        times: How many background rows each stands for.
        weights: See `add_shares`.
        shares: Zeros, to be added to, (players,).
    """
    v, lost = _count(failed), 0.0
    for word in range(len(free)):
        left = free[word]
        while left:
            rest = left & (left - _ONE)
            other = word * WORD + _count((left ^ rest) - _ONE)
            left, u = rest, n_others_failed[other]
            if v > 0:
                lost += weights[u, v - 1] * times[other]
            if u > 0:
                _give(others[other], weights[u - 1, v] * times[other], shares)
    _give(failed, -lost, shares)


@_compiled
def _add_leaf(
    values: Floats,
    shares: Floats,
    is_any: NDArray[np.bool_],
    kind: Ints,
    players: Ints,
    leaf: Floats,
) -> None:
    """Add the shares of a leaf's value to the values of the path's players."""
    for row in range(len(values)):
        at = kind[row]
        if not is_any[at]:
            continue
        for slot in range(len(players)):
            share = shares[at, slot]
            if share != 0.0:
                for output in range(len(leaf)):
                    values[row, players[slot], output] += share * leaf[output]


@_compiled
def add_shares(  # noqa: PLR0913 - likewise
    values: Floats,
    left: Bytes,
    left_background: Bytes,
    condition: Ints,
    slot: Ints,
    players: Ints,
    leaf: Floats,
    weights: Floats,
) -> None:
    """Add the Shapley values of paths, summed over the background, to those of rows.

    Args:
        values: Changed in place, (rows, all players, outputs).
        left: Which rows go left at each node, (nodes, rows).
        left_background: The same of background rows.
        condition: What a row must fulfil, (paths, steps); see `Paths.condition`.
        slot: Which of the path's players a step asks about, (paths, steps).
        players: Of the paths, in the order of their slots, (paths, players).
        leaf: What the path's leaf adds to each output, (paths, outputs).
        weights: a! b! / (a + b + 1)! at (a, b).
    """
    n_rows, n_others, n_players = left.shape[1], left_background.shape[1], players.shape[1]
    fails, others = np.empty(n_rows, np.uint64), np.empty(n_others, np.uint64)
    times, other_times = np.ones(n_rows), np.ones(n_others)
    kind, other_kind = np.arange(n_rows), np.arange(n_others)
    n_kinds, n_other_kinds = n_rows, n_others
    n_others_failed = np.empty(n_others, np.int64)
    by_slot = np.empty((n_players, (n_others + WORD - 1) // WORD), np.uint64)
    free = np.empty(by_slot.shape[1], np.uint64)
    shares, is_any = np.zeros((n_rows, n_players)), np.zeros(n_rows, np.bool_)
    place = np.full(1 << min(n_players, MAX_TABLED), -1, np.int64)
    for path in range(len(condition)):
        _fail(left, condition[path], slot[path], fails)
        _fail(left_background, condition[path], slot[path], others)
        if n_players <= MAX_TABLED:
            n_kinds = _merge(fails, times, kind, place)
            n_other_kinds = _merge(others, other_times, other_kind, place)
        _index(others, n_other_kinds, by_slot, n_others_failed)
        for row in range(n_kinds):
            is_any[row] = _are_free(fails[row], by_slot, n_other_kinds, free)
            if is_any[row]:
                shares[row] = 0.0
                mine = shares[row]
                _pair(fails[row], free, others, n_others_failed, other_times, weights, mine)
        _add_leaf(values, shares, is_any, kind, players[path], leaf[path])
