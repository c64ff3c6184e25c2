"""The commands `automl-remote target create|start|stop|destroy`: machines that we make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.target_cli import clean_errors


def add_commands(group: click.Group) -> None:
    """Add the commands of this module to `automl-remote target`."""
    for command in (create, start, stop, destroy, strays):
        group.add_command(command)


_option = click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="Of the provider; see docs."
)
_provider = click.option(
    "--provider",
    default="docker-local",
    show_default=True,
    help="docker-local: a container on this machine. ec2: at Amazon. azure: at Microsoft. "
    "exec: what a command makes.",
)

_DURATION = click.FloatRange(min=0, min_open=True, max=100_000)


@click.command()
@click.argument("name")
@_provider
@_option
@click.option("--ttl", type=_DURATION, metavar="HOURS", help="Switch it off after so long.")
@click.option("--idle-stop", type=_DURATION, metavar="MINUTES", help="So when it is not used.")
def create(
    name: str,
    provider: str,
    options: Sequence[str],
    *,
    ttl: float | None,
    idle_stop: float | None,
) -> None:
    """Make a machine and save it under a name; one that was made before is found."""
    from mlflow_automl_remote import providers
    from mlflow_automl_remote.terminal import clean

    with clean_errors():
        target, is_new = providers.create(
            name,
            provider,
            _pairs(options),
            _say,
            ttl_hours=ttl or 0.0,
            idle_minutes=idle_stop or 0.0,
        )
        click.echo(f"{'Created' if is_new else 'Found existing'} target '{name}'")
        click.echo(clean(f"Machine:   {target.machine}"))
        click.echo(f'Use it as: {{"target": "{name}"}}')
        click.echo(f"Take it away with: automl-remote target destroy {name}")


@click.command()
@click.argument("name")
def start(name: str) -> None:
    """Start the machine of a created target."""
    from mlflow_automl_remote import providers

    with clean_errors():
        providers.start(name, _say)
        click.echo(f"'{name}' runs.")


@click.command()
@click.argument("name")
def stop(name: str) -> None:
    """Stop the machine of a created target, unless a sweep runs on it; its disk stays."""
    from mlflow_automl_remote import providers

    with clean_errors():
        providers.stop(name, _say)
        click.echo(f"'{name}' is stopped. Start it with: automl-remote target start {name}")


@click.command()
@click.argument("name")
@click.option("--discard", is_flag=True, help="Even if sweeps are lost by it.")
def destroy(name: str, *, discard: bool) -> None:
    """Take the machine of a created target away for good, and forget the target."""
    from mlflow_automl_remote import providers

    with clean_errors():
        providers.destroy(name, _say, discard=discard)
        click.echo(f"'{name}' is gone.")


@click.command()
@_provider
@_option
@click.option("--destroy", "token", metavar="TOKEN", help="Take this one away.")
def strays(provider: str, options: Sequence[str], token: str | None) -> None:
    """List machines of ours that no saved target leads to, and take them away."""
    from mlflow_automl_remote import providers
    from mlflow_automl_remote.terminal import clean

    with clean_errors():
        given = _pairs(options)
        found = providers.strays(provider, given)
        if token is None:
            for stray in found:
                click.echo(clean(f"{stray.token}  made for '{stray.name}'"))
            if not found:
                click.echo("None.")
            return
        chosen = next((stray for stray in found if stray.token == token), None)
        if chosen is None:
            raise ConfigurationError(f"No stray machine has the token '{token}'.")
        providers.destroy_stray(chosen, given, _say)
        click.echo(f"{token} is gone.")


def _say(line: str) -> None:
    from mlflow_automl_remote.terminal import clean

    click.echo(clean(line))


def _pairs(options: Sequence[str]) -> Mapping[str, str]:
    pairs = [option.partition("=") for option in options]
    for key, sign, _ in pairs:
        if not sign or not key:
            raise ConfigurationError(f"An --option must be KEY=VALUE. Got '{key}' instead.")
    return {key: value for key, _, value in pairs}
