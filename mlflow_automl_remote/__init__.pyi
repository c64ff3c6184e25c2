from mlflow_automl_remote.explanations import explain_model as explain_model
from mlflow_automl_remote.explanations import (
    retrieve_model_explanation as retrieve_model_explanation,
)

__version__: str
