"""Every setting with its type, its default and the sentence that documents it."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlflow_automl_remote.choosing import OptimizeFor
from mlflow_automl_remote.config.catalogue import Task
from mlflow_automl_remote.config.promotion import Promotion

MAX_ITERATIONS: Final = 1000


class Fields(BaseModel):
    """The settings alone; `AutoMLConfig` adds what is checked across them and how they are read.

    The page of settings in the documentation is made of these descriptions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: Task = Field(description="The kind of problem.")
    iterations: int = Field(
        default=100,
        ge=1,
        le=MAX_ITERATIONS,
        description="How many pipelines are fitted and scored; ensembles are the last of them.",
    )
    iteration_timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Hard limit of one iteration, everything it does included; minutes, or text such as "
            "90s. Default: none."
        ),
    )
    experiment_timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Hard limit of the sweep, from its start to its last iteration, loading the data "
            "included and the explanation not; minutes, or text such as 1h30m. Default: none."
        ),
    )
    experiment_exit_score: float | None = Field(
        default=None,
        description="The sweep ends when the primary metric reaches this. Default: never.",
    )
    enable_early_stopping: bool = Field(
        default=False,
        description=(
            "End the search when the best score has not improved for early_stopping_n_iters "
            "iterations; the first 20 never count."
        ),
    )
    early_stopping_n_iters: int = Field(
        default=20, ge=1, description="How many iterations without progress end the search."
    )
    max_concurrent_iterations: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Iterations at a time. Default, and the most: the cores of the target, or of its "
            "cluster."
        ),
    )
    max_cores_per_iteration: int | None = Field(
        default=None,
        ge=-1,
        description=(
            "Threads of one iteration, and on a cluster the cores that it reserves; -1 for all "
            "cores of one machine. Default: the cores, shared out among the iterations at a time."
        ),
    )
    mem_in_mb: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Memory in megabytes that one iteration may use beyond what all share; it is killed "
            "when it uses more. Default: no limit."
        ),
    )
    primary_metric: str = Field(
        default="",
        description=(
            "The metric to optimise, or a scorer of scikit-learn such as neg_brier_score; all "
            "others are recorded too. Default: accuracy, or normalized_root_mean_squared_error."
        ),
    )
    positive_label: str | None = Field(
        default=None,
        description=(
            "Of two classes the positive one. AUC, average precision, F1, precision and recall of "
            "it alone are then recorded too, as AUC_binary and so on, and can be the "
            "primary_metric. Default: none."
        ),
    )
    n_cross_validations: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description=(
            "Folds of the cross-validation; with validation_size, how many random splits. "
            "Default: by rows, 10 below 1,000, 3 to 20,000, above that a hold-out of 10 %."
        ),
    )
    validation_size: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=(
            "Share of the rows held out to score: once, or n_cross_validations times anew "
            "(Monte Carlo). Default: none."
        ),
    )
    cv_splits_indices: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] | None = Field(
        default=None,
        description=(
            "Own folds: pairs of rows to fit on and rows to score, counted from 0. Default: none."
        ),
    )
    test_size: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description=(
            "Share of the rows that no iteration sees; its score on them is reported beside that "
            "of the validation."
        ),
    )
    y_min: float | None = Field(
        default=None,
        description="Lower end of the range that normalizes errors. Default: that of the data.",
    )
    y_max: float | None = Field(
        default=None,
        description="Upper end of the range that normalizes errors. Default: that of the data.",
    )
    allowed_models: tuple[str, ...] | None = Field(
        default=None, description="Only these models. Default: all."
    )
    blocked_models: tuple[str, ...] = Field(default=(), description="Not these models.")
    auto_blacklist: bool = Field(
        default=True,
        description=(
            "Leave out models whose predicted time is too long for the data and the limits; the "
            "reason is recorded. Models named in allowed_models stay."
        ),
    )
    enable_racing: bool | None = Field(
        default=None,
        description=(
            "Fit pipelines on the first folds, and only the best of them on the others, each "
            "within a slice of the time; their models are the mean of those of the folds. Needs "
            "experiment_timeout_minutes. Default: where that is set."
        ),
    )
    warm_start_from: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Begin with the best pipelines of earlier sweeps: of the one with this run id, or of "
            "those in the experiment with this name or id whose data is most similar. Both are "
            "looked for in the tracking store. Default: none."
        ),
    )
    enable_voting_ensemble: bool | None = Field(
        default=None,
        description=(
            "One of the last iterations is a weighted vote of the best pipelines. "
            "Default: from 10 iterations on."
        ),
    )
    enable_stack_ensemble: bool | None = Field(
        default=None,
        description=(
            "One of the last iterations is a model of the predictions of the best pipelines: a "
            "forest and a linear one for numbers and few rows of more than two classes, else a "
            "linear one. Default: from 20 iterations on; against the clock only where there is a "
            "forest, for numbers from 50 seconds on."
        ),
    )
    ensemble_iterations: int | None = Field(
        default=None,
        ge=2,
        description="How many of the best pipelines an ensemble chooses from. Default: 15.",
    )
    optimize_for: OptimizeFor = Field(
        default="accuracy",
        description=(
            "What the best model is: accuracy, the one with the best score, or an ensemble within "
            "one standard error of it; latency, the one that predicts fastest "
            "(predict_ms_per_row) of those within one standard error, or within a hundredth of "
            "the loss where there is one fold. For latency a race makes models of one fold, and "
            "ensembles leave out members that they do not need."
        ),
    )
    max_predict_ms_per_row: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Limit of the metric predict_ms_per_row: milliseconds of one core of the target that "
            "a model takes for a row, of 1,000 at once, preprocessing included. What is slower "
            "cannot be the best; models of fewer folds make an iteration of a race or a vote, and "
            "fewer members an ensemble, until it fits. Default: no limit."
        ),
    )
    enable_subsampling: bool = Field(
        default=False,
        description=(
            "Learn from a random sample of 50,000 rows where there are more, also the models that "
            "are saved; test_size then takes at most as many."
        ),
    )
    subsample_seed: int | None = Field(
        default=None, ge=0, lt=2**32, description="Seed of that sample. Default: seed."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description=(
            "Where boosters that can are fitted; auto and cuda use the GPU if there is one."
        ),
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of folds, search and models.")
    charts: Literal["all", "best", "none"] = Field(
        default="all",
        description=(
            "Which iterations get charts of their held-out predictions: all, the best one at the "
            "end, or none."
        ),
    )
    models: str = Field(
        default="all",
        pattern=r"^(all|best:[1-9][0-9]*)$",
        description=(
            "Which iterations keep their model: all, or best:5 for those that were among the 5 "
            "best when they ended; for latency also those that none before beat in score and "
            "time to predict."
        ),
    )
    model_explainability: bool | Literal["all"] = Field(
        default=True,
        description=(
            "Explain the best model with SHAP at the end; or every model, `all`, side by side."
        ),
    )
    promote: Promotion | None = Field(
        default=None,
        description=(
            "Promote the best model at the end of the sweep if it passes the gates: {name, alias, "
            "challenger_alias, copy_to, gates: {...}}; see promotion.md. Default: no."
        ),
    )
    verbosity: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="What the agent writes to its log; a level or its number."
    )
    debug_log: str | None = Field(
        default=None,
        description="Name of one more log of the agent, with everything, among the artifacts.",
    )
