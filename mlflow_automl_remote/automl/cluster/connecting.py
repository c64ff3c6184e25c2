"""Connects this process to a Ray cluster. The only module that begins or ends a connection."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any, Final

import mlflow_automl_remote
from mlflow_automl_remote.errors import ClusterUnusable

INSTALL: Final = "pip install 'mlflow-automl-remote[ray]'"


def import_ray() -> Any:
    """Give the module.

    Raises:
        ClusterUnusable: It is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ClusterUnusable(
            f"Ray is not installed, which a sweep on a cluster needs. Install it: {INSTALL}"
        ) from error


def connect(address: str) -> tuple[Any, bool]:
    """Connect to a cluster, and bring this package to its nodes.

    Args:
        address: `auto` for the cluster that this machine is part of, `host:port` for one whose
            node this machine is, `ray://host:port` for one whose node it is not.

    Returns:
        The module, and whether the connection is new; one that this process has is used again.

    Raises:
        ClusterUnusable: Ray is not installed, there is no cluster, or it has other versions.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray, False
    try:
        ray.init(
            address=address,
            namespace="automl-remote",
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"py_modules": [str(Path(mlflow_automl_remote.__file__).parent)]},
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        raise ClusterUnusable(
            f"The Ray cluster at '{address}' cannot be used: {reason}"
        ) from error
    return ray, True
