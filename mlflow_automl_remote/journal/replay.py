"""The fold from events to the state of a sweep. Pure: no clock, no files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, cast

from mlflow_automl_remote import choosing
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.journal.codec import Record
from mlflow_automl_remote.journal.compact import PackedFiles, fold_scores
from mlflow_automl_remote.journal.events import (
    ChartsDrawn,
    DataLoaded,
    Event,
    ExplanationFinished,
    ExplanationsCompared,
    ExplanationStarted,
    FeaturesEngineered,
    IterationFinished,
    IterationStarted,
    MachineSampled,
    RequestHandled,
    Result,
    SearchPlanned,
    SweepContinued,
    SweepFinished,
    SweepInterrupted,
    SweepResumed,
    SweepStarted,
)
from mlflow_automl_remote.journal.state import Continuation as Continuation
from mlflow_automl_remote.journal.state import Iteration as Iteration
from mlflow_automl_remote.journal.state import MachineSample as MachineSample
from mlflow_automl_remote.journal.state import SweepState as SweepState
from mlflow_automl_remote.states import IterationState, SweepStatus

_NOTHING: Final[Mapping[str, Any]] = {}
"""One for all: a sweep may have 20,000 iterations, with several empty mappings each."""


def _interned(value: Any) -> Any:
    """Give a mapping with one copy of each name and text, however many iterations have it."""
    if isinstance(value, Mapping):
        return {_interned(name): _interned(each) for name, each in value.items()} or _NOTHING
    return sys.intern(value) if isinstance(value, str) else value


def _compact(value: Any, name: str) -> Any:
    """Give a field of a result in as few bytes as it can have."""
    if name == "fold_metrics":
        return fold_scores(value) if value else _NOTHING
    if name == "files":
        return PackedFiles(value) if value else ()
    return _interned(value)


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


def _sweep_continued(state: SweepState, event: SweepContinued, time_ms: int) -> SweepState:
    before = state.continuation
    changed = {**(before.settings if before else {}), **event.settings}
    for number in event.again:
        if number in state.iterations:
            one = state.iterations[number]
            again = replace(one, state=IterationState.RUNNING, ended_ms=None, reason="")
            _with_iteration(state, again)
    finished = tuple(number for number in state.finished if number not in event.again)
    started = state.started and replace(
        state.started, settings={**state.started.settings, **event.settings}
    )
    return replace(
        state,
        status=SweepStatus.RUNNING,
        started=started,
        finished=finished,
        ended_ms=None,
        reason="",
        ended_by="",
        paused_since_ms=None,
        paused_ms=0,
        continuation=Continuation(
            time_ms=time_ms,
            settings=changed,
            earlier=frozenset(finished),
            n_requests=len(state.requests),
            request_ids=(*(before.request_ids if before else ()), event.request_id),
        ),
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
        source_run_id=sys.intern(event.source_run_id),
    )
    return _with_iteration(state, begun)


def _iteration_finished(state: SweepState, event: IterationFinished, _: int) -> SweepState:
    begun = state.iterations.get(event.iteration)
    if begun is None or begun.state.is_finished:
        return state
    ended = replace(
        begun,
        state=event.state,
        started_ms=event.started_ms,
        ended_ms=event.ended_ms,
        score=_score(state, event),
        **{one.name: _compact(getattr(event, one.name), one.name) for one in fields(Result)},
    )
    front, best = _chosen(state, ended)
    ended = replace(ended, best=best.score if best else None)
    return replace(
        _with_iteration(state, ended),
        finished=(*state.finished, event.iteration),
        best_iteration=best.number if best else None,
        front=front,
        ensembles=(*state.ensembles, ended.number)
        if ended.is_ensemble and ended.scored
        else state.ensembles,
    )


def _score(state: SweepState, event: IterationFinished) -> float | None:
    if state.started is None or event.state is not IterationState.COMPLETED:
        return None
    return event.metrics.get(state.started.primary_metric)


def _chosen(state: SweepState, ended: Iteration) -> tuple[tuple[int, ...], Scored | None]:
    """Give the front and the best, now that one more has ended: no others can be either."""
    numbers = {
        number
        for number in (*state.front, *state.ensembles, state.best_iteration)
        if number is not None
    }
    known = [state.iterations[number].scored for number in numbers] + [ended.scored]
    scored = [one for one in known if one is not None]
    greater = state.greater_is_better
    front = choosing.front(scored, greater_is_better=greater)
    best = choosing.best(scored, greater_is_better=greater, optimize_for=state.optimize_for)
    return tuple(one.number for one in front), best


def _charts_drawn(state: SweepState, event: ChartsDrawn, _: int) -> SweepState:
    one = state.iterations.get(event.iteration)
    if one is None or not event.files:
        return state
    drawn = replace(one, files=PackedFiles((*one.files, *event.files)))
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


def _request_handled(state: SweepState, event: RequestHandled, time_ms: int) -> SweepState:
    state = replace(state, requests=(*state.requests, event))
    since_ms = state.paused_since_ms
    if event.action == "pause" and event.outcome == "running" and since_ms is None:
        return replace(state, paused_since_ms=time_ms)
    if event.action == "unpause" and since_ms is not None:
        return replace(state, paused_since_ms=None, paused_ms=state.paused_ms + time_ms - since_ms)
    return state


def _sweep_finished(state: SweepState, event: SweepFinished, time_ms: int) -> SweepState:
    return replace(
        state,
        status=event.status,
        reason=event.reason,
        ended_by=event.ended_by,
        ended_ms=time_ms,
        files=event.files,
        paused_since_ms=None,
    )


_HANDLERS: Final[Mapping[type[Event], Callable[[SweepState, Any, int], SweepState]]] = {
    SweepStarted: _sweep_started,
    SweepResumed: _sweep_resumed,
    SweepContinued: _sweep_continued,
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
