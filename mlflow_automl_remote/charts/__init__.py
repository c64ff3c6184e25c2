"""What a model's held-out predictions look like: numbers, a picture, a page. Knows no MLflow."""

from mlflow_automl_remote.charts.classification import ClassificationCharts as ClassificationCharts
from mlflow_automl_remote.charts.classification import of_classifier as of_classifier
from mlflow_automl_remote.charts.files import warm_up as warm_up
from mlflow_automl_remote.charts.files import write as write
from mlflow_automl_remote.charts.regression import RegressionCharts as RegressionCharts
from mlflow_automl_remote.charts.regression import of_regressor as of_regressor
