"""Machines of a user that no saved target leads to, found by the word that all of theirs carry."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute import saved
from mlflow_automl_remote.compute.folders import config_folder
from mlflow_automl_remote.providers.patience import silent, told
from mlflow_automl_remote.providers.registry import provider_of

if TYPE_CHECKING:
    from mlflow_automl_remote.providers.base import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A machine that no saved target leads to.

    Attributes:
        provider: That made it.
        token: By which it is destroyed.
        name: Of the target that it was made for.
    """

    provider: str
    token: str
    name: str


def strays(provider_name: str, options: Mapping[str, str]) -> tuple[Stray, ...]:
    """Find machines of this user that no saved target leads to.

    Raises:
        ProviderFailed: The provider cannot be asked.
    """
    provider = provider_of(provider_name, options)
    known = {
        target.creation.token
        for target in map(saved.load, saved.saved_names())
        if target.creation is not None
    }
    return tuple(
        Stray(provider=provider_name, token=made.token, name=made.name)
        for made in provider.mine(owner())
        if made.token not in known
    )


def destroy_stray(stray: Stray, options: Mapping[str, str], say: Say = silent) -> None:
    """Take a machine away that no saved target leads to.

    Args:
        stray: The machine.
        options: Of its provider.
        say: Gets a line now and then.

    Raises:
        ProviderFailed: It cannot be taken away.
    """
    with told(say, "Taking the machine away"):
        provider_of(stray.provider, options).destroy(stray.token, "")


def owner() -> str:
    """Give the word that all machines of this user carry, made the first time."""
    path = config_folder() / "owner"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f"owner.new-{os.getpid()}")
        aside.write_text(uuid.uuid4().hex)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)  # whoever is first
        aside.unlink()
    return path.read_text().strip()
