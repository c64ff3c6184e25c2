"""The search as a plain library: data, pipelines, evaluation, processes and the sweep itself.

Knows neither the journal nor MLflow nor SSH. Used in a process of one's own:

    from mlflow_automl_remote import automl

    sweep = automl.Sweep(task="classification", iterations=20).fit(X, y)
    sweep.predict(X_new)
"""

from __future__ import annotations

__all__ = ["Sweep"]


def __getattr__(name: str) -> object:
    """Import the estimator when it is asked for: an agent starts without it."""
    if name != "Sweep":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlflow_automl_remote.automl.estimator import Sweep

    return Sweep
