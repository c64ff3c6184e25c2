"""The names that code for Azure's automated ML (SDK v1) uses, over our own plain API.

Only the imports of such code change: what was in `azureml.core`, `azureml.train.automl` and
`azureml.widgets` is here. A name without a meaning is refused with the name to use.
"""

from __future__ import annotations

from typing import Final

from mlflow_automl_remote.azure.automl import AutoMLConfig
from mlflow_automl_remote.azure.child_run import ChildRun
from mlflow_automl_remote.azure.compute import ComputeTarget, DsvmCompute, RemoteCompute
from mlflow_automl_remote.azure.experiment import Experiment, Workspace
from mlflow_automl_remote.azure.run import AutoMLRun
from mlflow_automl_remote.azure.widgets import RunDetails
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.explanations import explain_model, retrieve_model_explanation

__all__ = [
    "AutoMLConfig",
    "AutoMLRun",
    "ChildRun",
    "ComputeTarget",
    "DsvmCompute",
    "Experiment",
    "RemoteCompute",
    "RunDetails",
    "Workspace",
    "explain_model",
    "retrieve_model_explanation",
]

_ATTACH: Final = (
    "attach a machine that you have with RemoteCompute.attach_configuration(...) and "
    "ComputeTarget.attach(...)"
)
_ENVIRONMENT: Final = (
    "the environment of a target is built for each version of this package; further packages of "
    "get_data.py go into the project's requirements.txt"
)
_REFUSED: Final = {
    "AmlCompute": f"clusters are not offered; {_ATTACH}",
    "BatchAiCompute": f"clusters are not offered; {_ATTACH}",
    "RunConfiguration": f"{_ENVIRONMENT}. Give AutoMLConfig a compute_target",
    "CondaDependencies": _ENVIRONMENT,
    "Dataset": "data comes from get_data.py or from AutoMLConfig(training_data='file.csv', ...)",
    "Datastore": "data comes from get_data.py or from AutoMLConfig(training_data='file.csv', ...)",
    "ScriptRunConfig": "scripts are run with mlflow.projects; sweeps with AutoMLConfig",
    "Environment": _ENVIRONMENT,
}


def __getattr__(name: str) -> object:
    """Refuse what Azure has and we have not, with what to do instead."""
    if name in _REFUSED:
        raise ConfigurationError(f"'{name}' has no meaning here: {_REFUSED[name]}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
