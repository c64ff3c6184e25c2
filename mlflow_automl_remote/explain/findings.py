"""What a person in a hurry should know of an explanation: what matters, which way, how surely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import rankdata

from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.summary import descending, importances

N_FINDINGS: Final = 5
N_PARTS: Final = 5
CLEAR: Final = 0.3
"""Rank correlation from which on a column's values and their influence go together."""
FEWEST_ROWS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A column that matters.

    Attributes:
        feature: Its name.
        share: Of all importance, 0 to 1.
        effect: Which way it works, in words; empty where there is no clear way.
    """

    feature: str
    share: float
    effect: str


def findings(explanation: Explanation) -> tuple[Finding, ...]:
    """Give the five most important columns that matter at all, and which way they work."""
    per_class = importances(explanation)
    overall = per_class.mean(axis=0)
    total = float(overall.sum())
    return tuple(
        Finding(
            feature=explanation.feature_names[int(at)],
            share=float(overall[at]) / total,
            effect=_effect(explanation, int(at), int(per_class[:, at].argmax())),
        )
        for at in descending(overall)[:N_FINDINGS]
        if overall[at] > 0
    )


def stability(explanation: Explanation) -> float | None:
    """Say how alike five parts of the explained rows rank the columns.

    Returns:
        The mean rank correlation between the importances of each part and those of the other
        rows, -1 to 1; None for fewer than 10 rows or 2 columns that matter.
    """
    sizes = np.abs(explanation.per_output()).mean(axis=2)
    sizes = sizes[:, sizes.any(axis=0)]
    if len(sizes) < FEWEST_ROWS or sizes.shape[1] < 2:
        return None
    part_of = np.random.default_rng(explanation.seed).permutation(len(sizes)) % N_PARTS
    found = [
        rank_correlation(sizes[part_of == part].mean(axis=0), sizes[part_of != part].mean(axis=0))
        for part in range(N_PARTS)
    ]
    return float(np.mean(found))


def _effect(explanation: Explanation, column: int, strongest: int) -> str:
    """Say which way a column moves the prediction, or the class that it moves most."""
    names = explanation.class_names
    output = len(names) - 1 if names is not None and len(names) == 2 else strongest
    of = "" if names is None else f" {names[output]}"
    values = explanation.per_output()[:, column, output]
    data, levels = explanation.data[:, column], explanation.levels.get(column)
    if levels:
        return _effect_of_levels(values, data, levels, of)
    known = np.isfinite(data)
    together = rank_correlation(data[known], values[known]) if known.sum() > 2 else 0.0
    if abs(together) < CLEAR:
        return f"works both ways{f' on{of}' if of else ''}"
    word = "later" if levels == () else "higher"
    return f"{word} {'raises' if together > 0 else 'lowers'}{of or ' the prediction'}"


def _effect_of_levels(values: Floats, data: Floats, levels: tuple[str, ...], of: str) -> str:
    codes, place = np.unique(data[np.isfinite(data)], return_inverse=True)
    if len(codes) < 2 or len(codes) > len(data) / 2:
        return ""
    means = np.bincount(place, values[np.isfinite(data)]) / np.bincount(place)
    highest, lowest = (levels[int(codes[at])] for at in (means.argmax(), means.argmin()))
    return f"{highest} raises and {lowest} lowers{of or ' the prediction'} most"


def rank_correlation(a: Floats, b: Floats) -> float:
    """Give Spearman's rank correlation; 0 where one of the two is constant, or empty."""
    if len(a) < 2:
        return 0.0
    ranks = np.stack([rankdata(a), rankdata(b)])
    moved = ranks - ranks.mean(axis=1, keepdims=True)
    size = float(np.sqrt((moved**2).sum(axis=1)).prod())
    return float(moved[0] @ moved[1]) / size if size > 0 else 0.0
