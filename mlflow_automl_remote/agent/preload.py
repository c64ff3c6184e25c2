"""Imported once by the process that iterations are forked from; none of them pays for it."""

from mlflow_automl_remote import charts
from mlflow_automl_remote.agent.models import warm_up

warm_up()
charts.warm_up()
