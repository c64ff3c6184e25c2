"""Who the machine is, and who we are to it: its host key, then our keys and password."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import paramiko

from mlflow_automl_remote.compute import host_certificates
from mlflow_automl_remote.compute.credentials import PASSPHRASE_VARIABLE, PASSWORD_VARIABLE
from mlflow_automl_remote.compute.host_keys import HostKey
from mlflow_automl_remote.errors import AuthenticationFailed

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.credentials import Credentials
    from mlflow_automl_remote.compute.host_keys import KnownHost
    from mlflow_automl_remote.compute.ssh_config import HostSettings
    from mlflow_automl_remote.compute.targets import TargetSpec

_log = logging.getLogger(__name__)

MAX_KEYS: Final = 5
"""Keys that are offered; OpenSSH servers hang up at the sixth."""
BY_PASSWORD: Final = frozenset(("password", "keyboard-interactive"))


def host_key(key: paramiko.PKey) -> HostKey:
    """Take the public key that a host showed, without its certificate."""
    return HostKey(key_type=key.get_name(), blob=key.asbytes())


def verify_host(key: paramiko.PKey, known: KnownHost, name: str) -> HostKey:
    """Accept the key of a host, or the certificate that it showed with it; return the key.

    Raises:
        HostKeyNotVerifiable: Neither is known, or the key has changed or is revoked.
    """
    shown = host_key(key)
    if key.public_blob is None:
        known.verify(shown)
    else:
        blob = bytes(key.public_blob.key_blob)
        host_certificates.verify(blob, known, name, _has_signed)
    return shown


def _has_signed(key: HostKey, data: bytes, signature: bytes) -> bool:
    public = paramiko.PKey.from_type_string(key.key_type, key.blob)
    return bool(public.verify_ssh_sig(data, paramiko.Message(signature)))


def log_in(
    client: paramiko.Transport, spec: TargetSpec, settings: HostSettings, credentials: Credentials
) -> None:
    """Offer the keys one after the other until one is accepted, then the password.

    Raises:
        AuthenticationFailed: Nothing was accepted; the message names what was tried.
    """
    tried: list[str] = []
    with contextlib.closing(_keys(spec, settings, credentials)) as keys:
        wanted = _offer_keys(client, spec, keys, tried)
    if wanted is None:
        return
    if credentials.password is not None and client.is_active() and BY_PASSWORD & set(wanted):
        tried.append("the password")
        try:
            more = client.auth_password(spec.user, credentials.password)
        except paramiko.AuthenticationException as error:
            raise _not_accepted(spec, tried) from error
        if not more:
            return
        wanted = tuple(more)
    if tried and "publickey" not in wanted and credentials.password is None:
        raise AuthenticationFailed(
            f"{spec.label} wants something else than a key: {', '.join(wanted)}. "
            f"Set {PASSWORD_VARIABLE} to the password, or allow PubkeyAuthentication in its "
            "sshd_config."
        )
    raise _not_accepted(spec, tried)


def _offer_keys(
    client: paramiko.Transport,
    spec: TargetSpec,
    keys: Iterable[tuple[str, paramiko.PKey]],
    tried: list[str],
) -> Sequence[str] | None:
    """Log in with one of the keys: None; otherwise what the machine would take instead."""
    for name, key in keys:
        tried.append(name)
        try:
            more = client.auth_publickey(spec.user, key)
        except paramiko.BadAuthenticationType as error:
            return tuple(error.allowed_types)
        except paramiko.AuthenticationException as error:
            if not client.is_active():
                raise _not_accepted(spec, tried) from error
            if len(tried) >= MAX_KEYS:
                break
        else:
            return tuple(more) or None
    return ("publickey", *BY_PASSWORD)


def _not_accepted(spec: TargetSpec, tried: Sequence[str]) -> AuthenticationFailed:
    what = f"with {' or '.join(tried)}" if tried else "without a key, and none was found here"
    return AuthenticationFailed(
        f"{spec.host} does not accept the user '{spec.user}' {what}. "
        f"Add the public half of your key to ~{spec.user}/.ssh/authorized_keys there, "
        "or set 'user' and 'key_file' in the backend config."
    )


def _keys(
    spec: TargetSpec, settings: HostSettings, credentials: Credentials
) -> Generator[tuple[str, paramiko.PKey], None, None]:
    """Give (name for people, key): the key files, or the agent's keys and the usual files."""
    for file in spec.key_files:
        yield f"the key {file}", _load_key(Path(file), credentials.passphrase)
    if spec.key_files:
        return
    with contextlib.closing(paramiko.Agent()) as agent:
        for key in agent.get_keys():
            yield f"the agent's key {key.fingerprint}", key
    for path in settings.key_files:
        try:
            yield f"the key {path}", _load_key(path, credentials.passphrase)
        except AuthenticationFailed as error:
            _log.info("%s", error)


def _load_key(path: Path, passphrase: str | None) -> paramiko.PKey:
    reason = "it is not an ed25519, ECDSA or RSA private key"
    if passphrase is not None:
        reason = f"the passphrase that was given is not its passphrase, or {reason}"
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            key: paramiko.PKey = kind.from_private_key_file(str(path), password=passphrase)
        except paramiko.PasswordRequiredException:
            raise AuthenticationFailed(
                f"The key {path} is encrypted. Set {PASSPHRASE_VARIABLE} to its passphrase, or "
                "add the key to your SSH agent with ssh-add and leave 'key_file' out."
            ) from None
        except (paramiko.SSHException, ValueError, TypeError) as error:
            _log.debug("%s is not for %s: %s", path, kind.__name__, error)
        except OSError as error:
            raise AuthenticationFailed(
                f"The key {path} cannot be read: {error.strerror}."
            ) from error
        else:
            certificate = path.with_name(path.name + "-cert.pub")
            if certificate.exists():
                key.load_certificate(str(certificate))
            return key
    raise AuthenticationFailed(f"The key {path} cannot be used: {reason}.")
