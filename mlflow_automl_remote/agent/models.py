"""Writes fitted pipelines as MLflow model folders; nothing else of the agent knows MLflow."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote.agent.machine import package_versions

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data import Dataset

N_EXAMPLE_ROWS: Final = 5
_NEEDED_BY: Final = {"lightgbm": "lightgbm", "xgboost": "xgboost"}


def save_model(pipeline: Any, dataset: Dataset, folder: Path) -> None:
    """Write a fitted pipeline with its signature, an input example and explicit requirements.

    Called in the process of an iteration. Requirements are given, not inferred: MLflow's inference
    loads each model in a new process and costs seconds.
    """
    import mlflow.sklearn
    from mlflow.models import infer_signature

    # The hint to use another format would stand in the log of every iteration; skops cannot hold
    # most trees, and a model of ours is loaded by its user's explicit act only.
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    example = dataset.features()[:N_EXAMPLE_ROWS]
    mlflow.sklearn.save_model(
        pipeline,
        str(folder),
        serialization_format="cloudpickle",
        pip_requirements=requirements_of(pipeline),
        signature=infer_signature(example, pipeline.predict(example)),
        input_example=example,
    )


def requirements_of(pipeline: Any) -> list[str]:
    """Pin what a pipeline needs to be loaded: versions of this environment."""
    needed = ["cloudpickle", "numpy", "pandas", "scikit-learn", "scipy"]
    library = type(pipeline[-1]).__module__.partition(".")[0]
    if library in _NEEDED_BY:
        needed.append(_NEEDED_BY[library])
    versions = package_versions()
    # The same library without its GPU parts has a name of its own on the index.
    versions.setdefault("xgboost", versions.get("xgboost-cpu", ""))
    return [f"{name}=={versions[name]}" for name in sorted(needed)]


def warm_up() -> None:
    """Save a model once, so that processes forked from this one find all of MLflow imported."""
    import mlflow.sklearn
    import numpy as np
    from mlflow.models import infer_signature
    from sklearn.dummy import DummyClassifier

    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    X = np.zeros((2, 1))
    with tempfile.TemporaryDirectory() as folder:
        mlflow.sklearn.save_model(
            DummyClassifier().fit(X, [0, 1]),
            f"{folder}/model",
            serialization_format="cloudpickle",
            pip_requirements=[],
            signature=infer_signature(X, X),
            input_example=X,
        )
