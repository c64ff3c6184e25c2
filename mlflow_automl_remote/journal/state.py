"""A sweep as its journal tells it: the values that `replay` folds events into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    DataLoaded,
    EngineeredFeature,
    ExplanationFinished,
    ExplanationsCompared,
    RequestHandled,
    Result,
    Scalar,
    SearchPlanned,
    SweepStarted,
)
from mlflow_automl_remote.states import IterationState, SweepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration(Result):
    """An iteration as the journal knows it.

    Attributes:
        score: The primary metric, or None.
        best: That of the best iteration when this one ended, or None.
        source_run_id: The run of an earlier sweep that it comes from; empty if from none.
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
    score: float | None = None
    best: float | None = None
    source_run_id: str = ""

    @property
    def is_ensemble(self) -> bool:
        """Whether it is made of other iterations."""
        return self.proposed_by == "ensemble"

    @property
    def scored(self) -> Scored | None:
        """What it is chosen by; None without a score."""
        if self.score is None:
            return None
        return Scored(
            number=self.number,
            score=self.score,
            standard_error=self.standard_error,
            predict_ms_per_row=self.predict_ms_per_row,
            is_ensemble=self.is_ensemble,
        )

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
class Continuation:
    """The last time that a person wanted more of a sweep.

    Attributes:
        settings: All settings that were changed, at this time and before.
        earlier: Iterations that had ended before.
        n_requests: Requests that were handled before.
        request_ids: Of this and all earlier continuations.
    """

    time_ms: int
    settings: Mapping[str, object]
    earlier: frozenset[int]
    n_requests: int
    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """A sweep as its journal tells it so far.

    Attributes:
        iterations: By number; in the order in which they began.
        finished: Numbers of the ended iterations, in the order in which they ended.
        best_iteration: The best so far, as `optimize_for` wants it, or None.
        front: Numbers of those that no other beats in score and time to predict, the fastest
            first.
        ensembles: Numbers of those with a score that are made of others.
        explanations: How explanations ended, by iteration.
        comparison: What lays explained models side by side, or None.
        plan: What the search was to do, or None before it began.
        featurization: What preprocessing makes of the columns, by its mode; see
            `events.FeaturesEngineered`.
        ended_by: Why the search ended before its last iteration; empty if it did not.
        interrupted: Why the last agent ended before the sweep had; empty if it is not known to.
        continuation: When and how it was continued the last time, or None.
        paused_since_ms: Since when no iteration begins, because a person wants it so, or None.
        paused_ms: How long it was paused before, since it was continued.
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
    front: tuple[int, ...] = ()
    ensembles: tuple[int, ...] = ()
    explaining: int | None = None
    explanations: Mapping[int, ExplanationFinished] = field(default_factory=dict)
    comparison: ExplanationsCompared | None = None
    samples: tuple[MachineSample, ...] = ()
    requests: tuple[RequestHandled, ...] = ()
    files: tuple[ArtifactFile, ...] = ()
    interrupted: str = ""
    continuation: Continuation | None = None
    paused_since_ms: int | None = None
    paused_ms: int = 0
    attempt: int = 0
    n_events: int = 0

    @property
    def best(self) -> Iteration | None:
        """The best iteration so far, or None."""
        return None if self.best_iteration is None else self.iterations[self.best_iteration]

    @property
    def explanation(self) -> ExplanationFinished | None:
        """How the explanation of the best iteration ended, or None."""
        if self.best_iteration is None:
            return None
        return self.explanations.get(self.best_iteration)

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return self.started is None or self.started.greater_is_better

    @property
    def optimize_for(self) -> str:
        """What the best iteration is: `accuracy` or `latency`."""
        settings = {} if self.started is None else self.started.settings
        return str(settings.get("optimize_for", "accuracy"))

    @property
    def ranked(self) -> tuple[Iteration, ...]:
        """All iterations: the best first, others by score, those without one last, by number."""
        sign = -1 if self.greater_is_better else 1
        return tuple(
            sorted(
                self.iterations.values(),
                key=lambda one: (
                    one.number != self.best_iteration,
                    one.score is None,
                    0.0 if one.score is None else sign * one.score,
                    one.number,
                ),
            )
        )
