"""What can happen in a sweep: one frozen dataclass an event. Kinds and fields only ever grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from mlflow_automl_remote.states import IterationState, SweepStatus

Scalar: TypeAlias = str | int | float | bool | None

MAX_COLUMNS: Final = 1_000
"""Columns that an event tells of; a wider table is not told column by column."""
MAX_CLASSES: Final = 100
"""Classes whose rows an event counts; of more, the most frequent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """A file that is complete on disk before the event that names it is written.

    Attributes:
        path: Relative to the sweep's folder of artifacts, with `/` between its parts.
        size_bytes: Its size.
        sha256: Its checksum, as 64 hexadecimal digits.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStarted:
    """The agent runs; first event of a journal."""

    sweep_id: str
    settings: Mapping[str, object]
    primary_metric: str
    greater_is_better: bool
    package_version: str
    python_version: str
    host_name: str
    n_cores: int
    memory_bytes: int
    package_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResumed:
    """A new agent goes on with the sweep of one that died; `attempt` counts agents from 1."""

    attempt: int
    package_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepContinued:
    """A person wants more of a sweep that has ended, or whose agent has died.

    Attributes:
        request_id: The request; one that is seen twice is done once.
        settings: Settings with other values from now on.
        again: Iterations that run once more under their numbers.
    """

    request_id: str
    settings: Mapping[str, object] = field(default_factory=dict)
    again: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepInterrupted:
    """The agent has ended before the sweep had, for a reason that a person can remedy."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """Something about the data that a person should know.

    Attributes:
        id: What kind of finding it is.
        column: The column it is about; empty for the whole table.
        severity: `warning` if scores may not hold on new data, else `info`.
        text: One line: what was found and what can be done.
    """

    id: str
    column: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the data as it came in.

    Attributes:
        kind: `number`, `boolean`, `category`, `date` or `text`.
        n_unique: Different values; of very many, as many as were counted.
        dropped_reason: Why no model sees it; empty if models do.
    """

    name: str
    kind: str
    n_missing: int = 0
    n_unique: int = 0
    dropped_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """How many rows a class has."""

    label: str
    n_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLoaded:
    """The data was loaded and passed all checks.

    Attributes:
        n_columns: Columns that models see.
        columns: The first `MAX_COLUMNS` columns that came in; empty for a sparse matrix.
        class_counts: Rows of each class, the most frequent first; at most `MAX_CLASSES`.
        meta_features: What the data is like, in a few numbers, by which a later sweep finds this
            one; see `automl.meta_features`.
    """

    n_rows: int
    n_columns: int
    n_classes: int | None
    digest: str
    duration_s: float
    feature_names: tuple[str, ...] | None = None
    guardrails: tuple[Guardrail, ...] = ()
    columns: tuple[Column, ...] = ()
    class_counts: tuple[ClassCount, ...] = ()
    meta_features: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlanned:
    """What the sweep will do with this data on this machine.

    Attributes:
        models: Names of the models that are searched.
        left_out: Why each of the others is not, by name.
        ensembles: Kinds of the last iterations.
        n_places: Iterations at a time.
        n_threads: Threads of each of them.
        device: Where boosters that can are fitted: `cpu` or `cuda`.
        validation: How pipelines are scored, for a person: `5-fold cross-validation`.
        n_folds: How often each is fitted for that.
        n_test_rows: Rows that no iteration sees; 0 without `test_size`.
        n_learn_rows: Rows that final models are fitted on: fewer than there are where some are
            kept for the test or `enable_subsampling` takes a sample; 0 if not known.
        notes: Where the plan is not what the settings ask for, for a person.
        warm_start: What of earlier sweeps comes first, for a person; empty without a warm start.
    """

    models: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    ensembles: tuple[str, ...] = ()
    n_places: int = 1
    n_threads: int = 1
    device: str = "cpu"
    validation: str = ""
    n_folds: int = 0
    n_test_rows: int = 0
    n_learn_rows: int = 0
    notes: tuple[str, ...] = ()
    warm_start: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineeredFeature:
    """What preprocessing made of one column, as in the article's featurization summary.

    Attributes:
        raw_feature: Name of the column.
        type_detected: `Numeric`, `Boolean`, `Categorical`, `DateTime`, `Text` or `Ignored`.
        dropped: Whether no model sees it.
        n_engineered: Numbers that it became.
        transformations: What was done, in a few words per step.
    """

    raw_feature: str
    type_detected: str
    dropped: bool = False
    n_engineered: int = 0
    transformations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesEngineered:
    """What preprocessing makes of the columns; once for each of its modes, not per iteration.

    Attributes:
        mode: `dense` (numbers only), `native` (categories and gaps kept) or `coded` (so too,
            however many categories); see `IterationFinished.featurization`.
        features: The first `MAX_COLUMNS` columns.
    """

    mode: str
    features: tuple[EngineeredFeature, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationStarted:
    """A pipeline is being fitted in a process of its own.

    Attributes:
        scaler: Its scaler; empty for an ensemble.
        params: The hyper-parameters proposed, by names such as `model__max_depth`.
        proposed_by: Which step of the search proposed it: `warm_start`, `portfolio`, `optuna`,
            `neighbour` or `ensemble`.
        attempt: Above 1 when an agent died while the iteration ran.
        source_run_id: The run of an earlier sweep that it comes from; empty if from none.
    """

    iteration: int
    scaler: str
    model: str
    params: Mapping[str, Scalar]
    proposed_by: str
    attempt: int = 1
    source_run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an iteration came to; nothing, as long as it runs.

    Attributes:
        reason: One line that says why it has no score; empty when it has one.
        metrics: Mean over the folds; None where a metric is not defined.
        fold_metrics: The same for each fold.
        hyperparameters: All of scaler and model, defaults included.
        fit_s: Seconds spent in fitting, folds and refit together.
        predict_s: Seconds spent in predicting the held-out folds.
        predict_ms_per_row: Milliseconds of one core that the model takes for a row, of 1,000 at
            once, from the columns as they came in; None where it was not measured.
        n_fits: How many fits `fit_s` is of; 0 where that is not known.
        standard_error: Of the primary metric's mean over the folds, or None; a lower bound,
            because the folds share most of the rows that they are fitted on.
        test_metrics: Of the model on rows that nothing was chosen by (`test_size`), by name; where
            the score of the best of many iterations is luck, these do not follow.
        featurization: How the columns were preprocessed, a mode of `FeaturesEngineered`; empty
            if the numbers went in as they are.
        files: Everything that the iteration left, its log and its model included.
        model_path: Folder of the model among `files`, or None.
        node: Machine of a cluster that it ran on; empty where there is only the target.
    """

    reason: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    fold_metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    hyperparameters: Mapping[str, Scalar] = field(default_factory=dict)
    fit_s: float = 0.0
    predict_s: float = 0.0
    predict_ms_per_row: float | None = None
    n_fits: int = 0
    standard_error: float | None = None
    test_metrics: Mapping[str, float | None] = field(default_factory=dict)
    featurization: str = ""
    files: Annotated[Sequence[ArtifactFile], AfterValidator(tuple)] = ()
    model_path: str | None = None
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationFinished(Result):
    """An iteration ended, in whatever way.

    Attributes:
        started_ms: When it began, in milliseconds since 1970.
        ended_ms: When it ended.
    """

    iteration: int
    state: IterationState
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartsDrawn:
    """Charts of an ended iteration were drawn; `reason` is empty, or says why there are none."""

    iteration: int
    reason: str = ""
    files: tuple[ArtifactFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationStarted:
    """The model of an iteration is being explained."""

    iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationFinding:
    """A column that matters to a model.

    Attributes:
        share: Of all importance, 0 to 1.
        effect: Which way it works, in words.
    """

    feature: str
    share: float
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationFinished:
    """An explanation ended.

    Attributes:
        reason: Empty, or why there is none.
        explainer: The method.
        output_space: What the values add up to: `probability`, `margin` or `value`.
        n_rows: Rows explained; fewer than `n_requested` when its time was over.
        standard_error: Of one value; 0 where exact.
        findings: The columns that matter most.
        stability: How alike parts of the rows rank the columns, -1 to 1; None if unknown.
    """

    iteration: int
    duration_s: float
    reason: str = ""
    explainer: str = ""
    output_space: str = ""
    n_rows: int = 0
    n_requested: int = 0
    standard_error: float | None = None
    findings: tuple[ExplanationFinding, ...] = ()
    stability: float | None = None
    files: tuple[ArtifactFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationsCompared:
    """The importances of several models were laid side by side, the best first."""

    iterations: tuple[int, ...]
    reason: str = ""
    files: tuple[ArtifactFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSampled:
    """How busy the target is; values by MLflow's names, as `cpu_utilization_percentage`.

    Those of a node of a cluster have its name and `/` before them; `nodes/` is the mean of all.
    """

    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHandled:
    """A request from outside was carried out, or was found to have no object.

    Attributes:
        outcome: What it met: `queued`, `running`, `finished` or `unknown`.
    """

    request_id: str
    action: str
    outcome: str
    iteration: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFinished:
    """Last event of a journal.

    Attributes:
        reason: Why there is no model; empty when there is one.
        ended_by: Why the search ended before its last iteration; empty if it did not.
    """

    status: SweepStatus
    reason: str = ""
    ended_by: str = ""
    best_iteration: int | None = None
    files: tuple[ArtifactFile, ...] = ()


Event: TypeAlias = (
    SweepStarted
    | SweepResumed
    | SweepContinued
    | SweepInterrupted
    | DataLoaded
    | SearchPlanned
    | FeaturesEngineered
    | IterationStarted
    | IterationFinished
    | ChartsDrawn
    | ExplanationStarted
    | ExplanationFinished
    | ExplanationsCompared
    | MachineSampled
    | RequestHandled
    | SweepFinished
)

EVENT_TYPES: Final[Mapping[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        SweepStarted,
        SweepResumed,
        SweepContinued,
        SweepInterrupted,
        DataLoaded,
        SearchPlanned,
        FeaturesEngineered,
        IterationStarted,
        IterationFinished,
        ChartsDrawn,
        ExplanationStarted,
        ExplanationFinished,
        ExplanationsCompared,
        MachineSampled,
        RequestHandled,
        SweepFinished,
    )
}
