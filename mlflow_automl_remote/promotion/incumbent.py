"""Brings the model of a version here as bytes, and reads what it says of its environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mlflow
import yaml
from mlflow import __version__ as mlflow_version

from mlflow_automl_remote.promotion.registry import Version
from mlflow_automl_remote.publishing.calls import StoreRefused, translated

MAX_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A model on this machine; nobody has loaded it.

    Attributes:
        requirements: Lines of a requirements file: its own, and MLflow to load it with.
        python: Version of its interpreter, such as "3.11"; empty if it does not say.
    """

    folder: Path
    requirements: tuple[str, ...]
    python: str


def fetch(version: Version, into: Path, tracking_uri: str) -> Fetched:
    """Bring a model here.

    Raises:
        PublishFailed: It is gone, or what it says of itself cannot be read.
    """
    with translated():
        folder = Path(
            mlflow.artifacts.download_artifacts(
                version.uri, dst_path=str(into), tracking_uri=tracking_uri
            )
        )
    try:
        lines = _small(folder / "requirements.txt").splitlines()
        told = yaml.safe_load(_small(folder / "python_env.yaml")) or {}
        python = str(told.get("python", ""))
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise StoreRefused(f"The environment of {version} cannot be read: {error}") from error
    needed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not any(line.startswith("mlflow") for line in needed):
        needed.append(f"mlflow-skinny=={mlflow_version}")
    return Fetched(
        folder=folder,
        requirements=tuple(needed),
        python=".".join(python.split(".")[:2]),
    )


def _small(path: Path) -> str:
    """Read a short text; one that is not there is empty."""
    if not path.exists():
        return ""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} is longer than {MAX_BYTES} bytes")
    return path.read_text(encoding="utf-8")
