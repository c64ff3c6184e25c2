"""Chooses among scored iterations: the best, and those that no other beats in score and speed.

Pure, and the one place that says what is best: on the target, in the journal and in MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

OptimizeFor: TypeAlias = Literal["accuracy", "latency"]

PREDICT_MS: Final = "predict_ms_per_row"
"""The name of the metric in MLflow: milliseconds of one core for a row."""
SHARE_OF_LOSS: Final = 0.01
"""Of the best score's loss, what a faster model may lose where there is no standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """An iteration that may be the best.

    Attributes:
        number: Its number.
        score: Its primary metric.
        standard_error: Of that over the folds; None for one fold.
        predict_ms_per_row: What its model takes to predict; None if that is not known, which
            counts as slower than all others.
        is_ensemble: Whether it is made of others, whose weights were not fitted on the rows that
            gave its score.
    """

    number: int
    score: float
    standard_error: float | None = None
    predict_ms_per_row: float | None = None
    is_ensemble: bool = False

    @property
    def ms(self) -> float:
        """Milliseconds a row; infinite if they are not known."""
        return math.inf if self.predict_ms_per_row is None else self.predict_ms_per_row


def best(
    scored: Iterable[Scored], *, greater_is_better: bool, optimize_for: str = "accuracy"
) -> Scored | None:
    """Give the best iteration; None of none.

    For accuracy it has the best score, the first of equal ones; but an ensemble is preferred whose
    score is within a tolerance of that. The best of many scores is flattered, since it is the best
    by chance too (Cawley and Talbot: On Over-fitting in Model Selection and Subsequent Selection
    Bias in Performance Evaluation, JMLR 2010), and that of an ensemble is not. For latency it is
    the fastest to predict of those within the tolerance; see `least`.
    """
    sign = 1.0 if greater_is_better else -1.0
    every = list(scored)
    if not every:
        return None
    enough = least(every, greater_is_better=greater_is_better)
    good = [one for one in every if sign * one.score >= sign * enough]
    if optimize_for != "latency":
        ensembles = [one for one in good if one.is_ensemble]
        return min(ensembles or every, key=lambda one: (-sign * one.score, one.number))
    return min(good, key=lambda one: (one.ms, -sign * one.score, one.number))


def least(scored: Iterable[Scored], *, greater_is_better: bool) -> float:
    """Give the score that a model must have to be the best for latency, or as an ensemble.

    One standard error over the folds below the best score (Breiman, Friedman, Olshen and Stone:
    Classification and Regression Trees, 1984, section 3.4.3; Hastie, Tibshirani and Friedman: The
    Elements of Statistical Learning, section 7.10). Where one fold scores, and so there is no
    standard error, a hundredth of the best one's loss below it.

    Args:
        scored: One at least.
        greater_is_better: Of the scores.
    """
    sign = 1.0 if greater_is_better else -1.0
    top = min(scored, key=lambda one: (-sign * one.score, one.ms, one.number))
    error = top.standard_error
    if error is None or not math.isfinite(error):
        error = SHARE_OF_LOSS * loss(top.score, greater_is_better=greater_is_better)
    return top.score - sign * error


def loss(score: float, *, greater_is_better: bool) -> float:
    """Give how far a score is from a perfect one: 1 for areas and shares, 0 for errors."""
    return abs(1.0 - score) if greater_is_better and score > 0.0 else abs(score)


def front(scored: Iterable[Scored], *, greater_is_better: bool) -> tuple[Scored, ...]:
    """Give those that no other beats: as good and as fast as they, and better or faster.

    They come from the fastest to the best. That of a front and more iterations is that of all.
    """
    sign = 1.0 if greater_is_better else -1.0
    found: list[Scored] = []
    for one in sorted(scored, key=lambda one: (one.ms, -sign * one.score, one.number)):
        last = found[-1] if found else None
        is_better = last is None or sign * one.score > sign * last.score
        if is_better or (last is not None and (one.ms, one.score) == (last.ms, last.score)):
            found.append(one)
    return tuple(found)
