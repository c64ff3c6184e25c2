"""Compute targets: this machine, or one over SSH. Knows neither MLflow nor the engine."""

from __future__ import annotations

from mlflow_automl_remote.compute.job import AgentCommand, Job, JournalChunk, Liveness
from mlflow_automl_remote.compute.progress import OnProgress, Progress
from mlflow_automl_remote.compute.project import Project, scan_project
from mlflow_automl_remote.compute.target import Connection, connect
from mlflow_automl_remote.compute.targets import SSH_KEYS, TargetSpec, parse_target

__all__ = [
    "SSH_KEYS",
    "AgentCommand",
    "Connection",
    "Job",
    "JournalChunk",
    "Liveness",
    "OnProgress",
    "Progress",
    "Project",
    "TargetSpec",
    "connect",
    "parse_target",
    "scan_project",
]
