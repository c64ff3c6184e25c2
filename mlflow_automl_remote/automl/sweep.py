"""The sweep: proposes pipelines, runs a few at a time, learns from each, until none is left."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from mlflow_automl_remote.automl import data, pipelines
from mlflow_automl_remote.automl.components.base import Scalar
from mlflow_automl_remote.automl.control import Control, Whereabouts
from mlflow_automl_remote.automl.data import Dataset
from mlflow_automl_remote.automl.executor import Executor, Finished, Ticket, available_cores
from mlflow_automl_remote.automl.iteration import (
    IterationOrder,
    IterationResult,
    SaveModel,
    run_iteration,
)
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal, Proposals
from mlflow_automl_remote.automl.sampler import Sampler
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState

_LOG = logging.getLogger(__name__)


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
        hyperparameters: All parameters of scaler and model, defaults included.
        fit_s: Seconds of all fits: the folds and the one on all rows.
        predict_s: Seconds of the predictions of all folds.
        started_at_ms: Milliseconds since 1970.
        ended_at_ms: Milliseconds since 1970.
        output_dir: Holds `iteration.log` and, if COMPLETED, `oof.npy` and perhaps `model`.
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
    started_at_ms: int
    ended_at_ms: int
    output_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        outcomes: Of the iterations that this sweep ran, in the order of their end.
        best_number: The best iteration, those of the history included; None without any.
        best_score: Its primary metric.
        cancelled: Whether `cancel` ended it.
    """

    outcomes: tuple[Outcome, ...]
    best_number: int | None
    best_score: float | None
    cancelled: bool

    @property
    def best(self) -> Outcome | None:
        """The outcome of the best iteration; None if there is none or an earlier agent ran it."""
        found = (each for each in self.outcomes if each.proposal.number == self.best_number)
        return next(found, None)


class SweepCallback(Protocol):
    """Told of each iteration, in the thread that runs the sweep; an exception ends the sweep."""

    def on_iteration_start(self, proposal: Proposal) -> None:
        """Take notice of an iteration that begins as soon as this returns."""
        ...

    def on_iteration_end(self, outcome: Outcome) -> None:
        """Take notice of an iteration that has ended; its files are complete."""
        ...


class _Silent:
    """The callback of a sweep that nobody listens to."""

    def on_iteration_start(self, proposal: Proposal) -> None:
        del proposal

    def on_iteration_end(self, outcome: Outcome) -> None:
        del outcome


class Sweep:
    """One AutoML search over saved data.

    Args:
        config: The settings.
        data_dir: Folder that `data.save` wrote.
        output_root: Gets one folder per iteration, named by its number.
        executor: Runs the iterations.
        callback: Told of each iteration.
        save_model: Picklable; called in the iteration's process with the pipeline fitted on all
            rows, the dataset and `<output_dir>/model`.
        history: What an earlier agent did: finished iterations are kept, others run again.

    Raises:
        DataError: `data_dir` holds no dataset.
    """

    def __init__(  # noqa: PLR0913 - all of it is needed once, and named at the call
        self,
        config: AutoMLConfig,
        data_dir: Path,
        output_root: Path,
        *,
        executor: Executor,
        callback: SweepCallback | None = None,
        save_model: SaveModel | None = None,
        history: Sequence[PastIteration] = (),
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._output_root = output_root
        self._executor = executor
        self._callback = callback or _Silent()
        self._save_model = save_model
        self._history = tuple(history)
        self._plan = _plan(config)
        self._proposals = _propose(config, data.open_dataset(data_dir), self._history)
        self._control = Control(config.iterations, self._history)

    def run(self) -> SweepResult:
        """Run all iterations; a failing one is an outcome, never an exception."""
        outcomes: list[Outcome] = []
        try:
            while self._fill_places(outcomes) or self._control.running():
                for finished in self._wait():
                    self._end(self._outcome(finished), outcomes)
        finally:
            self._stop_running()  # after an exception of the callback; else none is left
        return _result(self._config, outcomes, self._history, cancelled=self._control.cancelled)

    def cancel(self) -> None:
        """Begin no more iterations and kill those that run; from any thread."""
        for ticket in self._control.cancel_all():
            self._executor.cancel(ticket)

    def cancel_iteration(self, number: int) -> Whereabouts:
        """Kill one iteration, or see to it that it never runs; from any thread.

        Returns:
            Where the iteration was; only "queued" and "running" ones end as CANCELLED.
        """
        where, ticket = self._control.cancel_one(number)
        if ticket is not None:
            self._executor.cancel(ticket)
        return where

    def _fill_places(self, outcomes: list[Outcome]) -> bool:
        """Begin iterations while there is a free place; False when none was begun or skipped."""
        begun = False
        while len(self._control.running()) < self._plan.n_places and not self._control.cancelled:
            proposal = self._proposals.next()
            if proposal is None:
                break
            begun = True
            self._callback.on_iteration_start(proposal)
            if not self._control.start(proposal, self._submit):
                self._end(self._never_ran(proposal), outcomes)
        return begun

    def _submit(self, proposal: Proposal) -> Ticket:
        output_dir = self._fresh_folder(proposal)
        order = IterationOrder(
            spec=proposal.spec,
            data_dir=self._data_dir,
            output_dir=output_dir,
            n_folds=self._config.n_cross_validations,
            fold_seed=self._config.seed,
            seed=iteration_seed(self._config.seed, proposal.number),
            n_jobs=self._plan.n_threads,
            primary_metric=self._config.primary_metric,
            save_model=self._save_model,
        )
        return self._executor.submit(
            run_iteration,
            order,
            output_dir=output_dir,
            timeout_s=self._config.iteration_timeout_s,
            n_threads=self._plan.n_threads,
        )

    def _fresh_folder(self, proposal: Proposal) -> Path:
        """Make the iteration's folder; one that was left half-written goes."""
        folder = self._output_root / str(proposal.number)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def _outcome(self, finished: Finished) -> Outcome:
        proposal = self._control.finish(finished.ticket)
        result = finished.value if isinstance(finished.value, IterationResult) else None
        return Outcome(
            proposal=proposal,
            state=finished.state,
            reason=finished.reason,
            traceback_text=finished.traceback_text,
            metrics=result.metrics if result else {},
            fold_metrics=result.fold_metrics if result else {},
            hyperparameters=result.hyperparameters if result else {},
            fit_s=result.fit_s if result else 0.0,
            predict_s=result.predict_s if result else 0.0,
            started_at_ms=finished.started_at_ms,
            ended_at_ms=finished.ended_at_ms,
            output_dir=finished.ticket.output_dir,
        )

    def _never_ran(self, proposal: Proposal) -> Outcome:
        now_ms = time.time_ns() // 1_000_000
        return Outcome(
            proposal=proposal,
            state=IterationState.CANCELLED,
            reason="Cancelled on request before it began.",
            started_at_ms=now_ms,
            ended_at_ms=now_ms,
            output_dir=self._fresh_folder(proposal),
        )

    def _end(self, outcome: Outcome, outcomes: list[Outcome]) -> None:
        score = outcome.metrics.get(self._config.primary_metric)
        self._proposals.learn(outcome.proposal, outcome.state, score)
        outcomes.append(outcome)
        self._callback.on_iteration_end(outcome)

    def _stop_running(self) -> None:
        for ticket in self._control.running():
            self._executor.cancel(ticket)
        while self._control.running():
            for finished in self._wait():
                self._control.finish(finished.ticket)

    def _wait(self) -> list[Finished]:
        """Wait for the next iterations to end; at once empty if none runs."""
        running = self._control.running()
        finished = self._executor.wait_any(tickets=running)
        if running and not finished:
            raise RuntimeError("The executor was closed while a sweep was using it.")
        return finished


def iteration_seed(seed: int, number: int) -> int:
    """Derive the seed of an iteration from that of the sweep; 0 to 2**31 - 1."""
    state = np.random.SeedSequence([seed, number]).generate_state(1)[0]
    return int(state) & (2**31 - 1)  # LightGBM's seeds are signed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How many iterations run at a time, and how many threads each of them has."""

    n_places: int
    n_threads: int


def _plan(config: AutoMLConfig) -> _Plan:
    n_cores = available_cores()
    wanted = config.max_concurrent_iterations or n_cores
    n_places = min(wanted, n_cores, config.iterations)
    return _Plan(n_places=n_places, n_threads=max(1, n_cores // n_places))


def _propose(
    config: AutoMLConfig, dataset: Dataset, history: Sequence[PastIteration]
) -> Proposals:
    models, left_out = pipelines.usable_models(
        config.models,
        dataset,
        n_folds=config.n_cross_validations,
        chosen=config.allowed_models is not None,
    )
    for name, reason in left_out.items():
        _LOG.info("%s is left out: %s.", name, reason)
    sampler = Sampler(
        config.task, models, greater_is_better=config.greater_is_better, seed=config.seed
    )
    return Proposals(
        config.task, models, n_iterations=config.iterations, sampler=sampler, history=history
    )


def _result(
    config: AutoMLConfig,
    outcomes: Sequence[Outcome],
    history: Sequence[PastIteration],
    *,
    cancelled: bool,
) -> SweepResult:
    """Find the best iteration; the earlier one of two that are equal."""
    sign = 1 if config.greater_is_better else -1
    scores = {
        past.proposal.number: past.score
        for past in history
        if past.state is IterationState.COMPLETED and past.score is not None
    } | {
        each.proposal.number: each.metrics[config.primary_metric]
        for each in outcomes
        if each.state is IterationState.COMPLETED
    }
    best = max(scores, key=lambda number: (sign * scores[number], -number), default=None)
    return SweepResult(
        outcomes=tuple(outcomes),
        best_number=best,
        best_score=None if best is None else scores[best],
        cancelled=cancelled,
    )
