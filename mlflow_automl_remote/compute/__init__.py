"""Compute targets: this machine, or one over SSH. Knows neither MLflow nor the engine."""

from __future__ import annotations

from mlflow_automl_remote.compute.attaching import attaching
from mlflow_automl_remote.compute.checks import Check, Verdict
from mlflow_automl_remote.compute.comparison import ForeignModel, compare
from mlflow_automl_remote.compute.credentials import Credentials
from mlflow_automl_remote.compute.doctor import examine
from mlflow_automl_remote.compute.housekeeping import Cleaned, Inventory, StoredSweep
from mlflow_automl_remote.compute.job import Job, JournalChunk, Liveness
from mlflow_automl_remote.compute.launching import AgentCommand
from mlflow_automl_remote.compute.lease import Lease
from mlflow_automl_remote.compute.machine import Machine
from mlflow_automl_remote.compute.progress import OnProgress, Progress
from mlflow_automl_remote.compute.project import Project, scan_project
from mlflow_automl_remote.compute.saved import SavedTarget
from mlflow_automl_remote.compute.target import Connection, connect
from mlflow_automl_remote.compute.targets import (
    SSH_KEYS,
    TargetSpec,
    parse_joining,
    parse_target,
)

__all__ = [
    "SSH_KEYS",
    "AgentCommand",
    "Check",
    "Cleaned",
    "Connection",
    "Credentials",
    "ForeignModel",
    "Inventory",
    "Job",
    "JournalChunk",
    "Lease",
    "Liveness",
    "Machine",
    "OnProgress",
    "Progress",
    "Project",
    "SavedTarget",
    "StoredSweep",
    "TargetSpec",
    "Verdict",
    "attaching",
    "compare",
    "connect",
    "examine",
    "parse_joining",
    "parse_target",
    "scan_project",
]
