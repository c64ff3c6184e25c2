"""What was measured of a challenger and an incumbent on the same rows, as a target tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from mlflow_automl_remote.errors import ConnectionLost, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One model.

    Attributes:
        metrics: By name; None where one is not defined for these rows.
        latency_ms: Median time of the prediction of one row; None if it was not measured.
        error: Why it could not be measured; empty if it could.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    latency_ms: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The primary metric of rows that have one value in a column; None where not defined."""

    value: str
    n_rows: int
    challenger: float | None
    incumbent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much the challenger is better in the primary metric; a loss is negative.

    Attributes:
        standard_error: Of the gain, by a paired bootstrap over the rows.
        n_resamples: How often rows were drawn.
        seed: Of the draws.
    """

    value: float
    standard_error: float
    n_resamples: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a target measured.

    Attributes:
        rows: Which rows: `test`, `validation` or `out-of-fold`.
        n_rows: How many different ones.
        n_folds: Over how many parts of them the metrics are means.
        challenger: The model of the sweep.
        incumbent: The one that it is compared with; None without one.
        gain: None if either could not be measured.
        groups: The largest groups of `group_by`.
        group_error: Why there are no groups although they were asked for.
    """

    rows: str
    n_rows: int
    n_folds: int
    challenger: Measured
    incumbent: Measured | None = None
    gain: Gain | None = None
    groups: tuple[Group, ...] = ()
    group_error: str = ""


def read_evidence(answer: bytes, label: str) -> Evidence:
    """Read what a target wrote.

    Args:
        answer: JSON with an "evidence" or an "error".
        label: The target, for messages.

    Raises:
        DataError: The target says why it could not compare.
        ConnectionLost: It is something else.
    """
    try:
        result = json.loads(answer)
        told = result.get("error")
        if told is None:
            return TypeAdapter(Evidence).validate_python(result["evidence"])
    except (ValueError, ValidationError, KeyError, AttributeError, RecursionError) as error:
        raise ConnectionLost(f"{label} answered something else than a comparison.") from error
    raise DataError(f"The models cannot be compared on {label}: {told}")
