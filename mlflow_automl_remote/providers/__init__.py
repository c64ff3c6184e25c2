"""Makes machines and takes them away again: containers on this one, or what a command makes."""

from __future__ import annotations

from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Provider
from mlflow_automl_remote.providers.lifecycle import (
    create,
    destroy,
    start,
    stop,
)
from mlflow_automl_remote.providers.registry import PROVIDERS, provider_of
from mlflow_automl_remote.providers.strays import Stray, destroy_stray, strays

__all__ = [
    "PROVIDERS",
    "MachineOrder",
    "MadeMachine",
    "Provider",
    "Stray",
    "create",
    "destroy",
    "destroy_stray",
    "provider_of",
    "start",
    "stop",
    "strays",
]
