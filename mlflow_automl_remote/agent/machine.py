"""What is known about the machine and the environment that a sweep runs in."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Final

from mlflow_automl_remote import __version__
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.journal.events import SweepStarted

RECORDED_PACKAGES: Final = (
    "catboost",
    "cloudpickle",
    "lightgbm",
    "mlflow-skinny",
    "numpy",
    "optuna",
    "pandas",
    "scikit-learn",
    "scipy",
    "shap",
    "xgboost",
    "xgboost-cpu",
)
"""Whose versions decide whether a sweep can be repeated and its models loaded."""


@cache
def package_versions() -> Mapping[str, str]:
    """Give the versions of `RECORDED_PACKAGES` that are installed here."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def sweep_started(sweep_id: str, config: AutoMLConfig) -> SweepStarted:
    """Make the first event of a journal."""
    return SweepStarted(
        sweep_id=sweep_id,
        settings=config.model_dump(mode="json"),
        primary_metric=config.primary_metric,
        greater_is_better=config.greater_is_better,
        package_version=__version__,
        python_version=platform.python_version(),
        host_name=socket.gethostname(),
        n_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        package_versions=package_versions(),
    )
