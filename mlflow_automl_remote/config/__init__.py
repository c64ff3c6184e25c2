"""Every setting of a sweep, validated, to and from JSON and YAML. Knows neither MLflow nor SSH."""

from mlflow_automl_remote.config.catalogue import (
    CLASSIFICATION_METRICS,
    DEFAULT_METRIC,
    LOWER_IS_BETTER,
    METRICS,
    MODELS,
    REGRESSION_METRICS,
    Task,
)
from mlflow_automl_remote.config.fields import MAX_ITERATIONS
from mlflow_automl_remote.config.settings import AutoMLConfig

__all__ = [
    "CLASSIFICATION_METRICS",
    "DEFAULT_METRIC",
    "LOWER_IS_BETTER",
    "MAX_ITERATIONS",
    "METRICS",
    "MODELS",
    "REGRESSION_METRICS",
    "AutoMLConfig",
    "Task",
]
