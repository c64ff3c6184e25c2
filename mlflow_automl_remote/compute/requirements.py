"""What the environment of the agent has to contain: the client's own versions of what it needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from mlflow_automl_remote.errors import EnvironmentSetupFailed

DISTRIBUTION: Final = "mlflow-automl-remote"
CLIENT_ONLY: Final = frozenset(
    ("click", "docker", "packaging", "paramiko", "pathspec", "rich", "uv")
)
"""Dependencies of ours that the agent does without."""
SMALLER: Final = {"mlflow": "mlflow-skinny"}
"""On a target the models are only saved, for which the small distribution is enough."""
TRANSITIVE: Final = ("threadpoolctl", "joblib")
"""Used by the agent, and installed because scikit-learn needs them."""
SAME_AS: Final = {"mlflow": "mlflow-skinny", "xgboost": "xgboost-cpu"}
"""The same modules under another name on the index."""
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


def agent_requirements(wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the requirements of the agent, pinned to the versions installed here, in order.

    Args:
        wanted: Lines of a project's own requirements. Where one names a package of ours, it
            counts, within what we work with; but not for MLflow, which writes for this client.

    Raises:
        EnvironmentSetupFailed: One of them is not installed here, so its version is not known.
    """
    own = _own_dependencies()
    names = {SMALLER.get(name, name) for name in own.keys() - CLIENT_ONLY}.union(TRANSITIVE)
    theirs = {_name(line): line for line in wanted if not line.startswith("-")}
    for name in (DISTRIBUTION, *SMALLER, *SMALLER.values()):
        theirs.pop(name, None)
    pinned = {f"{name}=={_version(name)}" for name in names - theirs.keys()}
    bounds = {own[name] for name in own.keys() & names & theirs.keys()}
    options = {line for line in wanted if line.startswith("-")}
    return tuple(sorted(pinned | bounds | set(theirs.values()) | options))


def has_all(requirements: Iterable[str], made_of: Iterable[str] | None) -> bool:
    """Tell whether an environment fulfils requirements as it is.

    Args:
        requirements: Lines of a requirements file.
        made_of: The lines that the environment was made of; None for that of this process.
    """
    pins = (line.partition("==") for line in made_of or ())
    pinned = {_name(name): version for name, _, version in pins if version}
    pinned |= {name: pinned[smaller] for name, smaller in SMALLER.items() if smaller in pinned}
    for line in requirements:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:  # an address, or an option of pip
            return False
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        name = _name(wanted.name)
        version = _version_or_none(name) if made_of is None else pinned.get(name)
        if wanted.url or version is None or not wanted.specifier.contains(version, True):
            return False
    return True


def _version_or_none(name: str) -> str | None:
    for distribution in (name, SAME_AS.get(name, name)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return None


def _own_dependencies() -> dict[str, str]:
    """Give what this package declares that it needs, by name."""
    lines = metadata.requires(DISTRIBUTION) or ()
    return {_name(line): line for line in lines if "extra ==" not in line}


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
