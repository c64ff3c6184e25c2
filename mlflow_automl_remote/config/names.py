"""The names that settings and models had elsewhere or earlier, and what became of each.

One table per kind: a renamed setting is accepted with a notice, one without a meaning here is
refused with the reason, so that nobody believes it to have an effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mlflow_automl_remote.errors import ConfigurationError

_LOG = logging.getLogger(__name__)
_noticed: set[str] = set()

Convert = Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """What a setting is called now.

    Attributes:
        name: The name of today.
        factor: By which a number has to be multiplied: names changed their units too.
    """

    name: str
    factor: float = 1.0


RENAMED: Final[Mapping[str, Renamed]] = {
    "max_time_sec": Renamed(name="iteration_timeout_minutes", factor=1 / 60),
    "iteration_timeout": Renamed(name="iteration_timeout_minutes"),
    "trial_timeout_minutes": Renamed(name="iteration_timeout_minutes"),
    "exit_time_sec": Renamed(name="experiment_timeout_minutes", factor=1 / 60),
    "experiment_timeout": Renamed(name="experiment_timeout_minutes"),
    "experiment_timeout_hours": Renamed(name="experiment_timeout_minutes", factor=60),
    "timeout_minutes": Renamed(name="experiment_timeout_minutes"),
    "exit_score": Renamed(name="experiment_exit_score"),
    "max_trials": Renamed(name="iterations"),
    "concurrent_iterations": Renamed(name="max_concurrent_iterations"),
    "max_concurrent_trials": Renamed(name="max_concurrent_iterations"),
    "max_cores_per_trial": Renamed(name="max_cores_per_iteration"),
    "enable_early_termination": Renamed(name="enable_early_stopping"),
    "blacklist_algos": Renamed(name="blocked_models"),
    "blacklist_models": Renamed(name="blocked_models"),
    "blocked_training_algorithms": Renamed(name="blocked_models"),
    "whitelist_models": Renamed(name="allowed_models"),
    "allowed_training_algorithms": Renamed(name="allowed_models"),
    "enable_ensembling": Renamed(name="enable_voting_ensemble"),
    "validation_data_size": Renamed(name="validation_size"),
    "test_data_size": Renamed(name="test_size"),
    "target_column_name": Renamed(name="label_column_name"),
    "preprocess": Renamed(name="featurization"),
}

_FROM_GET_DATA: Final = "data comes from get_data() or from training_data"
_NO_TENSORFLOW: Final = "no TensorFlow model is offered"
WITHOUT_MEANING: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("X", "y", "X_valid", "y_valid", "sample_weight", "sample_weight_valid"), _FROM_GET_DATA
    ),
    "compute_target": "the backend config says where a sweep runs",
    "cost_mode": "'auto_blacklist' leaves out what would take too long",
    "enable_cache": "features are made inside each fold, and the data is shared by all iterations",
    "enable_dnn": _NO_TENSORFLOW,
    "enable_onnx_compatible_models": "models are saved in MLflow's format",
    "enable_tf": _NO_TENSORFLOW,
    "enforce_time_on_windows": "limits always hold; targets run Linux",
    "lag_length": "forecasting is not offered",
    "name": "the experiment is named with --experiment-name",
    "num_classes": "classes are counted in the data",
    "path": "the project folder is named with --project",
    "run_configuration": "the backend config says where a sweep runs",
    "save_mlflow": "models are always saved in MLflow's format",
    "spark_context": "sweeps run on one machine",
}

RENAMED_MODELS: Final[Mapping[str, str]] = {
    "XGBoostClassifier": "XGBoost",
    "XGBoostRegressor": "XGBoost",
    "kNN": "KNN",
}


def translate(settings: Mapping[str, object]) -> dict[str, object]:
    """Give settings under their names of today; each old one is noticed once per process.

    Raises:
        ConfigurationError: A name has no meaning here, or a setting is there under two names.
    """
    translated: dict[str, object] = {}
    for given, value in settings.items():
        if given in WITHOUT_MEANING:
            raise ConfigurationError(
                f"The '{given}' setting has no meaning here: {WITHOUT_MEANING[given]}. Remove it."
            )
        renamed = RENAMED.get(given, Renamed(name=given))
        if renamed.name in translated:
            raise ConfigurationError(
                f"The '{renamed.name}' setting is given twice, also as '{given}'. Keep one."
            )
        if renamed.name != given:
            _notice(f"The setting '{given}' is called '{renamed.name}' now; it is accepted.")
        translated[renamed.name] = _converted(given, value, renamed.factor)
    return translated


def current_model(name: str) -> str:
    """Give the name of today of a model."""
    if name in RENAMED_MODELS:
        _notice(f"The model '{name}' is called '{RENAMED_MODELS[name]}' now; it is accepted.")
    return RENAMED_MODELS.get(name, name)


def _converted(name: str, value: object, factor: float) -> object:
    if factor == 1.0 or value is None:
        return value
    try:
        return float(str(value)) * factor
    except ValueError:
        raise ConfigurationError(
            f"The '{name}' setting must be a number. Got {value!r} instead."
        ) from None


def _notice(text: str) -> None:
    if text not in _noticed:
        _noticed.add(text)
        _LOG.warning("%s", text)
