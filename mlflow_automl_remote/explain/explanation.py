"""The numbers of an explanation, as a value that travels between explainer, files and page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
OutputSpace = Literal["probability", "margin", "value"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """How much each raw input column moved the output of a pipeline, row by row.

    For every row, the values of all features and the base value add up to the model's output in
    `output_space`.

    Attributes:
        values: SHAP values, (n, d) for regression or (n, d, C) for classification, binary too.
        base_values: Mean output over the background rows, (1,) or (C,).
        data: The explained rows as numbers to place and colour them by, (n, d): a category or text
            is its place in `levels`, a point in time the days since 1970.
        rows: Which rows of the given X these are, ascending, (n,).
        feature_names: d names, in the order of the columns.
        class_names: C names in the order of the pipeline's classes; None for regression.
        pipeline: Its steps in words, such as `StandardScaler > SVC`.
        explainer: `tree`, `linear`, `exact` (all coalitions), `permutation` (sampled), or
            `members` for the weighted sum of an ensemble's members, with `+exact` or
            `+permutation` where some of them were asked together in that way.
        output_space: What the values add up to: a probability, a margin (log-odds or distance
            to the boundary), or the predicted value of a regression.
        n_background: Background rows used.
        n_requested: Rows that were asked for.
        seed: Of the row order and of the sampling.
        elapsed_s: Time it took.
        standard_error: Root mean square of the sampling error of one value; 0 where exact.
        complete: False when the budget ended before all requested rows were explained; the rows
            that are here are then a random sample of them.
        levels: By column, what is written for its numbers: texts of categories, or `()` for
            points in time.
    """

    values: Floats
    base_values: Floats
    data: Floats
    rows: NDArray[np.intp]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    pipeline: str
    explainer: str
    output_space: OutputSpace
    n_background: int
    n_requested: int
    seed: int
    elapsed_s: float
    standard_error: float
    complete: bool
    levels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def shown(self, column: int, value: float) -> str:
        """Write a value of a column as a person would."""
        if not np.isfinite(value):
            return "missing"
        texts = self.levels.get(column)
        if texts is None:
            return f"{value:.4g}"
        if texts:
            return texts[int(value)]
        return str(np.datetime64(round(value * 86_400), "s").astype(str)).replace("T", " ")

    def per_output(self) -> Floats:
        """Give the values as (n, d, outputs), for regression too."""
        return self.values if self.values.ndim == 3 else self.values[:, :, np.newaxis]
