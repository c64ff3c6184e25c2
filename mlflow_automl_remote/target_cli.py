"""The commands `automl-remote target ...`: attach a machine once, and use it by its name."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from mlflow_automl_remote.errors import (
    AutoMLRemoteError,
    ConfigurationError,
    PromotionFailed,
    PromotionRefused,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Check, Cleaned, Connection, SavedTarget, TargetSpec

FAILED: Final = 1
REFUSED: Final = 3
"""A gate refused a promotion; the sweep itself is fine."""
UNDECIDED: Final = 4
"""A sweep is fine, and the promotion at its end failed."""
INTERRUPTED: Final = 130
"""Ctrl-C ended the command; shells expect this status."""
_TABLE: Final = "{:<14} {:<8} {}"


@contextmanager
def clean_errors() -> Iterator[None]:
    """Print what we can explain as one line, with an exit status that tells failure."""
    try:
        yield
    except AutoMLRemoteError as error:
        from mlflow_automl_remote.terminal import Detached, clean

        statuses = {Detached: INTERRUPTED, PromotionRefused: REFUSED, PromotionFailed: UNDECIDED}
        click.echo(f"Error: {clean(' '.join(str(error).split()))}", err=True)
        raise click.exceptions.Exit(statuses.get(type(error), FAILED)) from error


@click.group()
def target() -> None:
    """Attach machines over SSH, look them over, and clean them up."""


@target.command()
@click.argument("name")
@click.option("--host", required=True, help="Name, address or alias of ~/.ssh/config.")
@click.option("--user", help="Account there.  [default: that of the alias, or yours]")
@click.option("--port", type=int, help="Of the SSH server.  [default: 22]")
@click.option("--key-file", multiple=True, help="Private key; may be given several times.")
@click.option("--known-hosts", help="File that vouches for the host key.")
@click.option("--proxy-jump", help="Hosts to go through, as ssh -J takes them.")
@click.option("--root", help="Folder there for everything of ours.")
@click.option("--python", help="Interpreter there, 3.8 or newer.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase of the key, likewise.")
@click.option("--fingerprint", help="The host key that is expected: SHA256:...")
def attach(
    name: str,
    *,
    password_stdin: bool,
    passphrase_stdin: bool,
    fingerprint: str | None,
    **keys: Any,
) -> None:
    """Connect to a machine, verify it, and save it under a name.

    Secrets are lines of standard input, the password first, or the variables
    AUTOML_REMOTE_PASSWORD and AUTOML_REMOTE_KEY_PASSPHRASE.
    """
    from mlflow_automl_remote import compute

    with clean_errors():
        config = {key: value for key, value in keys.items() if value}
        if "key_file" in config:
            config["key_file"] = list(config["key_file"])
        credentials = compute.Credentials(
            password=_secret("password") if password_stdin else None,
            passphrase=_secret("passphrase") if passphrase_stdin else None,
        )
        with compute.attaching(
            name,
            config,
            credentials=credentials,
            fingerprint=fingerprint,
            ask=_ask,
            tell=click.echo,
        ) as connection:
            _tell_of_lost_sweeps(connection)


def _secret(what: str) -> str:
    """Read one line of standard input, unseen where it is a terminal."""
    if sys.stdin.isatty():
        return str(click.prompt(what.capitalize(), hide_input=True, err=True))
    line = sys.stdin.readline()
    if not line.strip():
        raise ConfigurationError(f"--{what}-stdin was given, but standard input has no {what}.")
    return line.rstrip("\r\n")


def _ask(spec: TargetSpec, shown: str) -> bool:
    """Let a person look at an unknown host key; a pipe cannot."""
    if not sys.stdin.isatty():
        return False
    click.echo(f"The host key of {spec.host} is not known. It is {shown}.")
    click.echo("The machine itself says: ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub")
    return click.confirm("Is it the right one?")


def _tell_of_lost_sweeps(connection: Connection) -> None:
    for sweep in connection.inventory().sweeps:
        if sweep.is_lost:
            click.echo(
                f"The agent of run {sweep.run_id[:64]!r} died before its sweep had ended. "
                f"Go on with: automl-remote resume {sweep.run_id[:64]!r}"
            )


@target.command(name="list")
def list_targets() -> None:
    """List the targets that are saved."""
    from mlflow_automl_remote.compute import saved

    with clean_errors():
        names = saved.saved_names()
        for name in names:
            click.echo(f"{name:<20} {_where(saved.load(name))}")
        if not names:
            click.echo("None. Attach one with: automl-remote target attach NAME --host HOST")


def _where(known: SavedTarget) -> str:
    made = known.creation
    if made is None:
        return f"{known.config.get('user')}@{known.config.get('host')}"
    facts = f"{made.provider}, {made.size or 'size not known'}, since {made.begun_at}"
    if made.ttl_hours:
        facts += f", off after {made.ttl_hours:g} h"
    if made.idle_minutes:
        facts += f", off when idle for {made.idle_minutes:g} min"
    if not known.config:
        return f"creating it was interrupted ({facts}): automl-remote target destroy {known.name}"
    return f"{known.config['user']}@{known.config['host']}:{known.config['port']}   {facts}"


@target.command()
@click.argument("name")
def show(name: str) -> None:
    """Show a saved target, without its secrets."""
    from mlflow_automl_remote.compute import saved

    with clean_errors():
        known = saved.load(name)
        shown = {**known.config, "fingerprint": known.fingerprint, "machine": known.machine}
        for secret in ("password", "passphrase"):
            if getattr(known.credentials, secret) is not None:
                shown[secret] = "saved, not shown"
        for key, value in shown.items():
            click.echo(f"{key:<12} {', '.join(value) if isinstance(value, list) else value}")


@target.command()
@click.argument("name")
@click.option("--max-concurrent-iterations", type=int, help="Say whether it can carry so many.")
def doctor(name: str, max_concurrent_iterations: int | None) -> None:
    """Look a target over: NAME, `local`, or a backend config as JSON or file."""
    from mlflow_automl_remote import compute
    from mlflow_automl_remote.compute.hosts_doctor import examine_all  # with all that looks

    with clean_errors():
        n_problems = 0
        found = examine_all(_target(name), max_concurrent=max_concurrent_iterations)
        for heading, checks in found:
            if heading:
                click.echo(f"\n{heading}")
            for line in itertools.chain.from_iterable(map(_check_lines, checks)):
                click.echo(line)
            n_problems += sum(check.verdict is compute.Verdict.PROBLEM for check in checks)
        if n_problems:
            raise ConfigurationError("A sweep cannot run there until the problem is remedied.")


def _target(name: str) -> TargetSpec:
    """Read a target: its name, or a backend config as JSON or file."""
    from mlflow_automl_remote import arguments, compute
    from mlflow_automl_remote.compute import saved

    named = name == saved.LOCAL or name in saved.saved_names()
    return compute.parse_target({"target": name} if named else arguments.read_backend_config(name))


def _check_lines(check: Check) -> list[str]:
    from mlflow_automl_remote.terminal import clean

    lines = [
        clean(_TABLE.format(check.name, check.verdict, " ".join(check.text.split())).rstrip())
    ]
    if check.remedy:
        lines.append(clean(_TABLE.format("", "", f"-> {check.remedy}")))
    return lines


@target.command()
@click.argument("name")
def detach(name: str) -> None:
    """Forget a saved target and its secrets; the machine keeps what it has."""
    from mlflow_automl_remote.compute import saved

    with clean_errors():
        if saved.load(name).creation is not None:
            raise ConfigurationError(
                f"The machine of '{name}' was created, and would go on costing. "
                f"Take it away with: automl-remote target destroy {name}"
            )
        saved.forget(name)
        click.echo(f"'{name}' is not saved any more. Its host key stays in known_hosts.")


@target.command()
@click.argument("name")
@click.option("--discard", is_flag=True, help="Remove dead sweeps that are not in MLflow, too.")
def clean(name: str, *, discard: bool) -> None:
    """Remove published sweeps, old environments and the like from a target.

    NAME may also be `local`, or a backend config as JSON or file; of several hosts, all are
    cleaned.
    """
    from mlflow_automl_remote import compute

    with clean_errors():
        spec = _target(name)
        for each in (replace(spec, others=()), *spec.others):
            if spec.others:
                click.echo(f"{each.label}:")
            with compute.connect(each) as connection:
                _tell_cleaned(connection.clean(discard=discard))


def _tell_cleaned(done: Cleaned) -> None:
    from mlflow_automl_remote.terminal import clean as printable

    for what, n_bytes in done.removed:
        click.echo(printable(f"removed  {what}  {n_bytes / 1e6:.1f} MB"))
    for what, reason in done.kept:
        click.echo(printable(f"kept     {what}: {reason}"))
    click.echo(f"{done.n_bytes / 1e6:.1f} MB were freed.")
