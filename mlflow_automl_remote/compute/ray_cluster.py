"""What a backend config says of the Ray cluster that iterations run on. Contacts nothing."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Final

from mlflow_automl_remote.errors import ConfigurationError

KEY: Final = "ray"
HOSTS_KEY: Final = "hosts"
_ADDRESS: Final = re.compile(
    r"auto|(ray://)?[A-Za-z0-9_.\-]+:[0-9]{1,5}|(ray://)?\[[0-9a-fA-F:]+\]:[0-9]{1,5}"
)


def parse_ray(config: Mapping[str, object]) -> str | None:
    """Read the address of the cluster; None where there is none.

    Raises:
        ConfigurationError: It is not an address, or Ray is not installed here.
    """
    value = config.get(KEY)
    if value is None:
        return None
    address = value.get("address") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ConfigurationError(
            f'The \'{KEY}\' of the backend config must be {{"address": ...}} with "auto", '
            f'"host:port" or "ray://host:port". Got {value!r} instead.'
        )
    require_ray(KEY)
    return address


def require_ray(key: str) -> None:
    """See to it that this machine has Ray, whose version all others get.

    Args:
        key: Of the backend config, that asks for it.

    Raises:
        ConfigurationError: It has not.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            f"The backend config has '{key}', and Ray is not installed here. Install it: "
            "pip install 'mlflow-automl-remote[ray]'"
        )


def requirement() -> str:
    """Give what the agent's environment needs, in the version of this one."""
    return f"ray[client]=={metadata.version('ray')}"
