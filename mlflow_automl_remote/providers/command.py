"""Machines that a command of the user makes: Terraform, a cloud's own tool, a script."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from mlflow_automl_remote.errors import ConfigurationError, ProviderFailed
from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Say

NAME: Final = "exec"
OPTIONS: Final[Mapping[str, str]] = {
    "create": "Command that makes a machine and prints {host, user, port, host_key} as JSON.",
    "destroy": "Command that takes it away; what `create` printed is its standard input.",
    "start": "Command that starts it again, likewise.",
    "stop": "Command that stops it, likewise.",
    "list": "Command that prints a JSON list of {token, name} of all machines of $..._OWNER.",
}
TIMEOUT_S: Final = 1800.0
_PREFIX: Final = "AUTOML_REMOTE_"


class Command:
    """Runs commands, each an argv without a shell, with the order in its environment.

    Args:
        options: See `OPTIONS`.

    Raises:
        ConfigurationError: A command is missing or cannot be split into words.
    """

    name = NAME

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options
        self._argv = {key: _words(key, text) for key, text in options.items()}
        for needed in ("create", "destroy"):
            if needed not in self._argv:
                raise ConfigurationError(
                    f"The provider '{NAME}' needs --option {needed}=COMMAND: what it makes must "
                    "also be taken away."
                )

    def create(self, order: MachineOrder, say: Say) -> MadeMachine:
        """See `Provider.create`; the order is in variables `AUTOML_REMOTE_...`."""
        say(f"Running {shlex.join(self._argv['create'])}")
        printed = self._run(
            "create",
            {
                "TOKEN": order.token,
                "NAME": order.name,
                "OWNER": order.owner,
                "PUBLIC_KEY": order.public_key,
            },
        )
        return _machine(order.token, order.name, printed)

    def find(self, token: str, details: str) -> MadeMachine | None:
        """Give what `create` printed; whether it runs is not known here."""
        return _machine(token, "", details) if details else None

    def start(self, token: str, details: str) -> None:
        """See `Provider.start`."""
        self._run("start", {"TOKEN": token}, details)

    def stop(self, token: str, details: str) -> None:
        """See `Provider.stop`."""
        self._run("stop", {"TOKEN": token}, details)

    def destroy(self, token: str, details: str) -> None:
        """See `Provider.destroy`."""
        self._run("destroy", {"TOKEN": token}, details)

    def mine(self, owner: str) -> tuple[MadeMachine, ...]:
        """See `Provider.mine`; nothing is known without a command that lists."""
        if "list" not in self._argv:
            return ()
        found = _json("list", self._run("list", {"OWNER": owner}))
        if not isinstance(found, list):
            raise ProviderFailed("The command 'list' must print a JSON list of {token, name}.")
        return tuple(
            MadeMachine(token=str(each["token"]), name=str(each.get("name", "")))
            for each in found
            if isinstance(each, dict) and each.get("token")
        )

    def _run(self, what: str, order: Mapping[str, str], given: str = "") -> str:
        if what not in self._argv:
            raise ConfigurationError(
                f"This target was created without --option {what}=COMMAND, so it cannot do that."
            )
        argv = self._argv[what]
        environment = {**os.environ, **{_PREFIX + key: value for key, value in order.items()}}
        try:
            done = subprocess.run(
                argv, env=environment, input=given, capture_output=True, text=True, check=False,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderFailed(f"The command '{argv[0]}' cannot be run: {error}.") from error
        if done.returncode != 0:
            last = " ".join((done.stderr or done.stdout).split())[-300:]
            raise ProviderFailed(
                f"The command '{shlex.join(argv)}' ended with status {done.returncode}: {last}"
            )
        return done.stdout


def _words(key: str, text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"The option '{key}' is no command: {error}.") from error
    if not words:
        raise ConfigurationError(f"The option '{key}' is an empty command.")
    return words


def _json(what: str, printed: str) -> Any:
    try:
        return json.loads(printed)
    except ValueError as error:
        raise ProviderFailed(
            f"The command '{what}' must print JSON and nothing else on its standard output. "
            f"It printed {printed[:200]!r}."
        ) from error


def _machine(token: str, name: str, printed: str) -> MadeMachine:
    facts = _json("create", printed)
    if not isinstance(facts, dict):
        facts = {}
    host, host_key, port = (facts.get(key) for key in ("host", "host_key", "port"))
    if not isinstance(host, str) or not host:
        raise ProviderFailed(f"The command 'create' printed no 'host': {printed[:200]!r}.")
    if not isinstance(host_key, str) or len(host_key.split()) < 2:
        raise ProviderFailed(
            "The command 'create' must print the 'host_key' of the machine, such as "
            "'ssh-ed25519 AAAA...': a key that nobody vouches for is not accepted. "
            f"Got {host_key!r}."
        )
    if isinstance(port, bool) or not isinstance(port, int | type(None)):
        raise ProviderFailed(f"The 'port' that 'create' printed must be a number. Got {port!r}.")
    return MadeMachine(
        token=token,
        name=name,
        host=host,
        port=port or 22,
        user=str(facts.get("user") or "root"),
        host_key=" ".join(host_key.split()[:2]),
        size=str(facts.get("size") or ""),
        details=printed,
    )
