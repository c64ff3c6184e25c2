"""The one writer of runs, models and artifacts into MLflow. Knows neither SSH nor the engine."""

from mlflow_automl_remote.publishing.facts import ParentFacts as ParentFacts
from mlflow_automl_remote.publishing.publisher import Publisher as Publisher
