"""What a sweep says of its iterations and of itself, and who is told."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mlflow_automl_remote import choosing
from mlflow_automl_remote.automl.components.base import Scalar
from mlflow_automl_remote.automl.executor import Finished
from mlflow_automl_remote.automl.featurization import FeatureSummary
from mlflow_automl_remote.automl.iteration import IterationResult
from mlflow_automl_remote.automl.metrics import standard_error
from mlflow_automl_remote.automl.plan import SearchPlan
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one iteration ended.

    Attributes:
        proposal: What it was.
        state: COMPLETED, or how it failed; never RUNNING.
        reason: One line; empty if COMPLETED.
        traceback_text: Of the exception, if one was raised.
        metrics: Mean over the folds, by name; may hold NaN, but not for the primary metric.
        fold_metrics: One value per fold, by name.
        hyperparameters: All parameters of scaler and model, defaults included; of an ensemble its
            members and their weights.
        fit_s: Seconds of all fits: the folds and the one on all rows.
        predict_s: Seconds of the predictions of all folds.
        predict_ms_per_row: Milliseconds of one core that the model takes for a row, as `speed`
            measures them; None without a model.
        n_fits: How many fits that were; 0 of an ensemble.
        standard_error: Of the primary metric's mean over the folds; NaN for a single fold.
        test_metrics: On the rows of `test_size`, by name; empty without them.
        featurization: How the columns were preprocessed, a mode of `TablePreprocessor`; empty
            if not at all.
        features: What that made of each column.
        started_at_ms: Milliseconds since 1970.
        ended_at_ms: Milliseconds since 1970.
        is_partial: Whether only some folds scored it, or it is too slow: it is no candidate for
            the best, and its metrics lack the primary one.
        output_dir: Holds `iteration.log` and, if COMPLETED, `oof.npy` and perhaps `model`.
        node: Name of the machine that ran it; empty if there is only one.
    """

    proposal: Proposal
    state: IterationState
    reason: str = ""
    traceback_text: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    fold_metrics: Mapping[str, list[float]] = field(default_factory=dict)
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    fit_s: float = 0.0
    predict_s: float = 0.0
    predict_ms_per_row: float | None = None
    n_fits: int = 0
    standard_error: float = math.nan
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    featurization: str = ""
    features: tuple[FeatureSummary, ...] = ()
    started_at_ms: int
    ended_at_ms: int
    is_partial: bool = False
    output_dir: Path
    node: str = ""


def outcome_of(  # noqa: PLR0913 - all of it is in the outcome
    proposal: Proposal,
    finished: Finished,
    result: IterationResult | None,
    *,
    reason: str,
    primary_metric: str,
    began_at_ms: int,
    is_partial: bool = False,
) -> Outcome:
    """Say how an iteration ended.

    Args:
        proposal: What it was.
        finished: How its last process ended.
        result: What that gave back, if it did.
        reason: One line for a person.
        primary_metric: Left out of the metrics of one that is partial.
        began_at_ms: When its first process began.
        is_partial: Whether only some folds scored it.
    """
    metrics = dict(result.metrics) if result else {}
    if is_partial:
        metrics.pop(primary_metric, None)
    scores = result.fold_metrics[primary_metric] if result else []
    return Outcome(
        proposal=proposal,
        state=finished.state,
        reason=reason,
        traceback_text=finished.traceback_text,
        metrics=metrics,
        fold_metrics=result.fold_metrics if result else {},
        hyperparameters=result.hyperparameters if result else {},
        fit_s=result.fit_s if result else 0.0,
        predict_s=result.predict_s if result else 0.0,
        predict_ms_per_row=result.predict_ms_per_row if result else None,
        n_fits=result.n_fits if result else 0,
        standard_error=standard_error(scores),
        test_metrics=result.test_metrics if result else {},
        featurization=result.featurization if result else "",
        features=result.features if result else (),
        started_at_ms=began_at_ms,
        ended_at_ms=finished.ended_at_ms,
        is_partial=is_partial,
        output_dir=finished.ticket.output_dir,
        node=finished.node,
    )


def never_ran(proposal: Proposal, folder: Path, reason: str = "") -> Outcome:
    """Say of an iteration that it was cancelled before anything came of it."""
    now_ms = time.time_ns() // 1_000_000
    return Outcome(
        proposal=proposal,
        state=IterationState.CANCELLED,
        reason=reason or "Cancelled on request before it began.",
        started_at_ms=now_ms,
        ended_at_ms=now_ms,
        output_dir=folder,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        outcomes: Of the iterations that this sweep ran, in the order of their end.
        best_number: The best iteration, those of the history included; None without any.
        best_score: Its primary metric.
        cancelled: Whether `cancel` ended it.
        ended_by: Why it ended before its last iteration; empty if it did not.
    """

    outcomes: tuple[Outcome, ...]
    best_number: int | None
    best_score: float | None
    cancelled: bool
    ended_by: str = ""

    @property
    def best(self) -> Outcome | None:
        """The outcome of the best iteration; None if there is none or an earlier agent ran it."""
        found = (each for each in self.outcomes if each.proposal.number == self.best_number)
        return next(found, None)


class SweepCallback(Protocol):
    """Told of each iteration, in the thread that runs the sweep; an exception ends the sweep."""

    def on_plan(self, plan: SearchPlan) -> None:
        """Take notice of what the sweep will do, before its first iteration."""
        ...

    def on_iteration_start(self, proposal: Proposal) -> None:
        """Take notice of an iteration that begins as soon as this returns."""
        ...

    def on_iteration_end(self, outcome: Outcome) -> None:
        """Take notice of an iteration that has ended; its files are complete."""
        ...


class Silent:
    """The callback of a sweep that nobody listens to."""

    def on_plan(self, plan: SearchPlan) -> None:
        """Do nothing."""
        del plan

    def on_iteration_start(self, proposal: Proposal) -> None:
        """Do nothing."""
        del proposal

    def on_iteration_end(self, outcome: Outcome) -> None:
        """Do nothing."""
        del outcome


def scores_of(
    config: AutoMLConfig, outcomes: Sequence[Outcome], history: Sequence[PastIteration]
) -> list[tuple[Proposal, Scored]]:
    """Give every iteration that has the primary metric, the best score first.

    Of two that are equal the earlier one comes first.
    """
    sign = 1 if config.greater_is_better else -1
    scored = [
        (
            past.proposal,
            Scored(
                number=past.proposal.number,
                score=past.score,
                standard_error=past.standard_error,
                predict_ms_per_row=past.predict_ms_per_row,
                is_ensemble=past.proposal.is_ensemble,
            ),
        )
        for past in history
        if past.state is IterationState.COMPLETED and past.score is not None
    ] + [
        (
            each.proposal,
            Scored(
                number=each.proposal.number,
                score=each.metrics[config.primary_metric],
                standard_error=each.standard_error,
                predict_ms_per_row=each.predict_ms_per_row,
                is_ensemble=each.proposal.is_ensemble,
            ),
        )
        for each in outcomes
        if each.state is IterationState.COMPLETED and not each.is_partial
    ]
    return sorted(scored, key=lambda one: (-sign * one[1].score, one[0].number))


def best_of(
    config: AutoMLConfig, outcomes: Sequence[Outcome], history: Sequence[PastIteration]
) -> Scored | None:
    """Give the best iteration, as `optimize_for` wants it; None if none has a score."""
    return choosing.best(
        (one for _, one in scores_of(config, outcomes, history)),
        greater_is_better=config.greater_is_better,
        optimize_for=config.optimize_for,
    )


def why_too_slow(predict_ms_per_row: float | None, config: AutoMLConfig) -> str:
    """Say why a model predicts too slowly to be the best, for a person; empty if it does not."""
    limit_ms = config.max_predict_ms_per_row
    if limit_ms is None or predict_ms_per_row is None or predict_ms_per_row <= limit_ms:
        return ""
    return (
        f"It predicts a row in {predict_ms_per_row:.3g} ms, more than the {limit_ms:g} ms of "
        "max_predict_ms_per_row."
    )
