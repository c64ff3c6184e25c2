"""Decides what comes next: what an earlier agent left, a warm start, the portfolio, Optuna."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from mlflow_automl_remote.automl.components.base import Scalar
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.sampler import Sampler, neighbour
from mlflow_automl_remote.automl.warm_start import WarmPipeline
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.states import IterationState

Proposer = Literal["warm_start", "portfolio", "optuna", "neighbour", "ensemble"]

_NEIGHBOURS: Final = 7  # so that they have a stream of random numbers of their own
_SAYS_NOTHING: Final = frozenset((IterationState.CANCELLED, IterationState.RUNNING))
"""States that tell nothing about how good a pipeline is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One iteration, before it has begun.

    Attributes:
        number: Of the iteration, from 0.
        scaler: Name of the scaler; empty for an ensemble.
        model: Name of the model, or the kind of ensemble.
        params: Point of the search space; keys are `scaler__x` and `model__x`.
        proposed_by: Where it comes from.
        source_run_id: The run of an earlier sweep that it comes from; empty if from none.
    """

    number: int
    scaler: str
    model: str
    params: Mapping[str, Scalar]
    proposed_by: Proposer
    source_run_id: str = ""

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline alone."""
        return PipelineSpec(scaler=self.scaler, model=self.model, params=self.params)

    @property
    def label(self) -> str:
        """How the pipeline is shown: `MaxAbsScaler LightGBM`."""
        return self.spec.label

    @property
    def is_ensemble(self) -> bool:
        """Whether it is made of other iterations."""
        return self.proposed_by == "ensemble"


@dataclass(frozen=True, slots=True, kw_only=True)
class PastIteration:
    """An iteration that an earlier agent began.

    Attributes:
        proposal: What it was.
        state: RUNNING if it was in flight: it runs again, under its number.
        score: Its primary metric, or None.
        standard_error: Of the score over the folds, or None.
        predict_ms_per_row: What its model takes, or None.
    """

    proposal: Proposal
    state: IterationState
    score: float | None = None
    standard_error: float | None = None
    predict_ms_per_row: float | None = None


def iteration_seed(seed: int, number: int) -> int:
    """Derive the seed of an iteration from that of the sweep; 0 to 2**31 - 1."""
    state = np.random.SeedSequence([seed, number]).generate_state(1)[0]
    return int(state) & (2**31 - 1)  # LightGBM's seeds are signed


class Proposals:
    """Gives one proposal after the other, until all numbers are used.

    Args:
        task: The kind of problem.
        first: The first pipelines, after those of a warm start.
        n_iterations: How many pipelines the sweep has.
        sampler: Asked once the portfolio is used up.
        history: What an earlier agent did; no ensembles.
        lag: The sampler, asked for iteration n, knows how those up to n - lag ended, and nothing
            of the others. So proposals depend on the numbers of iterations and not on which of
            them happened to end first. None: it knows all that have ended.
        warm: Pipelines of earlier sweeps, which come before all others.
        seed: Of neighbours.
        skip: Numbers that are not to be given, those of ensembles.
    """

    def __init__(  # noqa: PLR0913 - all of it is needed once, and named at the call
        self,
        task: Task,
        first: Sequence[PipelineSpec],
        *,
        n_iterations: int,
        sampler: Sampler,
        history: Sequence[PastIteration] = (),
        lag: int | None = None,
        warm: Sequence[WarmPipeline] = (),
        seed: int = 0,
        skip: Collection[int] = (),
    ) -> None:
        self._sampler = sampler
        self._lag = lag
        self._taken = {past.proposal.spec.identity for past in history}
        self._again = deque(
            sorted(
                (past.proposal for past in history if not past.state.is_finished),
                key=lambda proposal: proposal.number,
            )
        )
        self._skip = frozenset(skip)
        used = {past.proposal.number for past in history} | self._skip
        self._numbers = deque(number for number in range(n_iterations) if number not in used)
        self._warm = deque(one for one in warm if one.spec.identity not in self._taken)
        self._portfolio = deque(first)
        self._task: Task = task
        self._rng = np.random.default_rng([seed, _NEIGHBOURS])
        self._untold: dict[int, PastIteration] = {}
        self._told = 0
        for past in history:
            self.learn(past.proposal, past.state, past.score)

    def next(
        self,
        near: PipelineSpec | None = None,
        *,
        left_s: float = math.inf,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Proposal | None:
        """Give the next proposal; None when all are given, or while one has to wait to be made.

        Args:
            near: After the first pipelines, give one like this instead of asking the sampler.
            left_s: Seconds that are left; what is predicted to take longer is passed over.
            fits: Whether there is time for a model, as far as it is known.
        """
        if self._again:
            return self._again.popleft()
        if not self._numbers:
            return None
        number = self._numbers[0]
        drawn = self._draw(number, near, left_s, fits)
        if drawn is None:
            return None
        self._taken.add(drawn.spec.identity)
        self._numbers.popleft()
        return drawn

    def _draw(
        self,
        number: int,
        near: PipelineSpec | None,
        left_s: float,
        fits: Callable[[str], bool],
    ) -> Proposal | None:
        while self._warm:
            warm = self._warm.popleft()
            if warm.seconds <= left_s:
                proposal = _proposal(number, warm.spec, "warm_start")
                return replace(proposal, source_run_id=warm.source_run_id)
        while self._portfolio:
            spec = self._portfolio.popleft()
            if spec.identity not in self._taken and fits(spec.model):
                return _proposal(number, spec, "portfolio")
        if near is not None:
            if not fits(near.model):
                return None
            return _proposal(number, neighbour(near, self._task, self._rng), "neighbour")
        if not self._tell(number):
            return None
        return _proposal(number, self._sampler.ask(self._taken), "optuna")

    def learn(self, proposal: Proposal, state: IterationState, score: float | None) -> None:
        """Take in how an iteration ended; a failure counts as a bad score, a cancellation not."""
        past = PastIteration(proposal=proposal, state=state, score=score)
        if self._lag is None:
            self._pass_on(past)
        elif state.is_finished:
            self._untold[proposal.number] = past

    def _tell(self, number: int) -> bool:
        """Tell the sampler what it may know before it is asked; False if that is not known yet."""
        if self._lag is None:
            return True
        for past in range(self._told, number - self._lag + 1):
            if past not in self._skip:
                if past not in self._untold:
                    return False
                self._pass_on(self._untold.pop(past))
            self._told = past + 1
        return True

    def _pass_on(self, past: PastIteration) -> None:
        if past.state in _SAYS_NOTHING:
            self._sampler.forget(past.proposal.spec)
            return
        completed = past.state is IterationState.COMPLETED
        self._sampler.tell(past.proposal.spec, past.score if completed else None)


def _proposal(number: int, spec: PipelineSpec, by: Proposer) -> Proposal:
    return Proposal(
        number=number, scaler=spec.scaler, model=spec.model, params=spec.params, proposed_by=by
    )


def ensembles_to_run(
    kinds: Sequence[str],
    past: Sequence[PastIteration],
    used: Collection[int],
    *,
    n_iterations: int,
) -> list[Proposal]:
    """Propose the ensembles of a sweep that have not ended yet.

    Args:
        kinds: Which, in order.
        past: Those that an earlier agent began.
        used: Numbers that others have.
        n_iterations: How many numbers there are.
    """
    begun = {each.proposal.model: each for each in past}
    taken = set(used)
    free = [number for number in range(n_iterations) if number not in taken]
    return [
        begun[kind].proposal
        if kind in begun
        else Proposal(number=free.pop(0), scaler="", model=kind, params={}, proposed_by="ensemble")
        for kind in kinds
        if (kind in begun or free) and not (kind in begun and begun[kind].state.is_finished)
    ]
