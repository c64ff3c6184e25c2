from mlflow_automl_remote.api import attach as attach
from mlflow_automl_remote.api import submit as submit
from mlflow_automl_remote.config import AutoMLConfig as AutoMLConfig
from mlflow_automl_remote.errors import AutoMLRemoteError as AutoMLRemoteError
from mlflow_automl_remote.explanations import explain_model as explain_model
from mlflow_automl_remote.explanations import (
    retrieve_model_explanation as retrieve_model_explanation,
)
from mlflow_automl_remote.promoting import promote as promote
from mlflow_automl_remote.promoting import register as register
from mlflow_automl_remote.promoting import rollback as rollback
from mlflow_automl_remote.submitted import SweepRun as SweepRun

__version__: str
