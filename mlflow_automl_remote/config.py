"""Every setting of a sweep, validated, to and from JSON and YAML. Knows neither MLflow nor SSH."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mlflow_automl_remote.errors import ConfigurationError

Task = Literal["classification", "regression"]

CLASSIFICATION_METRICS: Final = (
    "AUC_macro",
    "AUC_micro",
    "AUC_weighted",
    "accuracy",
    "average_precision_score_macro",
    "average_precision_score_micro",
    "average_precision_score_weighted",
    "balanced_accuracy",
    "f1_score_macro",
    "f1_score_micro",
    "f1_score_weighted",
    "log_loss",
    "norm_macro_recall",
    "precision_score_macro",
    "precision_score_micro",
    "precision_score_weighted",
    "recall_score_macro",
    "recall_score_micro",
    "recall_score_weighted",
    "weighted_accuracy",
)
REGRESSION_METRICS: Final = (
    "explained_variance",
    "mean_absolute_error",
    "median_absolute_error",
    "normalized_mean_absolute_error",
    "normalized_median_absolute_error",
    "normalized_root_mean_squared_error",
    "normalized_root_mean_squared_log_error",
    "r2_score",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
    "spearman_correlation",
)
METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classification": CLASSIFICATION_METRICS,
    "regression": REGRESSION_METRICS,
}
DEFAULT_METRIC: Final[Mapping[Task, str]] = {
    "classification": "accuracy",
    "regression": "normalized_root_mean_squared_error",
}
LOWER_IS_BETTER: Final = frozenset(
    ("log_loss", *(name for name in REGRESSION_METRICS if name.endswith("_error")))
)

MODELS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classification": (
        "BernoulliNaiveBayes",
        "DecisionTree",
        "ExtremeRandomTrees",
        "GradientBoosting",
        "KNN",
        "LightGBM",
        "LinearSVM",
        "LogisticRegression",
        "MultinomialNaiveBayes",
        "RandomForest",
        "SGD",
        "SVM",
        "XGBoost",
    ),
    "regression": (
        "DecisionTree",
        "ElasticNet",
        "ExtremeRandomTrees",
        "GradientBoosting",
        "KNN",
        "LassoLars",
        "LightGBM",
        "RandomForest",
        "SGD",
        "XGBoost",
    ),
}

MAX_ITERATIONS: Final = 1000


class AutoMLConfig(BaseModel):
    """Every setting of a sweep.

    Raises:
        ConfigurationError: From the constructors `parse`, `from_file` and `from_json`: a setting
            is unknown or has a value that is not allowed. The message names setting, value and
            what is allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: Task = Field(description="The kind of problem.")
    data_script: str = Field(
        default="get_data.py",
        description="Python file in the project folder with get_data(); run on the target.",
    )
    iterations: int = Field(
        default=100,
        ge=1,
        le=MAX_ITERATIONS,
        description="How many pipelines are fitted and scored.",
    )
    primary_metric: str = Field(
        default="",
        description=(
            "The metric to optimise; all others are recorded too. "
            "Default: accuracy, or normalized_root_mean_squared_error."
        ),
    )
    n_cross_validations: int = Field(
        default=5, ge=2, le=100, description="Folds of the cross-validation."
    )
    iteration_timeout_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Hard limit of one iteration, everything it does included. Default: none.",
    )
    max_concurrent_iterations: int | None = Field(
        default=None,
        ge=1,
        description="Iterations at a time. Default, and the most: the cores of the target.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of folds, search and models.")
    allowed_models: tuple[str, ...] | None = Field(
        default=None, description="Only these models. Default: all."
    )
    blocked_models: tuple[str, ...] = Field(default=(), description="Not these models.")
    model_explainability: bool = Field(
        default=True, description="Explain the best model with SHAP at the end."
    )

    @field_validator("allowed_models", "blocked_models", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Accept `A,B`, as a command line gives it, for `[A, B]`."""
        if isinstance(value, str):
            return tuple(name for name in value.replace(",", " ").split())
        return value

    @field_validator("data_script")
    @classmethod
    def _stays_in_project(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
            raise ValueError("a .py file inside the project folder, such as 'get_data.py'")
        return str(path)

    @model_validator(mode="after")
    def _names_fit_the_task(self) -> Self:
        metrics = METRICS[self.task]
        if not self.primary_metric:
            object.__setattr__(self, "primary_metric", DEFAULT_METRIC[self.task])
        if self.primary_metric not in metrics:
            raise ConfigurationError(
                _must_be(
                    "primary_metric", self.primary_metric, f"one of {_join(metrics)}", self.task
                )
            )
        for setting in ("allowed_models", "blocked_models"):
            self._known_models(setting, getattr(self, setting) or ())
        if not self.models:
            raise ConfigurationError(
                "No model is left: 'blocked_models' names every model of 'allowed_models'. "
                f"Models for {self.task} are {_join(MODELS[self.task])}."
            )
        return self

    def _known_models(self, setting: str, names: tuple[str, ...]) -> None:
        for name in names:
            if name not in MODELS[self.task]:
                allowed = f"names from {_join(MODELS[self.task])}"
                raise ConfigurationError(_must_be(setting, name, allowed, self.task))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the search may use, in alphabetical order."""
        allowed = self.allowed_models or MODELS[self.task]
        return tuple(sorted(set(allowed) - set(self.blocked_models)))

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher primary metric is a better one."""
        return self.primary_metric not in LOWER_IS_BETTER

    @property
    def iteration_timeout_s(self) -> float | None:
        """The hard limit of one iteration in seconds, or None."""
        minutes = self.iteration_timeout_minutes
        return None if minutes is None else minutes * 60

    @classmethod
    def parse(cls, settings: Mapping[str, object]) -> AutoMLConfig:
        """Validate settings; values may be strings, as a command line gives them."""
        unknown = [name for name in settings if name not in cls.model_fields]
        if unknown:
            raise ConfigurationError(_unknown_setting(unknown[0]))
        try:
            return cls.model_validate(
                {name: _from_text(value) for name, value in settings.items()}
            )
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error

    @classmethod
    def from_file(cls, path: Path, overrides: Mapping[str, object] | None = None) -> AutoMLConfig:
        """Read a YAML (or JSON) file of settings; `overrides` win over the file."""
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"The settings file '{path}' cannot be read: {error.strerror}. "
                "Name an existing file with --settings."
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ConfigurationError(
                f"The settings file '{path}' is not YAML: {reason}"
            ) from error
        if not isinstance(settings, dict):
            raise ConfigurationError(
                f"The settings file '{path}' must hold 'name: value' lines. "
                f"Got a {type(settings).__name__} instead."
            )
        merged = {str(name): value for name, value in settings.items()} | dict(overrides or {})
        return cls.parse(merged)

    @classmethod
    def from_json(cls, text: str | bytes) -> AutoMLConfig:
        """Read what `to_json` wrote."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error

    def to_json(self) -> str:
        """Write all settings, defaults included, as JSON."""
        return self.model_dump_json(indent=1)

    def as_params(self) -> dict[str, str]:
        """Give all settings as strings, as MLflow params want them."""
        return {name: _to_text(value) for name, value in self.model_dump().items()}


def _from_text(value: object) -> object:
    """Read an empty string or `none` as "use the default", as `-P key=` gives it."""
    if isinstance(value, str) and value.strip().lower() in ("none", "null"):
        return None
    return value


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _join(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _must_be(setting: str, value: object, allowed: str, task: str) -> str:
    return f"The '{setting}' setting must be {allowed} for {task}. Got '{value}' instead."


def _unknown_setting(name: str) -> str:
    close = difflib.get_close_matches(name, AutoMLConfig.model_fields, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    known = ", ".join(sorted(AutoMLConfig.model_fields))
    return f"Unknown setting '{name}'.{hint} Known settings: {known}."


def _explain(error: ValidationError) -> str:
    """Turn pydantic's first complaint into one sentence of ours."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigurationError):
        return str(cause)
    setting = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "missing":
        return f"The '{setting}' setting is missing. It is required."
    wanted = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"The '{setting}' setting must be {wanted}. Got {first['input']!r} instead."
