"""The settings of a sweep as one value: what holds across them, and how they are read."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, Self, get_args

import yaml
from pydantic import ValidationError, field_validator, model_validator

from mlflow_automl_remote.config import durations, names, promotion
from mlflow_automl_remote.config.catalogue import (
    BINARY_METRICS,
    DEFAULT_METRIC,
    LOWER_IS_BETTER,
    METRICS,
    MODELS,
    SCORERS,
)
from mlflow_automl_remote.config.data_fields import DataFields
from mlflow_automl_remote.config.fields import Fields
from mlflow_automl_remote.errors import ConfigurationError

FEWEST_TO_VOTE: Final = 10
"""Iterations from which on a voting ensemble is made without being asked for."""
FEWEST_TO_STACK: Final = 20
"""The same for a stacked ensemble."""
FEWEST_FOR_ENSEMBLES: Final = 3
"""Two pipelines and an ensemble of them."""
DEFAULT_ENSEMBLE_ITERATIONS: Final = 15


class AutoMLConfig(Fields, DataFields):
    """Every setting of a sweep.

    Raises:
        ConfigurationError: From the constructors `parse`, `from_file` and `from_json`: a setting
            is unknown or has a value that is not allowed. The message names setting, value and
            what is allowed.

    Examples:
        >>> AutoMLConfig.parse({"task": "classification", "iterations": "40"}).iterations
        40
    """

    @field_validator("allowed_models", "blocked_models", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Accept `A,B`, as a command line gives it, for `[A, B]`; and names of earlier."""
        if isinstance(value, str):
            value = value.replace(",", " ").split()
        if isinstance(value, list | tuple):
            return tuple(names.current_model(str(name)) for name in value)
        return value

    @field_validator("iteration_timeout_minutes", "experiment_timeout_minutes", mode="before")
    @classmethod
    def _read_duration(cls, value: object) -> object:
        """Accept `90s` and `1h30m` for a number of minutes."""
        read = durations.minutes(value) if isinstance(value, str) else None
        return value if read is None else read

    @field_validator("promote", mode="before")
    @classmethod
    def _read_promotion(cls, value: object) -> object:
        """Accept JSON, as a command line gives it; say what is wrong inside."""
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise ValueError("{name: ..., gates: {...}}, or the same as JSON") from error
        if isinstance(value, Mapping):
            return promotion.Promotion.parse(value)
        return value

    @field_validator("positive_label", "warm_start_from", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Accept a label as it is, a number or true, and the number of an experiment."""
        return str(value) if isinstance(value, bool | int | float) else value

    @field_validator("verbosity", mode="before")
    @classmethod
    def _read_level(cls, value: object) -> object:
        """Accept a level's number, as `logging.INFO` gives it, for its name."""
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return logging.getLevelName(int(value))
        return value.upper() if isinstance(value, str) else value

    @field_validator("debug_log")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and (PurePosixPath(value).name != value or value.startswith(".")):
            raise ValueError("a file name without folders, such as 'automl.log'")
        return value

    @field_validator("max_cores_per_iteration")
    @classmethod
    def _is_a_number_of_cores(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("a number of threads, or -1 for all cores")
        return value

    @model_validator(mode="after")
    def _positive_label_fits(self) -> Self:
        if self.positive_label is not None and self.task == "regression":
            raise ConfigurationError(
                "'positive_label' is for classification: numbers have no classes. Remove it."
            )
        if self.positive_label is None and self.primary_metric in BINARY_METRICS:
            raise ConfigurationError(
                f"'{self.primary_metric}' as 'primary_metric' needs 'positive_label', the class "
                "that it is about. Set it."
            )
        return self

    @model_validator(mode="after")
    def _names_fit_the_task(self) -> Self:
        metrics = METRICS[self.task]
        if self.positive_label is not None:
            metrics = (*metrics, *BINARY_METRICS)
        if not self.primary_metric:
            object.__setattr__(self, "primary_metric", DEFAULT_METRIC[self.task])
        if self.primary_metric not in metrics and self.scorer is None:
            allowed = f"one of {_join(metrics)}; or a scorer of scikit-learn, one of "
            raise ConfigurationError(
                _must_be(
                    "primary_metric",
                    self.primary_metric,
                    allowed + _join(SCORERS[self.task]),
                    self.task,
                )
            )
        for setting in ("allowed_models", "blocked_models"):
            self._known_models(setting, getattr(self, setting) or ())
        if not self.searched_models:
            raise ConfigurationError(
                "No model is left: 'blocked_models' names every model of 'allowed_models'. "
                f"Models for {self.task} are {_join(MODELS[self.task])}."
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if self.cv_splits_indices is not None:
            for other in ("n_cross_validations", "validation_size"):
                if getattr(self, other) is not None:
                    raise ConfigurationError(
                        f"'cv_splits_indices' and '{other}' cannot both be set: own folds leave "
                        "nothing to split. Remove one of them."
                    )
        if self.y_min is not None and self.y_max is not None and self.y_min >= self.y_max:
            raise ConfigurationError(
                f"'y_min' must be below 'y_max'. Got {self.y_min:g} and {self.y_max:g} instead."
            )
        if self.task == "classification" and (self.y_min is not None or self.y_max is not None):
            raise ConfigurationError(
                "'y_min' and 'y_max' are for regression: classes have no range. Remove them."
            )
        return self

    def _known_models(self, setting: str, chosen: tuple[str, ...]) -> None:
        for name in chosen:
            if name not in MODELS[self.task]:
                allowed = f"names from {_join(MODELS[self.task])}"
                raise ConfigurationError(_must_be(setting, name, allowed, self.task))

    @property
    def project_files(self) -> dict[str, str]:
        """Files that the project folder must have, by their setting.

        Data files with an absolute path lie on the target and are not looked for.
        """
        named = {
            "data_script": self.data_script,
            "training_data": self.training_data,
            "validation_data": self.validation_data,
        }
        return {
            setting: str(PurePosixPath(name))
            for setting, name in named.items()
            if name and not name.startswith("/")
        }

    @property
    def searched_models(self) -> tuple[str, ...]:
        """The models that the search may use, in alphabetical order."""
        allowed = self.allowed_models or MODELS[self.task]
        return tuple(sorted(set(allowed) - set(self.blocked_models)))

    @property
    def n_models(self) -> int | None:
        """How many of the best iterations keep their model; None for all."""
        return None if self.models == "all" else int(self.models.removeprefix("best:"))

    @property
    def scorer(self) -> str | None:
        """The scorer of scikit-learn that is the primary metric; None if it is one of ours."""
        return self.primary_metric if self.primary_metric in SCORERS[self.task] else None

    @property
    def greater_is_better(self) -> bool:
        """Whether a higher primary metric is a better one."""
        return self.primary_metric not in LOWER_IS_BETTER

    @property
    def n_candidates(self) -> int:
        """How many of the best pipelines an ensemble chooses from."""
        return self.ensemble_iterations or DEFAULT_ENSEMBLE_ITERATIONS

    @property
    def iteration_timeout_s(self) -> float | None:
        """The hard limit of one iteration in seconds, or None."""
        return _in_seconds(self.iteration_timeout_minutes)

    @property
    def experiment_timeout_s(self) -> float | None:
        """The hard limit of the sweep in seconds, or None."""
        return _in_seconds(self.experiment_timeout_minutes)

    @property
    def races(self) -> bool:
        """Whether pipelines race on the first fold, and only the best are fitted on the others."""
        if self.enable_racing is None:
            return self.experiment_timeout_minutes is not None
        return self.enable_racing and self.experiment_timeout_minutes is not None

    @property
    def ensembles(self) -> tuple[str, ...]:
        """The ensembles that the last iterations are, in order."""
        n_iterations = self.iterations
        wanted = (
            ("VotingEnsemble", self.enable_voting_ensemble, n_iterations >= FEWEST_TO_VOTE),
            ("StackEnsemble", self.enable_stack_ensemble, n_iterations >= FEWEST_TO_STACK),
        )
        asked = [
            name
            for name, setting, by_default in wanted
            if (by_default if setting is None else setting)
        ]
        return tuple(asked[: max(0, self.iterations - FEWEST_FOR_ENSEMBLES + 1)])

    @classmethod
    def parse(cls, settings: Mapping[str, object]) -> AutoMLConfig:
        """Validate settings; values may be strings, as a command line gives them."""
        current = names.translate(settings)
        unknown = [name for name in current if name not in cls.model_fields]
        if unknown:
            raise ConfigurationError(_unknown_setting(unknown[0]))
        try:
            return cls.model_validate(
                {
                    name: value if _is_choice(cls, name, value) else _from_text(value)
                    for name, value in current.items()
                }
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
        in_file = names.translate({str(name): value for name, value in settings.items()})
        return cls.parse(in_file | names.translate(overrides or {}))

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
        params = {name: _to_text(value) for name, value in self.model_dump().items()}
        if self.cv_splits_indices is not None:
            params["cv_splits_indices"] = f"{len(self.cv_splits_indices)} own folds"
        return params


def _in_seconds(in_minutes: float | None) -> float | None:
    return None if in_minutes is None else in_minutes * 60


def _is_choice(model: type[AutoMLConfig], name: str, value: object) -> bool:
    """Whether a value is one of those that a setting lists, `none` included."""
    return isinstance(value, str) and value in get_args(model.model_fields[name].annotation)


def _from_text(value: object) -> object:
    """Read an empty string or `none` as "use the default", as `-P key=` gives it."""
    if isinstance(value, str) and value.strip().lower() in ("none", "null"):
        return None
    return value


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def _join(words: tuple[str, ...]) -> str:
    return ", ".join(words)


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
