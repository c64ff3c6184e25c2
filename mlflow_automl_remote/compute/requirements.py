"""What the environment of the agent has to contain: the client's own versions of what it needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata
from typing import Final

from mlflow_automl_remote.errors import EnvironmentSetupFailed

DISTRIBUTION: Final = "mlflow-automl-remote"
CLIENT_ONLY: Final = frozenset(("click", "docker", "paramiko", "pathspec", "rich", "uv"))
"""Dependencies of ours that the agent does without."""
SMALLER: Final = {"mlflow": "mlflow-skinny"}
"""On a target the models are only saved, for which the small distribution is enough."""
TRANSITIVE: Final = ("threadpoolctl", "joblib")
"""Used by the agent, and installed because scikit-learn needs them."""
LEFT_OUT: Final = ("nvidia-nccl-cu12", "nvidia-nccl-cu13")
"""300 MB that XGBoost wants for training on several GPUs, and loads only then."""
CHECK_IMPORTS: Final = (
    "catboost",
    "cloudpickle",
    "lightgbm",
    "matplotlib.figure",
    "mlflow.sklearn",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "shap",
    "sklearn",
    "threadpoolctl",
    "xgboost",
    "yaml",
)
"""Imported once in a new environment, to be sure of it before it is used."""


def agent_requirements() -> tuple[str, ...]:
    """Return the requirements of the agent, pinned to the versions installed here, in order.

    Raises:
        EnvironmentSetupFailed: One of them is not installed here, so its version is not known.
    """
    names = {SMALLER.get(name, name) for name in _own_dependencies() - CLIENT_ONLY}
    return tuple(sorted(f"{name}=={_version(name)}" for name in names.union(TRANSITIVE)))


def _own_dependencies() -> set[str]:
    return {
        _name(line) for line in metadata.requires(DISTRIBUTION) or () if "extra ==" not in line
    }


def _name(requirement: str) -> str:
    """Return the normalised name at the beginning of a requirement."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        raise EnvironmentSetupFailed(
            f"'{name}' is not installed here, so the target cannot be given the same version. "
            f"Install it: pip install {name}"
        ) from error


def overrides(left_out: Iterable[str] = LEFT_OUT) -> tuple[str, ...]:
    """Return lines for uv's --overrides that keep distributions out of an environment."""
    return tuple(f"{name}; sys_platform == 'never'" for name in left_out)
