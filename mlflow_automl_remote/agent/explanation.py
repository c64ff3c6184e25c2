"""Explains the model of an iteration, in a process of its own like an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

EXPLANATION_BUDGET_S: Final = 20.0
"""It stops by itself here and keeps the rows it has; outside the iterations' budget."""
EXPLANATION_TIMEOUT_S: Final = 120.0
"""An explanation that has not stopped by then is killed, and there is none."""
N_BACKGROUND: Final = 30
N_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRequest:
    """What to explain: the model folder of an iteration, on which data, and where to write."""

    model_path: Path
    data_dir: Path
    output_dir: Path
    seed: int


def explain_model(request: ExplanationRequest) -> str:
    """Write an explanation into `request.output_dir`; return the name of the explainer.

    Runs in a child process, which alone reads the model and imports what explains it.

    Raises:
        DataError: The data is no array of numbers.
    """
    import mlflow.sklearn
    import numpy as np

    from mlflow_automl_remote import explain
    from mlflow_automl_remote.automl.data import open_dataset
    from mlflow_automl_remote.errors import DataError

    dataset = open_dataset(request.data_dir)
    if not isinstance(dataset.X, np.ndarray):
        raise DataError(
            "Only models of numbers are explained. This data has categories, dates or text, or is "
            "sparse; to explain a model of it, turn its columns into numbers in get_data()."
        )
    pipeline = mlflow.sklearn.load_model(str(request.model_path))
    classified = dataset.task == "classification"
    class_names = [str(label) for label in pipeline.classes_] if classified else None
    chosen = explain.select_rows(
        dataset.X,
        dataset.y,
        seed=request.seed,
        task=dataset.task,
        n_background=N_BACKGROUND,
        n_rows=N_ROWS,
    )
    explanation = explain.explain(
        pipeline,
        dataset.X[chosen.background],
        dataset.X[chosen.rows],
        feature_names=dataset.feature_names
        or [f"x{column}" for column in range(dataset.n_features)],
        class_names=class_names,
        task=dataset.task,
        seed=request.seed,
        budget_s=EXPLANATION_BUDGET_S,
    )
    explain.write(explanation, request.output_dir)
    return explanation.explainer
