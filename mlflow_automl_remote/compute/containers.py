"""What a backend config or an MLproject says of the container that a sweep runs in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

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
    if key in ("image", "base_image"):
        if not isinstance(value, str) or value.startswith("-") or not value.isprintable():
            raise _must_be(key, "the name of a Docker image", value)
        if any(letter.isspace() for letter in value):
            raise _must_be(key, "the name of a Docker image", value)
    elif key in ("memory_gib", "cores"):
        kinds = (int,) if key == "cores" else (int, float)
        wrong = isinstance(value, bool) or not isinstance(value, kinds)
        if value is not None and (wrong or not value > 0):  # type: ignore[operator]  # a number
            raise _must_be(key, "a number above 0" if len(kinds) > 1 else "a whole number", value)
    elif key == "gpus":
        if not isinstance(value, bool):
            raise _must_be(key, "true or false", value)
    elif key == "docker_socket":
        if value is not None and not (isinstance(value, str) and value.startswith("/")):
            raise _must_be(key, "the path of a socket on the target", value)
    elif key == "volumes":
        for each in _texts(key, value):
            parts = each.split(":")
            ends = [part.startswith("/") for part in parts[:2]]
            if ends != [True, True] or parts[2:] not in ([], ["ro"], ["rw"]):
                raise _must_be(key, "a list of /there:/inside or /there:/inside:ro", each)
    elif key == "variables":
        for each in _texts(key, value):
            if not each.partition("=")[0].isidentifier():
                raise _must_be(key, "a list of NAME=VALUE or NAME", each.partition("=")[0])


def _texts(key: str, value: object) -> Sequence[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _must_be(key, "a list of strings", value)
    return value


def _must_be(key: str, allowed: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"The '{key}' of the backend config must be {allowed}. Got {value!r} instead."
    )
