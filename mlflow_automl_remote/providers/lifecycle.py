"""A created target from the wish for it to its end, so that no machine is ever forgotten.

What is wished for is written down before anything is made, under a token that the machine
carries. So a client that dies at any moment leaves either a saved target that can be destroyed,
or a machine that `strays` finds by its owner.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mlflow_automl_remote import compute
from mlflow_automl_remote.compute import SavedTarget, saved
from mlflow_automl_remote.compute.folders import config_folder
from mlflow_automl_remote.compute.host_keys import remember
from mlflow_automl_remote.compute.saved import Creation
from mlflow_automl_remote.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectFailed,
    ProviderFailed,
    TransportError,
)
from mlflow_automl_remote.providers import command
from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Provider, Say
from mlflow_automl_remote.providers.keys import make_key
from mlflow_automl_remote.providers.patience import SAY_S, silent, told
from mlflow_automl_remote.providers.registry import provider_of
from mlflow_automl_remote.providers.strays import owner

ANSWER_S: Final = 300.0
"""How long a new machine may take until its SSH server lets us in."""
BOOT_S: Final = 60.0
"""How long that server may refuse our key, because its system still boots."""
POLL_S: Final = 1.0


def create(
    name: str,
    provider_name: str,
    options: Mapping[str, str],
    say: Say,
    *,
    ttl_hours: float = 0.0,
    idle_minutes: float = 0.0,
) -> tuple[SavedTarget, bool]:
    """Make a machine and save it as a target; find it where it has been made before.

    Args:
        name: Of the target.
        provider_name: One of `PROVIDERS`.
        options: Of the provider.
        say: Gets a line for each step.
        ttl_hours: After which it switches itself off, without sweeps; 0 for never.
        idle_minutes: Without use, after which it does so; 0 for never.

    Returns:
        The target, and whether it is new.

    Raises:
        ConfigurationError: The name or an option is wrong, or the name is taken.
        ProviderFailed: It could not be made; nothing is left of it.
        TransportError: It was made, but cannot be connected to; it stays, to be looked at.
    """
    saved.check_name(name)
    provider = provider_of(provider_name, options)
    if provider_name == command.NAME and (ttl_hours or idle_minutes):
        raise ConfigurationError(
            f"The provider '{provider_name}' cannot make a machine switch itself off. Let your "
            "own command see to it, and leave out --ttl and --idle-stop."
        )
    if name in saved.saved_names():
        return _existing(name, provider_name), False
    token, user_key, host_key = uuid.uuid4().hex, make_key(), make_key()
    folder = _folder(name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_file, known_hosts = folder / "key", folder / "known_hosts"
    _write_private(key_file, user_key.private)
    creation = Creation(
        provider=provider_name,
        options=dict(provider.options),
        token=token,
        begun_at=datetime.now(UTC).isoformat(timespec="seconds"),
        ttl_hours=ttl_hours,
        idle_minutes=idle_minutes,
    )
    SavedTarget(name=name, config={}, creation=creation).save()
    order = MachineOrder(
        name=name,
        token=token,
        owner=owner(),
        public_key=user_key.public,
        host_key=host_key.private,
        ttl_hours=ttl_hours,
        idle_minutes=idle_minutes,
    )
    with _nothing_left(provider, name, token):
        made = provider.create(order, say)
        _vouch(made, host_key.public, known_hosts)
        target = SavedTarget(
            name=name,
            config={
                "host": made.host,
                "port": made.port,
                "user": made.user,
                "key_file": [str(key_file)],
                "known_hosts": str(known_hosts),
            },
            creation=replace(creation, size=made.size, details=made.details),
        )
        target.save()
    say("Waiting for it to let us in")
    machine = _wait_for(name, say)
    target = replace(target, machine=machine)
    target.save()
    return target, True


def _existing(name: str, provider_name: str) -> SavedTarget:
    known = saved.load(name)
    if known.creation is None or known.creation.provider != provider_name:
        raise ConfigurationError(
            f"There is a target '{name}' already, and it is not one of provider "
            f"'{provider_name}'. Take another name, or first: automl-remote target detach {name}"
        )
    if not known.config:
        raise _unfinished(name)
    return known


@contextlib.contextmanager
def _nothing_left(provider: Provider, name: str, token: str) -> Iterator[None]:
    """Take a machine away again if it could not be made ready."""
    try:
        yield
    except BaseException as error:
        try:
            provider.destroy(token, "")
        except (ProviderFailed, ConfigurationError):
            if isinstance(error, ConfigurationError):  # nothing had been made
                _forget(name)
        else:
            _forget(name)
        raise


def _vouch(made: MadeMachine, ordered: str, known_hosts: Path) -> None:
    place = made.host if made.port == 22 else f"[{made.host}]:{made.port}"
    known_hosts.unlink(missing_ok=True)
    remember(f"{place} {made.host_key or ordered}", known_hosts)


def _wait_for(name: str, say: Say) -> str:
    """Connect, as soon as a machine that boots lets us; return what it is."""
    begin = told = time.monotonic()
    while True:
        try:
            with compute.connect(compute.parse_target({"target": name})) as connection:
                return connection.machine.describe()
        except (ConnectFailed, AuthenticationFailed) as error:
            # While a system boots, its login says no to everybody.
            limit_s = BOOT_S if isinstance(error, AuthenticationFailed) else ANSWER_S
            if time.monotonic() - begin > limit_s:
                raise
        if time.monotonic() - told > SAY_S:
            told = time.monotonic()
            say(f"It does not let us in yet, after {told - begin:.0f} s")
        time.sleep(POLL_S)


def start(name: str, say: Say) -> None:
    """Start the machine of a target.

    Args:
        name: Of the target.
        say: Gets a line for each step.

    Raises:
        ConfigurationError: The target was attached, not created.
        ProviderFailed: It cannot be started.
        TransportError: It has been started, but does not let us in.
    """
    creation = _creation(name)
    provider = provider_of(creation.provider, creation.options)
    with told(say, "Starting it"):
        provider.start(creation.token, creation.details)
    made = provider.find(creation.token, creation.details)
    if made is not None:
        _follow_move(saved.load(name), made)
    _wait_for(name, say)


def _follow_move(target: SavedTarget, made: MadeMachine) -> None:
    """Save where a machine is reached now: in a cloud its address changes when it was stopped."""
    if made.host == target.config["host"]:
        return
    known_hosts = Path(str(target.config["known_hosts"]))
    host_key = " ".join(known_hosts.read_text().split()[1:3])
    _vouch(made, host_key, known_hosts)
    replace(target, config={**target.config, "host": made.host, "port": made.port}).save()


def stop(name: str, say: Say = silent) -> None:
    """Stop the machine of a target, unless it is; what is on its disk stays.

    Args:
        name: Of the target.
        say: Gets a line now and then.

    Raises:
        ConfigurationError: The target was attached, not created; or a sweep runs there.
        ProviderFailed: It cannot be stopped.
        TransportError: Whether a sweep runs there cannot be found out.
    """
    creation = _creation(name)
    provider = provider_of(creation.provider, creation.options)
    made = provider.find(creation.token, creation.details)
    if made is not None and not made.is_running:
        return
    with compute.connect(compute.parse_target({"target": name})) as connection:
        running = [
            sweep
            for sweep in connection.inventory().sweeps
            if sweep.liveness is not compute.Liveness.DEAD
        ]
    if running:
        raise ConfigurationError(
            f"A sweep runs on '{name}': run {running[0].run_id}. Wait for it, or end it with: "
            f"automl-remote cancel {running[0].run_id}"
        )
    with told(say, "Stopping it"):
        provider.stop(creation.token, creation.details)


def destroy(name: str, say: Say = silent, *, discard: bool) -> None:
    """Take the machine of a target away, and forget the target.

    Args:
        name: Of the target.
        say: Gets a line now and then.
        discard: Whether sweeps may be lost that are running or not in MLflow.

    Raises:
        ConfigurationError: The target was attached, not created; or sweeps would be lost.
        ProviderFailed: It cannot be taken away; the target stays.
    """
    known = saved.load(name)
    creation = _creation(name, finished=False)
    provider = provider_of(creation.provider, creation.options)
    if not discard and known.config and provider.find(creation.token, creation.details):
        _refuse_to_lose(name)
    with told(say, "Taking the machine away"):
        provider.destroy(creation.token, creation.details)
    _forget(name)


def _refuse_to_lose(name: str) -> None:
    try:
        with compute.connect(compute.parse_target({"target": name})) as connection:
            sweeps = connection.inventory().sweeps
    except TransportError as error:
        raise ConfigurationError(
            f"Whether '{name}' has results that are not in MLflow cannot be found out: {error} "
            f"Start it with: automl-remote target start {name}; or give --discard."
        ) from error
    for sweep in sweeps:
        if sweep.liveness is not compute.Liveness.DEAD:
            raise ConfigurationError(
                f"A sweep runs on '{name}': run {sweep.run_id}. End it with: automl-remote cancel "
                f"{sweep.run_id}; or give --discard."
            )
        if not sweep.published and sweep.run_id:
            raise ConfigurationError(
                f"'{name}' has results of run {sweep.run_id} that are not in MLflow. Get them "
                f"with: automl-remote follow {sweep.run_id}; or give --discard."
            )


def _creation(name: str, *, finished: bool = True) -> Creation:
    known = saved.load(name)
    if known.creation is None:
        raise ConfigurationError(
            f"The target '{name}' was attached, not created, so its machine is not ours to start, "
            f"stop or destroy. Forget it with: automl-remote target detach {name}"
        )
    if finished and not known.config:
        raise _unfinished(name)
    return known.creation


def _unfinished(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"Creating the target '{name}' was interrupted. Take away what there is of it with: "
        f"automl-remote target destroy {name}"
    )


def _forget(name: str) -> None:
    saved.forget(name)
    shutil.rmtree(_folder(name), ignore_errors=True)


def _folder(name: str) -> Path:
    return config_folder() / "machines" / name


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
