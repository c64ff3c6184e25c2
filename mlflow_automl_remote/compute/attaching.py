"""Attaches a machine: connects to it, verifies it, and saves it under a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow_automl_remote.compute import saved
from mlflow_automl_remote.compute.credentials import Credentials
from mlflow_automl_remote.compute.folders import own_known_hosts
from mlflow_automl_remote.compute.host_keys import remember
from mlflow_automl_remote.compute.saved import SavedTarget
from mlflow_automl_remote.compute.target import Connection, connect
from mlflow_automl_remote.compute.targets import TargetSpec, parse_target
from mlflow_automl_remote.errors import HostKeyNotVerifiable

Ask = Callable[[TargetSpec, str], bool]


def _nobody(_: TargetSpec, __: str) -> bool:
    return False


@contextmanager
def attaching(
    name: str,
    config: Mapping[str, object],
    *,
    credentials: Credentials | None = None,
    fingerprint: str | None = None,
    ask: Ask = _nobody,
    tell: Callable[[str], object] = lambda _: None,
) -> Iterator[Connection]:
    """Attach a machine, and lend the connection to it.

    Args:
        name: Under which it is saved, in place of an older one.
        config: Keys of a backend config, `host` among them.
        credentials: Secrets of the login, which are saved with it.
        fingerprint: Of the host key that is expected; it makes an unknown key a known one.
        ask: Whether an unknown host key, of which it is shown the fingerprint, is right.
        tell: Gets lines for the person.

    Raises:
        ConfigurationError: The name or a key is wrong.
        HostKeyNotVerifiable: The host key is unknown and nobody vouches for it, or is another.
        TransportError: The machine cannot be used.
    """
    saved.check_name(name)
    spec = parse_target(config)
    given = credentials or Credentials()
    with _connect(spec, given, fingerprint, ask, tell) as connection:
        machine = connection.machine.describe()
        tell(f"Host key:  {connection.fingerprint}")
        tell(f"Machine:   {machine}")
        path = SavedTarget(
            name=name,
            config=_absolute(config, spec),
            fingerprint=connection.fingerprint,
            machine=machine,
            credentials=given,
        ).save()
        tell(f'Saved as \'{name}\' in {path}. Use it as: {{"target": "{name}"}}')
        yield connection


def _absolute(config: Mapping[str, object], spec: TargetSpec) -> dict[str, object]:
    """Take what has to be the same from every folder that it is used from."""
    changes: dict[str, object] = {"user": spec.user, "port": spec.port}
    if spec.key_files:
        changes["key_file"] = list(spec.key_files)
    if spec.known_hosts:
        changes["known_hosts"] = spec.known_hosts
    return {**config, **changes}


def _connect(
    spec: TargetSpec,
    given: Credentials,
    expected: str | None,
    ask: Ask,
    tell: Callable[[str], object],
) -> Connection:
    """Connect; a host key that is not known yet is accepted by its fingerprint or a person."""
    credentials = given.or_else(spec.credentials())
    try:
        connection = connect(spec, credentials=credentials)
    except HostKeyNotVerifiable as error:
        if error.line is None:
            raise
        if expected is not None and expected != error.fingerprint:
            raise _unexpected(error.fingerprint, expected) from error
        if expected is None and not ask(spec, error.fingerprint):
            raise
        file = Path(spec.known_hosts) if spec.known_hosts else own_known_hosts()
        remember(error.line, file)
        tell(f"Added to {file}.")
        connection = connect(spec, credentials=credentials)
    if expected is not None and connection.fingerprint != expected:
        connection.close()
        raise _unexpected(connection.fingerprint, expected)
    return connection


def _unexpected(shown: str, expected: str) -> HostKeyNotVerifiable:
    return HostKeyNotVerifiable(
        f"The machine showed the host key {shown}, but {expected} was expected. Nothing is saved.",
        fingerprint=shown,
    )
