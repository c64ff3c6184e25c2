"""Targets that a user has attached or created: a file each in their config directory, 0600."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from mlflow_automl_remote.compute.credentials import Credentials
from mlflow_automl_remote.compute.folders import config_folder
from mlflow_automl_remote.errors import ConfigurationError

VERSION: Final = 1
LOCAL: Final = "local"
"""The name of this machine, which no other target can have."""
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """How the machine of a target came to be, for those that were not there before.

    Attributes:
        provider: Who made it.
        options: That the provider was given.
        token: Names the machine there.
        begun_at: When that was, in ISO 8601.
        size: What it costs by, in words.
        details: The provider's own.
        ttl_hours: After which it switches itself off; 0 for never.
        idle_minutes: Without use, after which it does so; 0 for never.
    """

    provider: str
    options: Mapping[str, str]
    token: str
    begun_at: str
    size: str = ""
    details: str = ""
    ttl_hours: float = 0.0
    idle_minutes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTarget:
    """A target as it was attached or created.

    Attributes:
        name: By which a backend config names it.
        config: The keys of a backend config that lead to it; empty while it is being created.
        fingerprint: Of the host key that it showed then.
        machine: What it was then, in words.
        credentials: Secrets that were given with it.
        creation: How it was created; None if it was attached.
    """

    name: str
    config: Mapping[str, object]
    fingerprint: str = ""
    machine: str = ""
    credentials: Credentials = field(default=Credentials(), repr=False)
    creation: Creation | None = None

    def save(self) -> Path:
        """Write the target, in place of an older one of the same name; return its file."""
        check_name(self.name)
        content = {
            "version": VERSION,
            "config": dict(self.config),
            "fingerprint": self.fingerprint,
            "machine": self.machine,
            "password": self.credentials.password,
            "passphrase": self.credentials.passphrase,
            "creation": None if self.creation is None else asdict(self.creation),
        }
        path = _file(self.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.new-{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(aside, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        return path


def check_name(name: str) -> None:
    """Accept a name for a target.

    Raises:
        ConfigurationError: It has another form, or is taken for this machine.
    """
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise ConfigurationError(
            "A target's name has letters, digits, '-' and '_', starts with a letter and is at "
            f"most 64 long; '{LOCAL}' is this machine. Got {name[:80]!r} instead."
        )


def saved_names() -> tuple[str, ...]:
    """List the targets that are saved, in order."""
    return tuple(sorted(path.stem for path in (config_folder() / "targets").glob("*.json")))


def load(name: str) -> SavedTarget:
    """Read a saved target.

    Raises:
        ConfigurationError: There is none of that name, others could have read its secrets, or its
            file is damaged.
    """
    check_name(name)
    path = _file(name)
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(
                f"Others on this machine may read '{path}', which can hold secrets. "
                f"Take that away with: chmod 600 '{path}'"
            )
        return _parse(name, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        known = ", ".join((LOCAL, *saved_names()))
        raise ConfigurationError(
            f"There is no target '{name}'. Known are: {known}. "
            f"Attach it with: automl-remote target attach {name} --host HOST"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"The target '{name}' in '{path}' cannot be read: {error}. Attach it again."
        ) from error


def _parse(name: str, content: Mapping[str, object]) -> SavedTarget:
    if content["version"] != VERSION:
        raise ValueError(f"it has version {content['version']}, and {VERSION} is known")
    config = content["config"]
    if not isinstance(config, dict):
        raise TypeError("its 'config' is no object")
    return SavedTarget(
        name=name,
        config=config,
        fingerprint=str(content.get("fingerprint") or ""),
        machine=str(content.get("machine") or ""),
        credentials=Credentials(
            password=_secret(content, "password"), passphrase=_secret(content, "passphrase")
        ),
        creation=_creation(content.get("creation")),
    )


def _creation(content: object) -> Creation | None:
    if content is None:
        return None
    if not isinstance(content, dict):
        raise TypeError("its 'creation' is no object")
    return Creation(**content)


def _secret(content: Mapping[str, object], key: str) -> str | None:
    value = content.get(key)
    return None if value is None else str(value)


def forget(name: str) -> None:
    """Remove a saved target and its secrets; nothing on the machine is touched.

    Raises:
        ConfigurationError: There is none of that name.
    """
    load(name)
    _file(name).unlink()


def _file(name: str) -> Path:
    return config_folder() / "targets" / f"{name}.json"
