"""Decides, against the clock, which pipeline is fitted on which folds next. Starts nothing itself.

New pipelines are fitted on the first folds only. A greedy vote over what they predicted there says
which of them are worth more folds; the others are over. Where many folds are needed to tell them
apart, what is far behind the best one after a few of those is over at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from mlflow_automl_remote import choosing
from mlflow_automl_remote.automl.components.base import Pace
from mlflow_automl_remote.automl.dataset import FloatArray
from mlflow_automl_remote.automl.proposals import Proposal
from mlflow_automl_remote.automl.racing.fold import FoldsResult

HEAD: Final = 6
"""So many pipelines race before the first one gets more folds."""
HEAD_OF_KNOWN: Final = 3
"""The same where the first ones are those that earlier sweeps have found."""
SHARE_OF_NEW: Final = 0.5
"""Of the time spent, that of first folds, as long as there are other folds to be fitted."""
LATE: Final = 0.4
"""Of the time: when no more than this is left, no pipeline is begun while others lack folds. The
mean of the models of all folds is worth more than one model of another kind."""
MOST_TO_CHOOSE_FROM: Final = 30
KEPT: Final = 5
"""So many pipelines that the vote does not use stay in the race, the best of them."""
HOPELESS: Final = 2.0
"""So many times the loss of the best one on the same folds, and a pipeline gets no more."""
SLOWER: Final = 1.5
"""So many times as long as others with its model a new pipeline may take."""
SHORT_S: Final = 1.0
"""So many seconds of folds are one step: a process costs a twentieth of a second."""
SHORTEST_FIT_S: Final = 0.3
"""With less time left no pipeline is begun."""

Choose = Callable[[Sequence[FloatArray]], FloatArray]
"""Gives the weights of a vote over predictions for the first folds."""
Favour = Callable[[Sequence["Runner"]], Collection[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a process does next for an iteration.

    Attributes:
        proposal: The iteration.
        kind: `whole`: all of it. `folds`: fit some folds. `finish`: make it what it is to be.
        folds: Which folds, by number.
    """

    proposal: Proposal
    kind: Literal["whole", "folds", "finish"] = "whole"
    folds: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Runner:
    """An iteration in the race.

    Attributes:
        proposal: What it is.
        n_done: Folds that it was fitted on, the first ones.
        scores: Of the primary metric, one per fold.
        fit_s: Seconds of its fits.
        predict_s: Seconds of its predictions.
        keep_s: Seconds to write its models.
        settled: What its first fold has shown.
        predicted: For the rows of the first folds, or some of them.
        is_busy: Whether a process works for it.
        is_over: Whether it gets no more folds.
        is_closed: Whether it has been made what it is to be.
        began_at_ms: Milliseconds since 1970.
    """

    proposal: Proposal
    n_done: int = 0
    scores: list[float] = field(default_factory=list)
    fit_s: float = 0.0
    predict_s: float = 0.0
    keep_s: float = 0.0
    settled: Pace | None = None
    predicted: FloatArray | None = None
    is_busy: bool = False
    is_over: bool = False
    is_closed: bool = False
    began_at_ms: int = 0

    @property
    def fold_s(self) -> float:
        """Seconds that one more fold is predicted to take."""
        return (self.fit_s + self.predict_s + self.keep_s) / max(self.n_done, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How many folds, the first ones, a pipeline is fitted on before what is decided.

    Attributes:
        n_folds: How many there are.
        n_first: On so many pipelines race: the vote looks at what they predicted there.
        n_look: After so many of those it is known whether a pipeline is far behind.
    """

    n_folds: int
    n_first: int = 1
    n_look: int = 1


class Race:
    """The pipelines of a sweep, and how far they are.

    Args:
        stages: After how many folds what is decided.
        choose: Votes.
        greater_is_better: Of the scores.
        n_whole: The first so many pipelines are fitted on all folds at once, so that there are
            models soon.
        favour: Names iterations that get all folds even if the vote does not use them.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        choose: Choose,
        greater_is_better: bool,
        n_whole: int = 0,
        favour: Favour = lambda _: (),
    ) -> None:
        self._n_folds = stages.n_folds
        self._n_first = stages.n_first
        self._n_look = min(stages.n_look, stages.n_first)
        self._choose = choose
        self._greater_is_better = greater_is_better
        self._sign = 1.0 if greater_is_better else -1.0
        self._n_whole = n_whole
        self._favour = favour
        self._runners: dict[int, Runner] = {}
        self._weights: dict[int, float] = {}
        self._spent_s = {"new": 0.0, "more": 0.0}
        self._is_stale = False
        self._total_s = 0.0

    def has(self, number: int) -> bool:
        """Whether an iteration is in the race."""
        return number in self._runners

    def runner(self, number: int) -> Runner:
        """Give an iteration of the race."""
        return self._runners[number]

    def runners(self) -> list[Runner]:
        """Give all iterations that no step works for."""
        return [one for one in self._runners.values() if not one.is_busy and one.n_done]

    def keep_s(self) -> float:
        """Give the seconds to write the models of those that the vote uses."""
        liked = (self._runners[number] for number, weight in self._weights.items() if weight > 0)
        return sum(runner.keep_s for runner in liked)

    def liked(self) -> list[tuple[Proposal, float]]:
        """Give the iterations that the vote uses, with their weights."""
        return [
            (self._runners[number].proposal, weight)
            for number, weight in self._weights.items()
            if weight > 0
        ]

    def liked_share(self, n_folds: int) -> float:
        """Give the share of the vote that is of those that were fitted on so many folds."""
        known = {one.proposal.number for one in self.runners() if one.n_done >= n_folds}
        share = sum(weight for number, weight in self._weights.items() if number in known)
        return share / (sum(self._weights.values()) or 1.0)

    def next(self, left_s: float, new: Callable[[], Proposal | None]) -> Step | None:
        """Give the next step, and take it as begun.

        Args:
            left_s: Seconds left for fits.
            new: Gives the next pipeline; None when there is none.
        """
        self._total_s = max(self._total_s, left_s)
        self._look()
        if finish := self.finish(only_over=True):
            return finish
        if left_s < SHORTEST_FIT_S:
            return None
        if half := self._half_raced():
            half.is_busy = True
            first = range(half.n_done, self._n_first)
            return Step(proposal=half.proposal, kind="folds", folds=tuple(first))
        more = self._more(left_s)
        if more is None or self._wants_new(left_s):
            proposal = new()
            if proposal is not None:
                return self._enter(proposal)
        if more is None:
            return None
        more.is_busy = True
        n_more = max(1, int(SHORT_S / max(more.fold_s, 1e-3)))
        folds = range(more.n_done, min(self._n_folds, more.n_done + n_more))
        return Step(proposal=more.proposal, kind="folds", folds=tuple(folds))

    def finish(self, *, only_over: bool = False) -> Step | None:
        """Give an iteration that gets no more folds, to be made what it is to be."""
        for runner in sorted(self._runners.values(), key=self._order):
            if runner.is_busy or runner.is_closed or not runner.n_done:
                continue
            if runner.is_over or runner.n_done == self._n_folds or not only_over:
                runner.is_closed = True
                return Step(proposal=runner.proposal, kind="finish")
        return None

    def took(self, step: Step, result: FoldsResult, predicted: FloatArray | None) -> None:
        """Take in what came of some folds.

        Args:
            step: That has ended.
            result: Of it.
            predicted: For the rows of the first folds, as soon as it was fitted on all of them.
        """
        runner = self._runners[step.proposal.number]
        runner.is_busy = False
        runner.n_done += len(step.folds)
        runner.scores += result.scores
        runner.is_over = runner.is_over or not np.isfinite(result.scores).all()
        runner.fit_s += result.fit_s
        runner.predict_s += result.predict_s
        runner.keep_s += result.keep_s
        runner.settled = result.settled
        if predicted is not None:
            runner.predicted = predicted
            self._is_stale = True
        elif runner.n_done < self._n_first and self._is_hopeless(runner):
            runner.is_over = True
        kind = "new" if step.folds[0] < self._n_first else "more"
        self._spent_s[kind] += result.fit_s + result.predict_s

    def fell(self, step: Step) -> bool:
        """Take in that some folds failed; gives whether there are others that make it a model."""
        runner = self._runners[step.proposal.number]
        runner.is_busy, runner.is_over = False, True
        runner.is_closed = not runner.n_done
        return runner.n_done > 0

    def fits(self, model: str, left_s: float) -> bool:
        """Whether a new pipeline with a model can race within a time, by what others took."""
        known = [
            one.fold_s
            for one in self._runners.values()
            if one.proposal.model == model and one.n_done
        ]
        return not known or SLOWER * float(np.mean(known)) * self._n_first <= left_s

    @property
    def most_folds(self) -> int:
        """Folds of the iteration that has most."""
        return max((runner.n_done for runner in self._runners.values()), default=0)

    @property
    def _head(self) -> int:
        known = any(one.proposal.source_run_id for one in self._runners.values())
        return HEAD_OF_KNOWN if known else HEAD

    def _order(self, runner: Runner) -> tuple[float, float]:
        """Sort those first that the vote uses, and then the better ones."""
        score = float(np.mean(runner.scores)) if runner.scores else 0.0
        return (-self._weights.get(runner.proposal.number, 0.0), -self._sign * score)

    def _enter(self, proposal: Proposal) -> Step:
        whole = len(self._runners) < self._n_whole
        self._runners[proposal.number] = Runner(proposal=proposal, is_busy=True)
        folds = range(self._n_folds if whole else self._n_look)
        return Step(proposal=proposal, kind="folds", folds=tuple(folds))

    def _half_raced(self) -> Runner | None:
        """Give an iteration that lacks some of the folds that all race on."""
        for runner in self._runners.values():
            waits = not (runner.is_busy or runner.is_over or runner.is_closed)
            if waits and 0 < runner.n_done < self._n_first:
                return runner
        return None

    def _is_hopeless(self, runner: Runner) -> bool:
        """Whether others are so much better on the folds that an iteration was fitted on."""
        losses = {
            one.proposal.number: choosing.loss(
                float(np.mean(one.scores[: runner.n_done])),
                greater_is_better=self._greater_is_better,
            )
            for one in self._runners.values()
            if one.n_done >= runner.n_done and np.isfinite(one.scores).all()
        }
        own = losses.pop(runner.proposal.number, None)
        return own is not None and own > HOPELESS * min(losses.values(), default=own)

    def _wants_new(self, left_s: float) -> bool:
        if left_s < LATE * self._total_s:
            return False
        n_raced = sum(runner.n_done > 0 for runner in self._runners.values())
        new_s, more_s = self._spent_s["new"], self._spent_s["more"]
        return n_raced < self._head or new_s < SHARE_OF_NEW * (new_s + more_s)

    def _more(self, left_s: float) -> Runner | None:
        """Give the iteration that the vote needs most of those that lack folds."""
        lacking = [
            runner
            for runner in self._runners.values()
            if not (runner.is_busy or runner.is_over or runner.is_closed)
            and 0 < runner.n_done < self._n_folds
            and self._weights.get(runner.proposal.number, 0.0) > 0
            and runner.fold_s < left_s
        ]
        return max(lacking, key=lambda one: self._weights[one.proposal.number], default=None)

    def _look(self) -> None:
        """Vote anew, and let those go that are not needed."""
        if not self._is_stale:
            return
        self._is_stale = False
        raced = [
            one for one in self._runners.values() if one.predicted is not None and not one.is_over
        ]
        raced.sort(key=lambda one: -self._sign * float(np.mean(one.scores[: self._n_first])))
        raced = raced[:MOST_TO_CHOOSE_FROM]
        weights = self._choose([one.predicted for one in raced if one.predicted is not None])
        self._weights = {
            one.proposal.number: float(weight) for one, weight in zip(raced, weights, strict=True)
        }
        for number in self._favour(raced):
            self._weights[number] = max(self._weights[number], 1 / len(raced))
        if len(raced) < self._head:
            return
        spare = [
            one for one in raced if not self._weights[one.proposal.number] and not one.is_busy
        ]
        spare = [one for one in spare if one.n_done < self._n_folds]
        for runner in spare[KEPT:]:
            runner.is_over = True
