"""What a model answers, as one (rows, outputs) table in a named space, and ways to explain it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain.chains import Chain, describe, per_class
from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.tables import Ints

Answer = Callable[[Any], Floats]
"""Rows of any form to (rows, outputs)."""
Combine = Callable[[Sequence[Floats]], Floats]
"""The answers of several models for the same rows to one answer, (rows, outputs)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributed:
    """SHAP values of some rows.

    Attributes:
        values: (rows, d, outputs).
        squared_error: Estimated variance of each value's sampling error, (rows, d, outputs).
    """

    values: Floats
    squared_error: Floats


class Exact(Protocol):
    """Explains rows exactly.

    Attributes:
        base_values: Mean output over the background, (outputs,).
    """

    base_values: Floats

    def values(self, rows: Ints) -> Floats:
        """Give the values of rows by their numbers, (rows, players, outputs)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Method:
    """One way to explain one pipeline.

    Attributes:
        name: What `Explanation.explainer` says.
        output_space: What `output` answers in.
        output: Raw rows (n, d) to (n, outputs), by the pipeline itself.
        base_values: Mean output over the background, (outputs,).
        n_background: Background rows used.
        attribute: Explains rows by their numbers in X, in so many rounds of sampling.
        n_rows_at_once: Rows that it explains best in one call, with one round for each.
        n_rows_first: The most rows of the first call, from which the time of others is known.
        n_rounds: Rounds that a row is worth where there is time; 1 for what is not sampled.
    """

    name: str
    output_space: OutputSpace
    output: Answer
    base_values: Floats
    n_background: int
    attribute: Callable[[Ints, int], Attributed]
    n_rows_at_once: int
    n_rows_first: int = 4096
    n_rounds: int = 1


def whole_output(chain: Chain) -> tuple[Answer, OutputSpace]:
    """Choose the output of a pipeline: probabilities where it has them.

    Raises:
        DataError: A classifier gives neither probabilities nor margins.
    """
    if not chain.is_classifier:
        return lambda X: np.asarray(chain.ask("predict", X), float).reshape(-1, 1), "value"
    if chain.has("predict_proba"):
        return lambda X: np.asarray(chain.ask("predict_proba", X), float), "probability"
    if not chain.has("decision_function"):
        raise DataError(
            f"{describe(chain.model)} gives labels only, and labels cannot be explained; use one "
            "that gives probabilities or margins."
        )
    return margin_output(chain), "margin"


def margin_output(chain: Chain) -> Answer:
    """Give the output of a classifier as margins, one per class."""
    return lambda X: per_class(chain.ask("decision_function", X))
