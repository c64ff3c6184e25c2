from mlflow_automl_remote.automl.estimator import Sweep as Sweep
