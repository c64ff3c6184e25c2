"""What a type checker knows of the public names; it is checked, and never run."""

from __future__ import annotations

from typing import Any, assert_type

import pandas as pd
from mlflow.entities import Run

import mlflow_automl_remote
from mlflow_automl_remote import AutoMLConfig, SweepRun, automl, azure
from mlflow_automl_remote.explain import SixParts
from mlflow_automl_remote.promotion.registry import Version


def of_sweeps(config: AutoMLConfig) -> None:
    run = mlflow_automl_remote.submit(config, {"host": "vm.example.org"}, project="digits")
    assert_type(run, SweepRun)
    assert_type(run.status, str)
    assert_type(run.table(), pd.DataFrame)
    assert_type(run.child(metric="accuracy"), Run)
    assert_type(run.model(3), Any)
    assert_type(run.cancel(), str)
    assert_type(run.wait(timeout_s=3.0), str)
    assert_type(mlflow_automl_remote.attach(run.run_id), SweepRun)
    assert_type(mlflow_automl_remote.retrieve_model_explanation(run), SixParts)
    mlflow_automl_remote.submit({"task": "regression"}, "gpu7")
    mlflow_automl_remote.submit(config, 3)  # type: ignore[arg-type]  # a number is no target


def of_azure(target: azure.ComputeTarget) -> None:
    config = azure.AutoMLConfig("classification", compute_target=target, iterations=3)
    run = azure.Experiment(azure.Workspace.from_config(), "digits").submit(config)
    assert_type(run, azure.AutoMLRun)
    assert_type(run.get_output(), tuple[azure.ChildRun, Any])
    assert_type(run.get_best_child(), azure.ChildRun)
    assert_type(run.summary(), list[list[object]])
    assert_type(run.register_model("digits"), Version)


def of_the_engine(X: Any, y: Any) -> None:
    sweep = automl.Sweep("regression", iterations=3)
    assert_type(sweep.fit(X, y), automl.Sweep)
    assert_type(sweep.best_score_, float)
