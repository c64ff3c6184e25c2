"""Decides what comes next: what an earlier agent left, then the portfolio, then Optuna."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mlflow_automl_remote.automl.components.base import Scalar
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.sampler import Sampler
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.states import IterationState

Proposer = Literal["portfolio", "optuna"]

_SAYS_NOTHING: Final = frozenset((IterationState.CANCELLED, IterationState.RUNNING))
"""States that tell nothing about how good a pipeline is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One iteration, before it has begun.

    Attributes:
        number: Of the iteration, from 0.
        scaler: Name of the scaler.
        model: Name of the model.
        params: Point of the search space; keys are `scaler__x` and `model__x`.
        proposed_by: Where it comes from.
    """

    number: int
    scaler: str
    model: str
    params: Mapping[str, Scalar]
    proposed_by: Proposer

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline alone."""
        return PipelineSpec(scaler=self.scaler, model=self.model, params=self.params)

    @property
    def label(self) -> str:
        """How the pipeline is shown: `MaxAbsScaler LightGBM`."""
        return self.spec.label


@dataclass(frozen=True, slots=True, kw_only=True)
class PastIteration:
    """An iteration that an earlier agent began.

    Attributes:
        proposal: What it was.
        state: RUNNING if it was in flight: it runs again, under its number.
        score: Its primary metric, or None.
    """

    proposal: Proposal
    state: IterationState
    score: float | None = None


class Proposals:
    """Gives one proposal after the other, until all numbers are used.

    Args:
        task: The kind of problem.
        models: Names of the models that may be used.
        n_iterations: How many iterations the sweep has.
        sampler: Asked once the portfolio is used up.
        history: What an earlier agent did.
    """

    def __init__(
        self,
        task: Task,
        models: Sequence[str],
        *,
        n_iterations: int,
        sampler: Sampler,
        history: Sequence[PastIteration] = (),
    ) -> None:
        self._sampler = sampler
        self._taken = {past.proposal.spec.identity for past in history}
        self._again = deque(
            sorted(
                (past.proposal for past in history if not past.state.is_finished),
                key=lambda proposal: proposal.number,
            )
        )
        used = {past.proposal.number for past in history}
        self._numbers = deque(number for number in range(n_iterations) if number not in used)
        self._portfolio = deque(
            spec for spec in portfolio(task, models) if spec.identity not in self._taken
        )
        for past in history:
            self.learn(past.proposal, past.state, past.score)

    def next(self) -> Proposal | None:
        """Give the next proposal, or None when all iterations have been proposed."""
        if self._again:
            return self._again.popleft()
        if not self._numbers:
            return None
        by: Proposer = "portfolio" if self._portfolio else "optuna"
        spec = self._portfolio.popleft() if self._portfolio else self._sampler.ask(self._taken)
        self._taken.add(spec.identity)
        return Proposal(
            number=self._numbers.popleft(),
            scaler=spec.scaler,
            model=spec.model,
            params=spec.params,
            proposed_by=by,
        )

    def learn(self, proposal: Proposal, state: IterationState, score: float | None) -> None:
        """Take in how an iteration ended; a failure counts as a bad score, a cancellation not."""
        if state in _SAYS_NOTHING:
            self._sampler.forget(proposal.spec)
            return
        self._sampler.tell(proposal.spec, score if state is IterationState.COMPLETED else None)
