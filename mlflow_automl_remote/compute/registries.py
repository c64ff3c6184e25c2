"""Signs in to a private registry. The secret goes to the engine alone, and into no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from mlflow_automl_remote.errors import ConfigurationError

if TYPE_CHECKING:
    from docker import DockerClient

KEY: Final = "docker_auth"
"""Of a backend config; MLflow's own word."""
HUB: Final = "docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryLogin:
    """An account of a registry; shows nothing of it when printed.

    Attributes:
        username: Of the account.
        password: Or an access token.
        registry: Its address; empty for the one that the image's name begins with.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)
    registry: str = ""

    @classmethod
    def from_config(cls, value: object) -> Self:
        """Read the `docker_auth` of a backend config.

        Raises:
            ConfigurationError: It is something else; the message shows nothing of it.
        """
        if (
            not isinstance(value, Mapping)
            or not {"username", "password"} <= set(value) <= {"username", "password", "registry"}
            or not all(isinstance(each, str) and each for each in value.values())
        ):
            raise ConfigurationError(
                f"The '{KEY}' of the backend config must have a 'username', a 'password' and "
                "perhaps a 'registry', all of them text. Got something else instead."
            )
        return cls(**value)

    def sign_in(self, client: DockerClient, image: str) -> None:
        """Let the engine check the account, and use it for what this client asks from then on.

        Raises:
            APIError: The registry does not take it.
        """
        from docker.auth import resolve_repository_name

        registry = self.registry or resolve_repository_name(image)[0]
        client.login(
            username=self.username,
            password=self.password,
            registry=None if registry == HUB else registry,
            reauth=True,  # or else an older password of the same account would do
        )
