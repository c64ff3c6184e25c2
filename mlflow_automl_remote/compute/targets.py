"""Which machine a sweep runs on, as the backend config names it. Contacts nothing."""

from __future__ import annotations

import getpass
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from mlflow_automl_remote.compute.local import LABEL
from mlflow_automl_remote.compute.ssh_config import host_settings
from mlflow_automl_remote.errors import ConfigurationError

EnvManager = Literal["uv", "local"]
ENV_MANAGERS: Final = ("uv", "local")
HOME_VARIABLE: Final = "AUTOML_REMOTE_HOME"
"""Names another root than `~/.automl-remote` for this machine as a target."""
LOCAL_KEYS: Final = ("target",)
SSH_KEYS: Final = (
    "host",
    "user",
    "port",
    "key_file",
    "known_hosts",
    "root",
    "python",
    "env_manager",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """A compute target; holds no secret.

    Attributes:
        host: Name, address or alias of `~/.ssh/config`; None is this machine.
        user: Account on the host.
        port: Of its SSH server.
        key_file: Private key to log in with; None tries the agent and the usual ones.
        known_hosts: File that vouches for the host key; None reads the usual ones.
        root: Folder on the target that holds everything of ours; None is `~/.automl-remote`.
        python: Interpreter on the target that runs the control helper; 3.8 or newer.
        env_manager: `uv` builds the agent's environment; `local` takes `python` as it is.
    """

    host: str | None = None
    user: str = ""
    port: int = 22
    key_file: str | None = None
    known_hosts: str | None = None
    root: str | None = None
    python: str = "python3"
    env_manager: EnvManager = "uv"

    @property
    def is_local(self) -> bool:
        """Whether the sweep runs on this machine."""
        return self.host is None

    @property
    def label(self) -> str:
        """The machine, as a person would name it."""
        if self.host is None:
            return LABEL
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")

    def as_json(self) -> str:
        """Write the target for a tag of the run."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> TargetSpec:
        """Read what `as_json` wrote; the key file need not be on this machine.

        Raises:
            ConfigurationError: It is not a target, or one of a newer version.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"'{text}' is not a compute target: {error}.") from error


def parse_target(config: Mapping[str, object]) -> TargetSpec:
    """Read the compute target from a backend config.

    Args:
        config: `{}` or `{"target": "local"}` is this machine, `{"host": ...}` a machine over SSH.

    Raises:
        ConfigurationError: A key is unknown, or has a value that is not allowed.
    """
    is_local = "host" not in config
    known = LOCAL_KEYS if is_local else SSH_KEYS
    for key in config:
        if key not in known:
            raise ConfigurationError(_unknown_key(key, is_local=is_local))
    if is_local:
        if config.get("target", "local") != "local":
            raise _must_be(
                "target", "'local'; for a machine over SSH give its 'host'", config["target"]
            )
        home = os.environ.get(HOME_VARIABLE)
        return TargetSpec(root=str(Path(home).expanduser().absolute()) if home else None)
    return _parse_ssh(config)


def _parse_ssh(config: Mapping[str, object]) -> TargetSpec:
    host = _text(config, "host")
    if not host or host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host):
        raise _must_be(
            "host", "a host name, an address or an alias of ~/.ssh/config", config["host"]
        )
    user, port = _text(config, "user"), _port(config)
    if user is not None and (not user or user.startswith("-") or not user.isprintable()):
        raise _must_be("user", "the name of an account on the host", user)
    key_file, known_hosts = _file(config, "key_file"), _file(config, "known_hosts")
    root, env_manager = _text(config, "root"), config.get("env_manager", "uv")
    if root is not None and not root.startswith(("/", "~/")):
        raise _must_be("root", "an absolute path on the host, or one that begins with ~/", root)
    if env_manager != "uv" and env_manager != "local":
        raise _must_be("env_manager", "one of " + ", ".join(ENV_MANAGERS), env_manager)
    settings = host_settings(host, user, port)
    return TargetSpec(
        host=host,
        user=settings.user or getpass.getuser(),
        port=settings.port,
        key_file=key_file,
        known_hosts=known_hosts,
        root=root,
        python=_text(config, "python") or "python3",
        env_manager=env_manager,
    )


def _text(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise _must_be(key, "a string", value)
    return value


def _port(config: Mapping[str, object]) -> int | None:
    value = config.get("port")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise _must_be("port", "a whole number from 1 to 65535", value)
    return value


def _file(config: Mapping[str, object], key: str) -> str | None:
    value = _text(config, key)
    if value is None:
        return None
    path = Path(value).expanduser().absolute()
    if not path.is_file():
        raise ConfigurationError(
            f"The '{key}' of the backend config must be an existing file. "
            f"Got '{value}' instead, and there is no file {shlex.quote(str(path))}."
        )
    return str(path)


def _unknown_key(key: object, *, is_local: bool) -> str:
    if is_local and key in SSH_KEYS:
        return f"The backend config has '{key}' but no 'host'. Add the 'host' to connect to."
    return (
        f"Unknown key '{key}' in the backend config. Known keys: {', '.join(SSH_KEYS)} "
        "for a machine over SSH; target for this one."
    )


def _must_be(key: str, allowed: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"The '{key}' of the backend config must be {allowed}. Got {value!r} instead."
    )
