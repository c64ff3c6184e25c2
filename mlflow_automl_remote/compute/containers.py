"""What a backend config or an MLproject says of the container that a sweep runs in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from mlflow_automl_remote.compute import registries
from mlflow_automl_remote.errors import ConfigurationError

DOCKER: Final = "docker"
ENVIRONMENTS: Final = ("target", DOCKER)
KEYS: Final = (
    "environment",
    "image",
    "base_image",
    "memory_gib",
    "cores",
    "gpus",
    "volumes",
    "variables",
    "docker_socket",
    registries.KEY,
)
"""Of a backend config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container for a sweep; holds no secret, since it is written on the run.

    Attributes:
        image: What it is made of; pulled where the engine does not have it.
        base_image: A Debian or Ubuntu that an image with Python is built on.
        memory_gib: The most that it may use; None for all.
        cores: As many at a time; None for all.
        gpus: Whether it gets the GPUs.
        volumes: Folders of the target, as `/there:/inside` or `/there:/inside:ro`.
        variables: `NAME=VALUE`, or the `NAME` of a variable that is copied from the client.
        docker_socket: Of the engine on the target; None for the usual one.
    """

    image: str = ""
    base_image: str = ""
    memory_gib: float | None = None
    cores: int | None = None
    gpus: bool = False
    volumes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    docker_socket: str | None = None

    def as_json(self) -> str:
        """Write it down beside a sweep."""
        return json.dumps(asdict(self))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what `asdict` made, through JSON or not.

        Raises:
            TypeError: It is something else.
            ConfigurationError: A value is not allowed.
        """
        lists = {name: tuple(content.get(name, ())) for name in ("volumes", "variables")}
        made = cls(**{**content, **lists})
        for each in fields(cls):
            _check(each.name, getattr(made, each.name))
        return made


def parse_container(
    config: Mapping[str, object], from_project: Mapping[str, Any] | None = None
) -> ContainerSpec | None:
    """Read the keys of a backend config, which win over those of an MLproject's `docker_env`.

    Raises:
        ConfigurationError: A key has a value that is not allowed, or is there for nothing.
    """
    given = {key: value for key, value in config.items() if key in KEYS}
    environment = given.pop("environment", None)
    if environment not in (None, *ENVIRONMENTS):
        raise _must_be("environment", "one of " + ", ".join(ENVIRONMENTS), environment)
    if environment is None and from_project is not None:
        environment = DOCKER
    if environment != DOCKER:
        if given:
            raise ConfigurationError(
                f"The backend config has '{next(iter(given))}', which is for a container. "
                'Add "environment": "docker".'
            )
        return None
    given.pop(registries.KEY, None)  # not of the container: a secret, which is not written down
    for key, value in given.items():
        _check(key, value)
    wanted = {**_of_project(from_project or {}), **given}
    if given.get("base_image"):
        wanted["image"] = given.get("image", "")
    if bool(wanted.get("image")) == bool(wanted.get("base_image")):
        raise ConfigurationError(
            'A sweep with "environment": "docker" needs an \'image\' that has python3, or a '
            "'base_image' (a Debian or Ubuntu) to build one on: one of the two."
        )
    return ContainerSpec.from_dict(wanted)


def _of_project(docker_env: Mapping[str, Any]) -> dict[str, Any]:
    """Put MLflow's `docker_env` into our words."""
    pairs = docker_env.get("environment") or ()
    variables = [each if isinstance(each, str) else "=".join(map(str, each)) for each in pairs]
    return {
        "image": str(docker_env.get("image") or ""),
        "volumes": tuple(docker_env.get("volumes") or ()),
        "variables": tuple(variables),
    }


def _check(key: str, value: object) -> None:
    """Refuse a value that is not allowed.

    Raises:
        ConfigurationError: It is not.
    """
    allowed, is_allowed = _ALLOWED[key]
    if not (is_allowed(value) or (value is None and key in _MAY_BE_NONE)):
        raise _must_be(key, allowed, value)


def _is_image(value: object) -> bool:
    return (
        isinstance(value, str)
        and not value.startswith("-")
        and not any(letter.isspace() or not letter.isprintable() for letter in value)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _are_volumes(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(each, str) and _VOLUME.fullmatch(each) for each in value
    )


def _are_variables(value: object) -> bool:
    """Whether all are; what is assigned is not shown where one is not."""
    return isinstance(value, list | tuple) and all(
        isinstance(each, str) and each.partition("=")[0].isidentifier() for each in value
    )


_VOLUME: Final = re.compile(r"/[^:]*:/[^:]*(:r[ow])?")
_MAY_BE_NONE: Final = ("memory_gib", "cores", "docker_socket")
_ALLOWED: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "image": ("the name of a Docker image", _is_image),
    "base_image": ("the name of a Docker image", _is_image),
    "memory_gib": ("a number above 0", _is_number),
    "cores": ("a whole number", lambda value: _is_number(value) and isinstance(value, int)),
    "gpus": ("true or false", lambda value: isinstance(value, bool)),
    "volumes": ("a list of '/there:/inside' or '/there:/inside:ro'", _are_volumes),
    "variables": ("a list of 'NAME=VALUE' or 'NAME'", _are_variables),
    "docker_socket": (
        "the path of a socket on the target",
        lambda value: isinstance(value, str) and value.startswith("/"),
    ),
}


def _must_be(key: str, allowed: str, value: object) -> ConfigurationError:
    shown = "something else" if key == "variables" else repr(value)  # it may have secrets
    return ConfigurationError(
        f"The '{key}' of the backend config must be {allowed}. Got {shown} instead."
    )
