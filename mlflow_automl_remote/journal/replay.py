"""The fold from events to the state of a sweep. Pure: no clock, no files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, cast

from mlflow_automl_remote.journal.codec import Record
from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    ChartsDrawn,
    DataLoaded,
    EngineeredFeature,
    Event,
    ExplanationFinished,
    ExplanationsCompared,
    ExplanationStarted,
    FeaturesEngineered,
    IterationFinished,
    IterationStarted,
    MachineSampled,
    RequestHandled,
    Scalar,
    SearchPlanned,
    SweepFinished,
    SweepInterrupted,
    SweepResumed,
    SweepStarted,
)
from mlflow_automl_remote.states import IterationState, SweepStatus

_T = TypeVar("_T")
_NOTHING: Final[Mapping[str, Any]] = {}


def _nothing() -> Mapping[str, Any]:
    """Give one empty mapping to all: a sweep may have 20,000 iterations, with four each."""
    return _NOTHING


def _interned(values: Mapping[str, _T]) -> Mapping[str, _T]:
    """Give the same with one copy of each name, however many iterations have it."""
    return {sys.intern(name): value for name, value in values.items()} if values else _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """An iteration as the journal knows it; for the fields see `events.IterationFinished`.

    Attributes:
        score: The primary metric, or None.
        best: The best primary metric of all iterations when this one ended, or None.
    """

    number: int
    scaler: str
    model: str
    params: Mapping[str, Scalar]
    proposed_by: str
    attempt: int
    started_ms: int
    state: IterationState = IterationState.RUNNING
    ended_ms: int | None = None
    reason: str = ""
    score: float | None = None
    best: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=_nothing)
    fold_metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=_nothing)
    hyperparameters: Mapping[str, Scalar] = field(default_factory=_nothing)
    fit_s: float = 0.0
    predict_s: float = 0.0
    standard_error: float | None = None
    test_metrics: Mapping[str, float | None] = field(default_factory=_nothing)
    featurization: str = ""
    files: tuple[ArtifactFile, ...] = ()
    model_path: str | None = None

    @property
    def pipeline(self) -> str:
        """The label of the pipeline, such as `MaxAbsScaler LightGBM`."""
        return f"{self.scaler} {self.model}".strip()

    @property
    def duration_s(self) -> float | None:
        """Seconds from begin to end, or None while it runs."""
        return None if self.ended_ms is None else (self.ended_ms - self.started_ms) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSample:
    """How busy the machine was at a time; see `events.MachineSampled`."""

    time_ms: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """A sweep as its journal tells it so far.

    Attributes:
        iterations: By number; in the order in which they began.
        finished: Numbers of the ended iterations, in the order in which they ended.
        explanations: How explanations ended, by iteration.
        comparison: What lays explained models side by side, or None.
        plan: What the search was to do, or None before it began.
        featurization: What preprocessing makes of the columns, by its mode; see
            `events.FeaturesEngineered`.
        ended_by: Why the search ended before its last iteration; empty if it did not.
        interrupted: Why the last agent ended before the sweep had; empty if it is not known to.
        attempt: How many agents have worked on it.
        n_events: How many events it is the fold of.
    """

    status: SweepStatus = SweepStatus.RUNNING
    reason: str = ""
    started: SweepStarted | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    data: DataLoaded | None = None
    plan: SearchPlanned | None = None
    featurization: Mapping[str, tuple[EngineeredFeature, ...]] = field(default_factory=dict)
    ended_by: str = ""
    iterations: Mapping[int, Iteration] = field(default_factory=dict)
    finished: tuple[int, ...] = ()
    best_iteration: int | None = None
    explaining: int | None = None
    explanations: Mapping[int, ExplanationFinished] = field(default_factory=dict)
    comparison: ExplanationsCompared | None = None
    samples: tuple[MachineSample, ...] = ()
    requests: tuple[RequestHandled, ...] = ()
    files: tuple[ArtifactFile, ...] = ()
    interrupted: str = ""
    attempt: int = 0
    n_events: int = 0

    @property
    def best(self) -> Iteration | None:
        """The iteration with the best score so far, or None."""
        return None if self.best_iteration is None else self.iterations[self.best_iteration]

    @property
    def explanation(self) -> ExplanationFinished | None:
        """How the explanation of the best iteration ended, or None."""
        if self.best_iteration is None:
            return None
        return self.explanations.get(self.best_iteration)

    @property
    def ranked(self) -> tuple[Iteration, ...]:
        """All iterations, the best first; those without a score last, by number."""
        sign = -1 if self.started is None or self.started.greater_is_better else 1
        return tuple(
            sorted(
                self.iterations.values(),
                key=lambda one: (
                    one.score is None,
                    0.0 if one.score is None else sign * one.score,
                    one.number,
                ),
            )
        )


def replay(records: Iterable[Record], state: SweepState | None = None) -> SweepState:
    """Fold records into a state; events of unknown kinds change nothing."""
    state = SweepState() if state is None else state
    # The fold's own: copied once, not at each event, and seen by nobody before it is whole.
    state = replace(state, iterations=dict(state.iterations))
    for record in records:
        if record.event is not None:
            state = _HANDLERS[type(record.event)](state, record.event, record.time_ms)
        state = replace(state, n_events=record.seq + 1)
    return state


def _with_iteration(state: SweepState, one: Iteration) -> SweepState:
    """Put an iteration into the dictionary that `replay` has made for its fold."""
    cast("dict[int, Iteration]", state.iterations)[one.number] = one
    return state


def _sweep_started(state: SweepState, event: SweepStarted, time_ms: int) -> SweepState:
    return replace(state, started=event, started_ms=time_ms, attempt=1)


def _sweep_resumed(state: SweepState, event: SweepResumed, _: int) -> SweepState:
    return replace(
        state,
        attempt=event.attempt,
        status=SweepStatus.RUNNING,
        reason="",
        interrupted="",
        ended_ms=None,
    )


def _sweep_interrupted(state: SweepState, event: SweepInterrupted, _: int) -> SweepState:
    return replace(state, interrupted=event.reason)


def _data_loaded(state: SweepState, event: DataLoaded, _: int) -> SweepState:
    return replace(state, data=event)


def _search_planned(state: SweepState, event: SearchPlanned, _: int) -> SweepState:
    return replace(state, plan=event)


def _features_engineered(state: SweepState, event: FeaturesEngineered, _: int) -> SweepState:
    return replace(state, featurization={**state.featurization, event.mode: event.features})


def _iteration_started(state: SweepState, event: IterationStarted, time_ms: int) -> SweepState:
    begun = Iteration(
        number=event.iteration,
        scaler=sys.intern(event.scaler),
        model=sys.intern(event.model),
        params=_interned(event.params),
        proposed_by=sys.intern(event.proposed_by),
        attempt=event.attempt,
        started_ms=time_ms,
    )
    return _with_iteration(state, begun)


def _iteration_finished(state: SweepState, event: IterationFinished, _: int) -> SweepState:
    begun = state.iterations.get(event.iteration)
    if begun is None or begun.state.is_finished:
        return state
    score = _score(state, event)
    best = _best_of(state, event.iteration, score)
    ended = replace(
        begun,
        state=event.state,
        reason=event.reason,
        started_ms=event.started_ms,
        ended_ms=event.ended_ms,
        score=score,
        best=score if best == event.iteration else _score_of(state, best),
        metrics=_interned(event.metrics),
        fold_metrics=_interned(event.fold_metrics),
        hyperparameters=_interned(event.hyperparameters),
        fit_s=event.fit_s,
        predict_s=event.predict_s,
        standard_error=event.standard_error,
        test_metrics=_interned(event.test_metrics),
        featurization=event.featurization,
        files=event.files,
        model_path=event.model_path,
    )
    return replace(
        _with_iteration(state, ended),
        finished=(*state.finished, event.iteration),
        best_iteration=best,
    )


def _score(state: SweepState, event: IterationFinished) -> float | None:
    if state.started is None or event.state is not IterationState.COMPLETED:
        return None
    return event.metrics.get(state.started.primary_metric)


def _score_of(state: SweepState, number: int | None) -> float | None:
    return None if number is None else state.iterations[number].score


def _best_of(state: SweepState, number: int, score: float | None) -> int | None:
    """The better of the best so far and a new score; the earlier one when they are equal."""
    incumbent = _score_of(state, state.best_iteration)
    if score is None:
        return state.best_iteration
    if incumbent is None:
        return number
    greater = state.started is None or state.started.greater_is_better
    better = score > incumbent if greater else score < incumbent
    return number if better else state.best_iteration


def _charts_drawn(state: SweepState, event: ChartsDrawn, _: int) -> SweepState:
    one = state.iterations.get(event.iteration)
    if one is None or not event.files:
        return state
    drawn = replace(one, files=(*one.files, *event.files))
    return _with_iteration(state, drawn)


def _explanation_started(state: SweepState, event: ExplanationStarted, _: int) -> SweepState:
    return replace(state, explaining=event.iteration)


def _explanation_finished(state: SweepState, event: ExplanationFinished, _: int) -> SweepState:
    explanations = {**state.explanations, event.iteration: event}
    return replace(state, explaining=None, explanations=explanations)


def _explanations_compared(state: SweepState, event: ExplanationsCompared, _: int) -> SweepState:
    return replace(state, comparison=event)


def _machine_sampled(state: SweepState, event: MachineSampled, time_ms: int) -> SweepState:
    sample = MachineSample(time_ms=time_ms, values=event.values)
    return replace(state, samples=(*state.samples, sample))


def _request_handled(state: SweepState, event: RequestHandled, _: int) -> SweepState:
    return replace(state, requests=(*state.requests, event))


def _sweep_finished(state: SweepState, event: SweepFinished, time_ms: int) -> SweepState:
    return replace(
        state,
        status=event.status,
        reason=event.reason,
        ended_by=event.ended_by,
        ended_ms=time_ms,
        files=event.files,
    )


_HANDLERS: Final[Mapping[type[Event], Callable[[SweepState, Any, int], SweepState]]] = {
    SweepStarted: _sweep_started,
    SweepResumed: _sweep_resumed,
    SweepInterrupted: _sweep_interrupted,
    DataLoaded: _data_loaded,
    SearchPlanned: _search_planned,
    FeaturesEngineered: _features_engineered,
    IterationStarted: _iteration_started,
    IterationFinished: _iteration_finished,
    ChartsDrawn: _charts_drawn,
    ExplanationStarted: _explanation_started,
    ExplanationFinished: _explanation_finished,
    ExplanationsCompared: _explanations_compared,
    MachineSampled: _machine_sampled,
    RequestHandled: _request_handled,
    SweepFinished: _sweep_finished,
}
