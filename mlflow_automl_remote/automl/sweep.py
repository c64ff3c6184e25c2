"""The sweep: proposes pipelines, runs a few at a time, learns from each, until none is left."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mlflow_automl_remote.automl import data, sample
from mlflow_automl_remote.automl.budget import Budget
from mlflow_automl_remote.automl.control import Control, Whereabouts
from mlflow_automl_remote.automl.ensemble.run import EnsembleOrder, Member, run_ensemble
from mlflow_automl_remote.automl.executor import Executor, Finished, Ticket, available_cores
from mlflow_automl_remote.automl.iteration import (
    IterationOrder,
    IterationResult,
    LoadModel,
    SaveCharts,
    SaveModel,
    run_iteration,
)
from mlflow_automl_remote.automl.machine import free_bytes
from mlflow_automl_remote.automl.metrics import standard_error
from mlflow_automl_remote.automl.outcome import (
    Outcome,
    Silent,
    SweepCallback,
    SweepResult,
    scores_of,
)
from mlflow_automl_remote.automl.plan import make_plan, propose
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal, iteration_seed
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.automl.stopping import Stopping
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.settings import DEFAULT_ENSEMBLE_ITERATIONS
from mlflow_automl_remote.states import IterationState

__all__ = ["Outcome", "Sweep", "SweepCallback", "SweepResult", "iteration_seed"]

SAMPLE_NAME: Final = "sample"

_LOG = logging.getLogger(__name__)


class Sweep:
    """One AutoML search over saved data.

    Args:
        config: The settings.
        data_dir: Folder that `data.save` wrote.
        output_root: Gets one folder per iteration, named by its number.
        executor: Runs the iterations.
        callback: Told of the plan and of each iteration.
        save_model: Picklable; called in the iteration's process with the pipeline fitted on all
            rows, the dataset and `<output_dir>/model`.
        load_model: Picklable; reads such a model in the process of an ensemble. Without it
            ensembles are scored, but have no model.
        save_charts: The same with the held-out predictions; must not raise.
        history: What an earlier agent did: finished iterations are kept, others run again.
        find_output: Gives the folder of a finished iteration, if a callback moved it.
        spent_s: What has been used of the sweep's time before.

    Raises:
        DataError: `data_dir` holds no dataset, or it cannot be split as the settings say.
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
        load_model: LoadModel | None = None,
        save_charts: SaveCharts | None = None,
        history: Sequence[PastIteration] = (),
        find_output: Callable[[int], Path] | None = None,
        spent_s: float = 0.0,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._output_root = output_root
        self._executor = executor
        self._callback = callback or Silent()
        self._save_model = save_model
        self._load_model = load_model
        self._save_charts = save_charts
        self._history = tuple(history)
        self._find_output = find_output or (lambda number: output_root / str(number))
        begun = time.monotonic()
        dataset = data.open_dataset(data_dir)
        splits = make_splits(dataset, config)
        self._order_config = config
        if splits.is_sample:
            self._data_dir = output_root / SAMPLE_NAME
            self._order_config = sample.with_range(config, dataset)
            sample.keep(dataset, splits, self._data_dir)
        self.plan = make_plan(
            config, dataset, splits, n_cores=available_cores(), memory_bytes=free_bytes()
        )
        for name, reason in self.plan.left_out.items():
            _LOG.info("%s is left out: %s.", name, reason)
        for note in self.plan.notes:
            _LOG.warning("%s", note)
        self._proposals = propose(config, self.plan, self._history)
        self._control = Control(config.iterations, self._history)
        self._stopping = Stopping(config)
        self._if_killed: dict[Ticket, str] = {}
        self._outcomes: list[Outcome] = []
        for past in self._history:
            if past.state.is_finished and not past.proposal.is_ensemble:
                self._stopping.see(past.proposal.number, past.proposal.label, past.score)
        self._budget = Budget(
            total_s=config.experiment_timeout_s,
            iteration_s=config.iteration_timeout_s,
            spent_s=spent_s + time.monotonic() - begun,
            n_ensembles=len(self.plan.ensembles),
            is_shared=config.auto_blacklist and config.allowed_models is None,
        )

    def run(self) -> SweepResult:
        """Run all iterations; a failing one is an outcome, never an exception."""
        self._callback.on_plan(self.plan)
        try:
            while self._fill_places() or self._control.running():
                self._take_in()
            self._run_ensembles()
        finally:
            self._stop_running()  # after an exception of the callback; else none is left
        scores = scores_of(self._config, self._outcomes, self._history)
        return SweepResult(
            outcomes=tuple(self._outcomes),
            best_number=scores[0][0].number if scores else None,
            best_score=scores[0][1] if scores else None,
            cancelled=self._control.cancelled,
            ended_by=self._why_ended(),
        )

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

    def _fill_places(self) -> bool:
        """Begin iterations while there is a free place; False when none was begun or skipped."""
        begun = False
        while len(self._control.running()) < self.plan.n_places and self._may_begin():
            proposal = self._proposals.next()
            if proposal is None:
                break
            begun = True
            self._begin(proposal)
        return begun

    def _may_begin(self) -> bool:
        """Whether the search goes on; once an ensemble has begun it is over for good."""
        return not (
            self._control.cancelled
            or self._stopping.reason()
            or not self._budget.allows()
            or any(past.proposal.is_ensemble for past in self._history)
        )

    def _run_ensembles(self) -> None:
        """Begin the ensembles side by side, when the search has left them something to use."""
        for proposal in self._ensembles():
            if self._control.cancelled or not self._budget.allows(ensemble=True):
                break
            self._begin(proposal)
        while self._control.running():
            self._take_in()

    def _ensembles(self) -> list[Proposal]:
        """Propose the ensembles that have not ended yet; none without two pipelines."""
        if self._stopping.exit_reason or len(self._members()) < 2:
            return []
        past = {each.proposal.model: each for each in self._history if each.proposal.is_ensemble}
        used = {each.proposal.number for each in self._outcomes}
        used |= {each.proposal.number for each in self._history}
        free = iter(number for number in range(self._config.iterations) if number not in used)
        return [
            past[kind].proposal
            if kind in past
            else Proposal(
                number=next(free), scaler="", model=kind, params={}, proposed_by="ensemble"
            )
            for kind in self.plan.ensembles
            if kind not in past or not past[kind].state.is_finished
        ]

    def _members(self) -> tuple[Member, ...]:
        """Give the best iterations that an ensemble may use, the best first."""
        scores = scores_of(self._config, self._outcomes, self._history)
        n_members = self._config.ensemble_iterations or DEFAULT_ENSEMBLE_ITERATIONS
        return tuple(
            Member(
                number=proposal.number,
                label=proposal.label,
                folder=self._find_output(proposal.number),
            )
            for proposal, _ in scores
            if not proposal.is_ensemble
        )[:n_members]

    def _begin(self, proposal: Proposal) -> None:
        self._callback.on_iteration_start(proposal)
        if not self._control.start(proposal, self._submit):
            outcome = self._never_ran(proposal)
            self._learn(outcome)
            self._callback.on_iteration_end(outcome)

    def _submit(self, proposal: Proposal) -> Ticket:
        output_dir = self._fresh_folder(proposal)
        timeout_s, if_killed = self._budget.limit_s(ensemble=proposal.is_ensemble)
        function = run_ensemble if proposal.is_ensemble else run_iteration
        ticket = self._executor.submit(
            function,
            self._order(proposal, output_dir),
            output_dir=output_dir,
            timeout_s=timeout_s,
            # Matrices of an ensemble are small: threads would only wait for one another.
            n_threads=1 if proposal.is_ensemble else self.plan.n_threads,
            memory_mb=self._config.mem_in_mb,
        )
        self._if_killed[ticket] = if_killed
        return ticket

    def _order(self, proposal: Proposal, output_dir: Path) -> IterationOrder | EnsembleOrder:
        seed = iteration_seed(self._config.seed, proposal.number)
        if proposal.is_ensemble:
            return EnsembleOrder(
                kind=proposal.model,
                members=self._members(),
                config=self._order_config,
                data_dir=self._data_dir,
                output_dir=output_dir,
                seed=seed,
                save_model=self._save_model,
                load_model=self._load_model,
                save_charts=self._save_charts,
            )
        return IterationOrder(
            spec=proposal.spec,
            config=self._order_config,
            data_dir=self._data_dir,
            output_dir=output_dir,
            seed=seed,
            n_jobs=self.plan.n_threads,
            device=self.plan.device,
            save_model=self._save_model,
            save_charts=self._save_charts,
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
        reason = finished.reason
        if finished.state is IterationState.TIMED_OUT:
            reason = self._if_killed.get(finished.ticket) or reason
        if finished.state is IterationState.CANCELLED and self._stopping.exit_reason:
            reason = f"Not needed any more. {self._stopping.exit_reason}"
        return Outcome(
            proposal=proposal,
            state=finished.state,
            reason=reason,
            traceback_text=finished.traceback_text,
            metrics=result.metrics if result else {},
            fold_metrics=result.fold_metrics if result else {},
            hyperparameters=result.hyperparameters if result else {},
            fit_s=result.fit_s if result else 0.0,
            predict_s=result.predict_s if result else 0.0,
            standard_error=standard_error(
                result.fold_metrics[self._config.primary_metric] if result else []
            ),
            test_metrics=result.test_metrics if result else {},
            featurization=result.featurization if result else "",
            features=result.features if result else (),
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

    def _learn(self, outcome: Outcome) -> None:
        """Let what comes next depend on an outcome."""
        self._outcomes.append(outcome)
        if not outcome.proposal.is_ensemble:
            score = outcome.metrics.get(self._config.primary_metric)
            self._proposals.learn(outcome.proposal, outcome.state, score)
            self._stopping.see(outcome.proposal.number, outcome.proposal.label, score)
        if self._stopping.exit_reason:
            for ticket in self._control.running():
                self._executor.cancel(ticket)

    def _stop_running(self) -> None:
        for ticket in self._control.running():
            self._executor.cancel(ticket)
        while self._control.running():
            for finished in self._wait():
                self._control.finish(finished.ticket)

    def _take_in(self) -> None:
        """Wait for the next ends; the free places are filled before the ends are recorded."""
        outcomes = [self._outcome(finished) for finished in self._wait()]
        for outcome in outcomes:
            self._learn(outcome)
        self._fill_places()
        for outcome in outcomes:
            self._callback.on_iteration_end(outcome)

    def _wait(self) -> list[Finished]:
        """Wait for the next iterations to end; at once empty if none runs."""
        finished = self._executor.wait_any(tickets=(running := self._control.running()))
        if running and not finished:
            raise RuntimeError("The executor was closed while a sweep was using it.")
        return finished

    def _why_ended(self) -> str:
        reason = self._stopping.reason()
        if not reason and not self._budget.allows() and not self._control.cancelled:
            reason = "The time of the sweep (experiment_timeout_minutes) was up."
        return reason
