"""AutoML sweeps on a remote Linux machine over SSH, recorded as nested MLflow runs."""

__version__ = "0.1.0"
