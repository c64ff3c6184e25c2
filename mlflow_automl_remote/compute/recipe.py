"""What the environment of an agent is made of, and the hash that names it."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.requirements import (
    CHECK_IMPORTS,
    agent_requirements,
    overrides,
)
from mlflow_automl_remote.compute.wanted import Wanted

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.machine import Machine

FORMAT: Final = 1
"""Part of the hash: raised when environments are built another way."""
MIN_AGENT_PYTHON: Final = (3, 11)
DIGEST_LENGTH: Final = 32
NOTHING: Final = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an environment is made of.

    Attributes:
        python: Version of its interpreter, such as "3.11".
        interpreter: What uv is told to use: a path on the target, or a version that it downloads.
        requirements: Lines of a requirements file.
        overrides: Lines of uv's overrides.
        platform: Of the target: system, architecture, C library and image, if it has one.
        imports: Modules that have to be importable.
        conda: Packages that conda installs; with None it has no part in this.
        channels: Where conda gets them.
    """

    python: str
    interpreter: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...]
    platform: str
    imports: tuple[str, ...] = CHECK_IMPORTS
    conda: tuple[str, ...] | None = None
    channels: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Name the environment by everything that decides what is in it."""
        lines = (str(FORMAT), self.python, self.platform, *self.requirements, *self.overrides)
        if self.conda is not None:
            lines = (*lines, "conda", *self.conda, *self.channels)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]


def agent_recipe(machine: Machine, wanted: Wanted = NOTHING, *, conda: bool = False) -> Recipe:
    """Describe the agent's environment for a machine.

    Its own Python is taken when it is new enough and what the project wants; otherwise uv gets
    that, or the client's version.

    Args:
        machine: Where it is for.
        wanted: By the project.
        conda: Whether conda makes it.
    """
    own = ".".join(map(str, machine.python[:2]))
    suits = machine.python >= MIN_AGENT_PYTHON and wanted.python in (None, own)
    python = own if suits else wanted.python or _own_python()
    return Recipe(
        python=python,
        interpreter=machine.executable if suits else python,
        requirements=agent_requirements(wanted.requirements if conda else wanted.all_requirements),
        overrides=overrides(),
        platform=f"{machine.system}-{machine.machine}-{machine.libc}{machine.image}",
        conda=wanted.conda if conda else None,
        channels=wanted.channels if conda else (),
    )


def _own_python() -> str:
    return ".".join(platform.python_version_tuple()[:2])
