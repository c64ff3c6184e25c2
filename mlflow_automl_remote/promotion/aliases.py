"""Moves an alias forward and back; which versions had it, in order, is a tag of the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from mlflow import MlflowClient

from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.promotion import names
from mlflow_automl_remote.promotion.registering import moment
from mlflow_automl_remote.promotion.registry import Registry, Version
from mlflow_automl_remote.promotion.turns import turn
from mlflow_automl_remote.publishing.explained import escaped
from mlflow_automl_remote.publishing.text import one_line

MAX_HISTORY: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        left: The version that had the alias.
        back: The one that has it now.
        skipped: Versions between them that are deleted or not finished.
    """

    name: str
    alias: str
    left: Version
    back: Version
    skipped: tuple[int, ...]


def move(registry: Registry, alias: str, version: Version) -> None:
    """Point an alias to a version and remember which had it before; within a turn only."""
    incumbent = registry.at(alias)
    chain = history(registry, alias)
    for number in (None if incumbent is None else incumbent.number, version.number):
        if number is not None and chain[-1:] != [number]:
            chain.append(number)
    registry.set_tag(names.HISTORY + alias, json.dumps(chain[-MAX_HISTORY:]))
    registry.point(alias, version)


def history(registry: Registry, alias: str) -> list[int]:
    """Give the numbers of the versions that had an alias, the last one last."""
    try:
        told = json.loads(registry.tags().get(names.HISTORY + alias, "[]"))
        return [int(number) for number in told]
    except (ValueError, TypeError):  # a person has written over it
        return []


def rollback(
    client: MlflowClient, name: str, alias: str, *, by: str, now_ms: int, reason: str = ""
) -> RolledBack:
    """Give an alias back to the version that had it before, and write that down on both.

    Raises:
        ConfigurationError: Nothing has the alias, or there was no version before that is still
            there.
        PublishFailed: The store does not answer.
    """
    registry = Registry(client, name)
    if registry.at(alias) is None:
        raise ConfigurationError(
            f"No version of '{name}' has the alias '{alias}', so there is nothing to roll back."
        )
    with turn(registry) as still_mine:
        left = registry.at(alias)
        if left is None:
            raise ConfigurationError(f"The alias '{alias}' of '{name}' was removed meanwhile.")
        chain, back, skipped = _before(registry, alias, left)
        text = (
            f"{moment(now_ms)}: {escaped(by)} rolled '{alias}' back from version {left.number} "
            f"to version {back.number}" + (f": {escaped(reason, 300)}" if reason else "")
        )
        for version in (left, back):
            tags = {names.ROLLED_BACK: one_line(text)}
            registry.annotate(version, tags, f"{version.description}\n\n{text}.".strip())
        still_mine()
        registry.point(alias, back)
        registry.set_tag(names.HISTORY + alias, json.dumps(chain))
    return RolledBack(name=name, alias=alias, left=left, back=back, skipped=skipped)


def _before(
    registry: Registry, alias: str, left: Version
) -> tuple[list[int], Version, tuple[int, ...]]:
    """Find the version before, and what is left of the history with it as the last."""
    chain = history(registry, alias)
    if left.number in chain:
        last = len(chain) - 1 - chain[::-1].index(left.number)
        chain = chain[:last]
    skipped: list[int] = []
    while chain:
        number = chain[-1]
        if number != left.number:
            version = registry.version(number)
            if version is not None and version.is_ready:
                return chain, version, tuple(skipped)
            skipped.append(number)
        chain.pop()
    gone = f" (deleted: {', '.join(map(str, skipped))})" if skipped else ""
    raise ConfigurationError(
        f"No version of '{registry.name}' had the alias '{alias}' before version "
        f"{left.number}{gone}. To take the alias away, delete it in MLflow."
    )


def copy(client: MlflowClient, source: Version, name: str, alias: str) -> Version:
    """Copy a version to another registered model and give the copy the alias there.

    The same version is copied once.

    Raises:
        ConfigurationError: It is the same model.
        PublishFailed: The store does not answer.
    """
    if name == source.name:
        raise ConfigurationError(f"'{name}' cannot be copied to itself; name another model.")
    registry = Registry(client, name)
    registry.ensure()
    origin = f"{source.name}/{source.number}"
    with turn(registry) as still_mine:
        known = [one for one in registry.versions() if one.tags.get(names.COPY_OF) == origin]
        still_mine()
        made = known[0] if known else registry.copy_here(source)
        tags = {**source.tags, names.COPY_OF: origin}
        registry.annotate(made, tags, source.description)
        still_mine()
        move(registry, alias, made)
        return registry.version(made.number) or made
