"""All metrics of both tasks, from probabilities or predicted values, in one pass per fold.

Names and meaning are Azure AutoML's; the definitions are scikit-learn's where it has one. A metric
that is undefined for a fold is NaN, never an exception and never a warning.
"""

from mlflow_automl_remote.automl.metrics.binary import score_binary
from mlflow_automl_remote.automl.metrics.classification import score_classification
from mlflow_automl_remote.automl.metrics.folds import by_name, mean_over_folds, standard_error
from mlflow_automl_remote.automl.metrics.regression import score_regression
from mlflow_automl_remote.automl.metrics.scorers import refuse_unfit, score_by_scorer

__all__ = [
    "by_name",
    "mean_over_folds",
    "refuse_unfit",
    "score_binary",
    "score_by_scorer",
    "score_classification",
    "score_regression",
    "standard_error",
]
