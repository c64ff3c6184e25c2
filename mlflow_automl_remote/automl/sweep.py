"""The sweep: proposes pipelines, runs a few at a time, learns from each, until none is left."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from mlflow_automl_remote.automl import data, pages, sample
from mlflow_automl_remote.automl.budget import Budget
from mlflow_automl_remote.automl.control import Control, Whereabouts
from mlflow_automl_remote.automl.executor import (
    MOST_LOST,
    Call,
    Executor,
    Finished,
    Job,
    Ticket,
)
from mlflow_automl_remote.automl.iteration import (
    IterationResult,
    LoadModel,
    SaveCharts,
    SaveModel,
)
from mlflow_automl_remote.automl.orders import Orders, Part
from mlflow_automl_remote.automl.outcome import (
    Outcome,
    Silent,
    SweepCallback,
    SweepResult,
    best_of,
    never_ran,
    outcome_of,
    scores_of,
    why_too_slow,
)
from mlflow_automl_remote.automl.plan import (
    make_plan,
    places_now,
    propose,
    with_warm_start,
)
from mlflow_automl_remote.automl.proposals import (
    PastIteration,
    Proposal,
    ensembles_to_run,
    iteration_seed,
)
from mlflow_automl_remote.automl.racing.driver import GRACE_S, TOO_LONG, Driver
from mlflow_automl_remote.automl.racing.fold import FoldsResult
from mlflow_automl_remote.automl.racing.schedule import Step
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.automl.spreading import Spreading
from mlflow_automl_remote.automl.stopping import Stopping
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import WarmStart
from mlflow_automl_remote.states import IterationState

__all__ = ["Outcome", "Sweep", "SweepCallback", "SweepResult", "iteration_seed"]

MOST_OVERDUE_S: Final = 0.5
"""So long after its time a sweep still saves the models of iterations that lost the race."""
SAMPLE_NAME: Final = "sample"
FEATURES_NAME: Final = "features"


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
        earlier: Iterations of the history that had ended before the sweep was continued: their
            ensembles do not end it.
        warm_start: What earlier sweeps found, to begin with what fits.

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
        earlier: Collection[int] = (),
        warm_start: WarmStart | None = None,
    ) -> None:
        self._config = config
        self._executor = Spreading(executor)
        self._callback = callback or Silent()
        self._history = tuple(history)
        self._past_ensembles = tuple(
            past
            for past in self._history
            if past.proposal.is_ensemble and past.proposal.number not in earlier
        )
        begun = time.monotonic()
        dataset = data.open_dataset(data_dir)
        splits = make_splits(dataset, config)
        order_config, order_dir = config, data_dir
        if splits.is_sample:
            order_config, order_dir = sample.with_range(config, dataset), output_root / SAMPLE_NAME
            sample.keep(dataset, splits, order_dir)
        self._capacity = executor.capacity()
        plan = make_plan(config, dataset, splits, self._capacity)
        self.plan = with_warm_start(plan, warm_start, config, dataset, splits)
        self.plan.log()
        self._orders = Orders(
            config=order_config,
            data_dir=order_dir,
            features_dir=output_root / FEATURES_NAME,
            output_root=output_root,
            find_output=find_output or (lambda number: output_root / str(number)),
            n_threads=self.plan.n_threads,
            device=self.plan.device,
            save_model=save_model,
            load_model=load_model,
            save_charts=save_charts,
        )
        self._proposals = propose(config, self.plan, self._history)
        self._control = Control(config.iterations, self._history)
        self._stopping = self._looked_back()
        self._steps: dict[Ticket, tuple[Step, str]] = {}  # with the reason if it is killed
        self._lost: Counter[int] = Counter()
        self._began_at_ms: dict[int, int] = {}
        self._outcomes: list[Outcome] = []
        self._budget = Budget(
            total_s=config.experiment_timeout_s,
            iteration_s=config.iteration_timeout_s,
            spent_s=spent_s + time.monotonic() - begun,
            n_ensembles=len(self.plan.ensembles),
            is_shared=config.auto_blacklist and config.allowed_models is None,
        )
        self._driver: Driver | None = None
        if config.races:
            how = self._orders.of_race(self.plan.n_places)
            self._driver = Driver(how, dataset, splits, total_s=self._budget.left_s())
        pages.release(data_dir)  # of what was looked at for this; iterations map it themselves

    _search_is_over = False  # set by `run`: from then on nothing is fitted

    def run(self) -> SweepResult:
        """Run all iterations; a failing one is an outcome, never an exception."""
        self._callback.on_plan(self.plan)
        try:
            while self._fill_places() or self._control.running() or self._control.is_held:
                self._take_in()
                self._wait_while_paused()
            self._search_is_over = True
            self._run_ensembles()
            self._finish_all()
        finally:
            self._stop_running()  # after an exception of the callback; else none is left
            shutil.rmtree(self._orders.features_dir, ignore_errors=True)
        best = best_of(self._config, self._outcomes, self._history)
        return SweepResult(
            outcomes=tuple(self._outcomes),
            best_number=best.number if best else None,
            best_score=best.score if best else None,
            cancelled=self._control.cancelled,
            ended_by=self._why_ended(),
        )

    def _looked_back(self) -> Stopping:
        """Give what stops the search, which has seen the history."""
        stopping = Stopping(self._config)
        for past in self._history:
            if past.state.is_finished and not past.proposal.is_ensemble:
                stopping.see(past.proposal.number, past.proposal.label, past.score)
        return stopping

    def cancel(self) -> None:
        """Begin no more iterations and kill those that run; from any thread."""
        for ticket in self._control.cancel_all():
            self._executor.cancel(ticket)

    def pause(self) -> None:
        """Begin no more iterations until `unpause`; from any thread."""
        self._control.hold()

    def unpause(self) -> None:
        """Begin iterations again; from any thread. The time of the pause does not count."""
        self._control.release()

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
        """Begin steps while there is a free place; False when none was begun or skipped."""
        begun = False
        while self._has_place() and self._may_begin():
            step = self._next_step()
            if step is None:
                break
            begun = True
            self._begin(step)
        return begun

    def _has_place(self) -> bool:
        now = self._executor.capacity()
        n_places = places_now(self._config, self.plan, self._capacity, now)
        return len(self._control.running()) < n_places

    def _next_step(self) -> Step | None:
        if self._driver is not None:
            driver = self._driver
            if self.plan.ensembles:
                self._budget.keep_s(driver.closing_s(self.plan.ensembles))
            left_s = self._budget.left_s()
            return driver.race.next(
                left_s,
                lambda: self._proposals.next(
                    driver.near(left_s),
                    left_s=left_s,
                    fits=lambda model: driver.race.fits(model, left_s),
                ),
            )
        proposal = self._proposals.next(left_s=self._budget.left_s())
        return None if proposal is None else Step(proposal=proposal)

    def _wait_while_paused(self) -> None:
        if self._control.is_held and not self._control.running():
            self._budget.extend(self._control.wait_while_held())

    def _may_begin(self) -> bool:
        """Whether the search goes on; once an ensemble has begun it is over for good."""
        return not (
            self._search_is_over
            or self._control.cancelled
            or self._control.is_held
            or self._stopping.reason()
            or not self._budget.allows()
            or self._past_ensembles
        )

    def _run_ensembles(self) -> None:
        """Begin the ensembles side by side, when the search has left them something to use."""
        for proposal in self._ensembles():
            if self._control.cancelled or not self._budget.allows(ensemble=True):
                break
            self._begin(Step(proposal=proposal))
        while self._control.running():
            self._take_in()

    def _finish_all(self) -> None:
        """Make what is left in the race what it is to be; seconds, whatever the time."""
        if self._driver is None:
            return
        while True:
            step = None
            if self._has_place() and not self._control.cancelled:
                step = self._driver.race.finish()
            late = self._budget.overdue_s() > MOST_OVERDUE_S and bool(self._best())
            if step is not None and late:
                self._close(step.proposal)
            elif step is not None:
                self._begin(step)
            elif self._control.running():
                self._take_in()
            else:
                return

    def _ensembles(self) -> list[Proposal]:
        """Propose the ensembles that have not ended yet; none without two pipelines."""
        kinds = self.plan.ensembles
        if self._stopping.exit_reason or not kinds:
            return []
        if len(self._orders.members(self._best(), self._driver, kinds[0])) < 2:
            return []
        used = set(self._began_at_ms) | {each.proposal.number for each in self._outcomes}
        used |= {each.proposal.number for each in self._history}
        return ensembles_to_run(
            kinds, self._past_ensembles, used, n_iterations=self._config.iterations
        )

    def _best(self) -> list[tuple[Proposal, Scored]]:
        """Give the iterations that have a score, the best first."""
        return scores_of(self._config, self._outcomes, self._history)

    def _close(self, proposal: Proposal) -> None:
        """End an iteration that there is no time left to write the model of."""
        outcome = self._never_ran(proposal, "The time of the sweep was up before it was saved.")
        self._control.end(proposal.number)
        self._learn(outcome)
        self._callback.on_iteration_end(outcome)

    def _begin(self, step: Step, *, again: bool = False) -> None:
        number = step.proposal.number
        if again or number not in self._began_at_ms:
            self._began_at_ms[number] = time.time_ns() // 1_000_000
            self._callback.on_iteration_start(step.proposal)
        n_parts = self.plan.n_folds if self._is_to_spread(step) else 0
        if not self._control.start(step.proposal, partial(self._submit, step, n_parts)):
            outcome = self._never_ran(step.proposal)
            self._learn(outcome)
            self._callback.on_iteration_end(outcome)

    def _submit(self, step: Step, n_parts: int, proposal: Proposal) -> Ticket:
        output_dir = self._orders.folder_for(step)
        parts: list[Part] = []
        timeout_s, if_killed = self._budget.limit_s(ensemble=proposal.is_ensemble)
        if proposal.is_ensemble:
            job = self._orders.ensemble(proposal, output_dir, self._best(), self._driver)
            if self._driver is not None and timeout_s is not None:
                timeout_s += GRACE_S  # it is worth a second: nothing else is as good
        elif self._driver is None:
            job, parts = self._orders.whole(proposal, output_dir, n_parts)
        else:
            job = self._orders.step(step, output_dir, self._driver, self._budget)
            if step.kind == "folds":
                if_killed = TOO_LONG

        def call_for(job: Job, folder: Path) -> Call:
            return Call(
                job.function,
                job.argument,
                output_dir=folder,
                reads=job.reads,
                timeout_s=timeout_s if job.limit_s is None else job.limit_s,
                # Matrices of an ensemble are small: threads would only wait for one another.
                n_threads=1 if proposal.is_ensemble else self.plan.n_threads,
                memory_mb=self._config.mem_in_mb,
            )

        ticket = self._executor.submit(
            call_for(job, output_dir), [call_for(*part) for part in parts]
        )
        self._steps[ticket] = step, if_killed
        return ticket

    def _is_to_spread(self, step: Step) -> bool:
        """Whether there is room for the folds of an iteration side by side, and they are worth it.

        That is when a cluster has cores for two calls at least of each iteration that is left.
        """
        now = self._executor.capacity()
        is_whole = step.kind == "whole" and not step.proposal.is_ensemble
        if not (is_whole and now.is_reserved and self.plan.n_folds > 1 and self.plan.is_large):
            return False
        last = self._config.iterations - len(self.plan.ensembles)
        n_left = len(self._control.running()) + max(1, last - step.proposal.number)
        return n_left * self.plan.n_threads * 2 <= now.n_cores

    def _outcome(self, finished: Finished) -> Outcome | None:
        """Say how an iteration ended; None if it has only come further."""
        step, if_killed = self._steps[finished.ticket]
        if finished.is_lost and self._lost[step.proposal.number] < MOST_LOST:
            self._lost[step.proposal.number] += 1
            self._control.pause(finished.ticket)
            self._begin(step, again=True)
            return None
        if step.kind == "folds" and self._goes_on(step, finished):
            self._control.pause(finished.ticket)
            return None
        proposal = self._control.finish(finished.ticket)
        result = finished.value if isinstance(finished.value, IterationResult) else None
        reason = finished.reason
        if finished.state is IterationState.TIMED_OUT:
            reason = if_killed or reason
        if finished.state is IterationState.CANCELLED and self._stopping.exit_reason:
            reason = f"Not needed any more. {self._stopping.exit_reason}"
        why_not_best = self._why_not_best(step, result)
        return outcome_of(
            proposal,
            finished,
            result,
            reason=why_not_best or reason,
            primary_metric=self._config.primary_metric,
            began_at_ms=(
                finished.started_at_ms
                if step.kind == "whole"
                else self._began_at_ms[proposal.number]
            ),
            is_partial=bool(why_not_best),
        )

    def _why_not_best(self, step: Step, result: IterationResult | None) -> str:
        """Say why an iteration that completed cannot be the best; empty if it can."""
        if result is None:
            return ""
        why = ""
        if self._driver is not None and not step.proposal.is_ensemble:
            is_over = self._search_is_over
            why = self._driver.why_not_best(step.proposal.number, is_over=is_over)
        return why or why_too_slow(result.predict_ms_per_row, self._config)

    def _goes_on(self, step: Step, finished: Finished) -> bool:
        """Take in how some folds of an iteration ended; False if it has ended with them."""
        assert self._driver is not None  # noqa: S101 - whose step it is
        if not isinstance(finished.value, FoldsResult):
            return self._driver.race.fell(step)
        self._driver.took(step, finished.value, finished.ticket.output_dir)
        if 0 in step.folds:
            score = finished.value.scores[0]
            self._proposals.learn(step.proposal, finished.state, score)
        return True

    def _never_ran(self, proposal: Proposal, reason: str = "") -> Outcome:
        return never_ran(proposal, self._orders.fresh_folder(proposal), reason)

    def _learn(self, outcome: Outcome) -> None:
        """Let what comes next depend on an outcome."""
        self._outcomes.append(outcome)
        if not outcome.proposal.is_ensemble:
            score = outcome.metrics.get(self._config.primary_metric)
            if self._driver is None or outcome.state is not IterationState.COMPLETED:
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
        ends = [self._outcome(finished) for finished in self._wait()]
        outcomes = [outcome for outcome in ends if outcome is not None]
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
