"""Shows a sweep in a notebook as it grows. Knows neither SSH nor the engine."""

from mlflow_automl_remote.notebook.shown import Details as Details
from mlflow_automl_remote.notebook.shown import Shown as Shown
