"""The providers by their names, and the options that each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.providers import azure, command, docker_local, ec2
from mlflow_automl_remote.providers.base import Provider

PROVIDERS: Final[Mapping[str, Mapping[str, str]]] = {
    docker_local.NAME: docker_local.OPTIONS,
    ec2.NAME: ec2.OPTIONS,
    azure.NAME: azure.OPTIONS,
    command.NAME: command.OPTIONS,
}
"""What each option means, by provider."""


def provider_of(name: str, options: Mapping[str, str]) -> Provider:
    """Give a provider with its options.

    Raises:
        ConfigurationError: There is none of that name, or an option is not one of its own.
    """
    if name not in PROVIDERS:
        raise ConfigurationError(
            f"The provider must be one of {', '.join(PROVIDERS)}. Got '{name}' instead."
        )
    for key in options:
        if key not in PROVIDERS[name]:
            raise ConfigurationError(
                f"The provider '{name}' has no option '{key}'. "
                f"Known are: {', '.join(PROVIDERS[name])}."
            )
    make: Mapping[str, Callable[[Mapping[str, str]], Provider]] = {
        docker_local.NAME: docker_local.DockerLocal,
        ec2.NAME: ec2.Ec2,
        azure.NAME: azure.Azure,
        command.NAME: command.Command,
    }
    return make[name](options)
