"""Writes fitted pipelines as MLflow model folders; nothing else of the agent knows MLflow."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlflow_automl_remote.agent.machine import package_versions
from mlflow_automl_remote.automl import featurization

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data import Dataset

N_EXAMPLE_ROWS: Final = 5
CODE: Final = "code"
"""Folder in a model whose modules `mlflow.pyfunc` finds when it loads it."""
_BOOSTERS: Final = ("catboost", "lightgbm", "xgboost")
_PARTS: Final = ("estimators_", "final_estimator_", "estimator", "steps")
"""Attributes in which fitted models of scikit-learn keep others."""


def save_model(pipeline: Any, dataset: Dataset, folder: Path) -> None:
    """Write a fitted pipeline with its signature, an input example and explicit requirements.

    Called in the process of an iteration. Requirements are given, not inferred: MLflow's inference
    loads each model in a new process and costs seconds.
    """
    import mlflow.sklearn
    from mlflow.models import Model, infer_signature
    from mlflow.pyfunc import FLAVOR_NAME

    from mlflow_automl_remote.agent import automl_remote_loader as loader

    # The hint to use another format would stand in the log of every iteration; skops cannot hold
    # most trees, and a model of ours is loaded by its user's explicit act only.
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    example = dataset.example(N_EXAMPLE_ROWS)
    is_classifier = dataset.task == "classification"
    params = {loader.METHOD: loader.METHODS[0]} if is_classifier else None
    description = Model()
    with warnings.catch_warnings():
        # A whole number that is given as one has no gaps in the data; see `ColumnSchema.given`.
        warnings.filterwarnings("ignore", ".*Inferred schema contains integer column")
        signature = infer_signature(example, pipeline.predict(example), params)
    with featurization.by_value():  # a model that preprocesses loads without this package
        mlflow.sklearn.save_model(
            pipeline,
            str(folder),
            serialization_format="cloudpickle",
            pip_requirements=requirements_of(pipeline),
            signature=signature,
            input_example=example,
            mlflow_model=description,
        )
    if is_classifier:  # MLflow's own loader gives labels only
        source = Path(loader.__file__)
        (folder / CODE).mkdir()
        shutil.copyfile(source, folder / CODE / source.name)  # MLflow's copying hides a full disk
        description.flavors[FLAVOR_NAME] |= {"loader_module": source.stem, "code": CODE}
        description.save(str(folder / "MLmodel"))


def requirements_of(pipeline: Any) -> list[str]:
    """Pin what a pipeline needs to be loaded: versions of this environment."""
    needed = ["cloudpickle", "numpy", "pandas", "scikit-learn", "scipy"]
    needed += [name for name in _BOOSTERS if name in _libraries_of(pipeline)]
    versions = dict(package_versions())
    # The same library without its GPU parts has a name of its own on the index.
    versions.setdefault("xgboost", versions.get("xgboost-cpu", ""))
    return [f"{name}=={versions[name]}" for name in sorted(needed)]


def load_model(folder: Path) -> Any:
    """Read the pipeline that `save_model` wrote; called in the process of an ensemble."""
    import mlflow.sklearn

    return mlflow.sklearn.load_model(str(folder))


def _libraries_of(part: Any) -> set[str]:
    """Name the libraries of a model and of all models in it."""
    if isinstance(part, list | tuple | np.ndarray):
        return set().union(*map(_libraries_of, part))
    if isinstance(part, str | type(None)):
        return set()
    inside = (getattr(part, name) for name in _PARTS if hasattr(part, name))
    return {type(part).__module__.partition(".")[0]}.union(*map(_libraries_of, inside))


def warm_up() -> None:
    """Save a model once, so that processes forked from this one find all of MLflow imported."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from mlflow.utils import requirements_utils
    from sklearn.dummy import DummyClassifier

    # Else MLflow lists all files of the environment, 0.5 s, to compare versions read from there.
    vars(requirements_utils)["_MODULES_TO_PACKAGES"] = {}
    logging.getLogger("mlflow.sklearn").setLevel(logging.ERROR)
    X = np.zeros((2, 1))
    with tempfile.TemporaryDirectory() as folder:
        mlflow.sklearn.save_model(
            model := DummyClassifier().fit(X, [0, 1]),
            f"{folder}/model",
            serialization_format="cloudpickle",
            pip_requirements=requirements_of(model),
            signature=infer_signature(X, X),
            input_example=X,
        )
