"""A machine over SSH as a compute target. Only this module and `ssh_login` know paramiko.

paramiko's defaults cost 44 ms a command (no TCP_NODELAY), never notice a dead peer, and wait for
ever in several places; the socket is therefore made here, and every wait has an end.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import paramiko

from mlflow_automl_remote.compute.folders import own_known_hosts
from mlflow_automl_remote.compute.host_keys import KnownHost, known_host
from mlflow_automl_remote.compute.sockets import open_socket
from mlflow_automl_remote.compute.ssh_config import HostSettings, host_settings
from mlflow_automl_remote.compute.ssh_login import host_key, log_in, verify_host
from mlflow_automl_remote.compute.transport import (
    CONNECT_S,
    SILENCE_S,
    STDERR_TAIL_BYTES,
    CompletedCommand,
    run_over,
)
from mlflow_automl_remote.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    HostKeyNotVerifiable,
    TransportError,
)

if TYPE_CHECKING:
    from types import TracebackType

    from mlflow_automl_remote.compute.credentials import Credentials
    from mlflow_automl_remote.compute.targets import TargetSpec
    from mlflow_automl_remote.compute.transport import Channel, Transport

WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What may be under way unacknowledged: 4 MiB fills 80 MB/s at 50 ms round trip."""
CLOSE_S: Final = 5.0
"""For the library's thread to end."""
FAST_CIPHERS: Final = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


FOREIGN_ERRORS: Final = (
    paramiko.SSHException,
    paramiko.ssh_exception.ConfigParseError,
    paramiko.sftp.SFTPError,
    paramiko.pkey.UnknownKeyType,
    OSError,
    EOFError,
)
"""What paramiko and sockets raise, beside subclasses that deserve a text of their own."""


@contextlib.contextmanager
def mapped_errors(label: str, otherwise: type[ConnectFailed | ConnectionLost]) -> Iterator[None]:
    """Turn what paramiko and sockets raise into errors of ours.

    Args:
        label: The machine, for the message.
        otherwise: What an error means that says no more than that the connection failed.
    """
    try:
        yield
    except TransportError:
        raise
    except paramiko.BadHostKeyException as error:
        shown = host_key(error.key).fingerprint
        raise HostKeyNotVerifiable(
            f"{label} showed the host key {shown}, which is not the expected one.",
            fingerprint=shown,
        ) from error
    except paramiko.AuthenticationException as error:
        raise AuthenticationFailed(f"{label} refused the login: {error}.") from error
    except paramiko.ChannelException as error:
        raise otherwise(
            f"{label} refused to open another session: {error.text}. "
            "Its sshd allows too few of them (MaxSessions), or none at all."
        ) from error
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise ConnectFailed(
            f"{label} offers no encryption or host key that is still considered safe: {error}."
        ) from error
    except TimeoutError as error:
        raise otherwise(f"{label} did not answer in time.") from error
    except FOREIGN_ERRORS as error:
        reason = _words(error) or "the connection was closed"
        raise otherwise(f"The connection to {label} failed: {reason}.") from error


def _words(error: BaseException) -> str:
    """Return the text of an error; some of paramiko's cannot even be printed."""
    try:
        return str(error)
    except (TypeError, AttributeError):
        return type(error).__name__


def connect(spec: TargetSpec, credentials: Credentials) -> SSHTransport:
    """Connect to a target and log in.

    Args:
        spec: The target.
        credentials: What a login may need beside keys.

    Raises:
        ConnectFailed: No connection, or not one that is safe enough.
        HostKeyNotVerifiable: The host key is unknown, changed or revoked.
        AuthenticationFailed: No key was accepted.
    """
    settings = host_settings(spec.host or "", spec.user, spec.port, spec.proxy_jump)
    files = known_hosts_files(spec, settings)
    name = settings.host_key_alias or settings.host
    known = known_host(name, 22 if settings.host_key_alias else settings.port, files)
    with contextlib.ExitStack() as undo, mapped_errors(spec.label, ConnectFailed):
        sock = open_socket(settings, spec.user, undo)
        client = paramiko.Transport(sock, default_window_size=WINDOW_BYTES)
        undo.callback(_end, client)
        _configure(client, known)
        client.start_client(timeout=CONNECT_S)
        shown = verify_host(client.get_remote_server_key(), known, name)
        log_in(client, spec, settings, credentials)
        return SSHTransport(client, spec.label, shown.fingerprint, undo.pop_all())
    raise AssertionError("mapped_errors() let an error disappear")


def known_hosts_files(spec: TargetSpec, settings: HostSettings) -> tuple[Path, ...]:
    """Name the files that vouch for a host: the one of the target, or the user's and our own."""
    if spec.known_hosts:
        return (Path(spec.known_hosts),)
    return (*settings.known_hosts, own_known_hosts())


def _end(client: paramiko.Transport) -> None:
    """Close a connection and wait for its thread, so that nothing reads from a closed socket."""
    client.close()
    if client.is_alive():
        client.join(CLOSE_S)


def _configure(client: paramiko.Transport, known: KnownHost) -> None:
    client.banner_timeout = CONNECT_S
    client.handshake_timeout = CONNECT_S
    client.auth_timeout = CONNECT_S
    client.channel_timeout = CONNECT_S
    options = client.get_security_options()
    fast = [name for name in FAST_CIPHERS if name in options.ciphers]
    options.ciphers = (*fast, *(name for name in options.ciphers if name not in fast))
    asked = known.signatures()
    options.key_types = (*asked, *(name for name in options.key_types if name not in asked))


class SSHChannel:
    """One session on an SSH connection."""

    def __init__(self, channel: paramiko.Channel, label: str) -> None:
        self._channel = channel
        self._label = label
        self._stderr = b""

    def read_some(self, max_bytes: int, timeout_s: float) -> bytes:
        """See `Channel`."""
        with mapped_errors(self._label, ConnectionLost):
            self._channel.settimeout(timeout_s)
            data = self._channel.recv(max_bytes)
            self._take_stderr()
            return data

    def _take_stderr(self) -> None:
        while self._channel.recv_stderr_ready():
            self._stderr = (self._stderr + self._channel.recv_stderr(65536))[-STDERR_TAIL_BYTES:]

    def write(self, data: bytes, timeout_s: float) -> None:
        """See `Channel`."""
        with mapped_errors(self._label, ConnectionLost):
            self._channel.settimeout(timeout_s)
            self._channel.sendall(data)

    def finish_input(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def wait(self, timeout_s: float) -> int | None:
        """See `Channel`."""
        if not self._channel.status_event.wait(timeout_s):
            return None
        status = self._channel.exit_status
        # -1 is paramiko's word for a broken connection as well as for a signal
        return None if status == -1 else status

    def stderr_tail(self) -> str:
        """See `Channel`."""
        self._take_stderr()
        return self._stderr.decode("utf-8", "replace")

    def close(self) -> None:
        """See `Channel`."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


class SSHTransport:
    """Runs commands over one SSH connection."""

    def __init__(
        self,
        client: paramiko.Transport,
        label: str,
        fingerprint: str,
        resources: contextlib.ExitStack,
    ) -> None:
        self._client = client
        self._resources = resources
        self.label = label
        self.fingerprint = fingerprint

    def open(self, argv: Sequence[str]) -> Channel:
        """See `Transport`."""
        with mapped_errors(self.label, ConnectionLost):
            channel = self._client.open_session(timeout=CONNECT_S)
            channel.settimeout(SILENCE_S)
            channel.exec_command(shlex.join(argv).encode())
            return SSHChannel(channel, self.label)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float
    ) -> CompletedCommand:
        """See `Transport`."""
        return run_over(self.open(argv), argv, stdin=stdin, timeout_s=timeout_s)

    def close(self) -> None:
        """See `Transport`."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


if TYPE_CHECKING:
    _transport: type[Transport] = SSHTransport
