"""Opens the connection that SSH is spoken over: a TCP socket, or a ProxyCommand behind one."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess

from mlflow_automl_remote.compute.ssh_config import HostSettings
from mlflow_automl_remote.compute.transport import CONNECT_S, SILENCE_S


def open_socket(settings: HostSettings, user: str, undo: contextlib.ExitStack) -> socket.socket:
    """Connect, and leave in `undo` what has to be closed again."""
    if settings.proxy_command is not None:
        return _open_proxy(settings.proxy_command, settings, user, undo)
    sock = socket.create_connection((settings.host, settings.port), timeout=CONNECT_S)
    undo.callback(sock.close)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set_if_known(sock, "TCP_USER_TIMEOUT", int(SILENCE_S * 1000))
    _set_if_known(sock, "TCP_KEEPIDLE", 5)
    _set_if_known(sock, "TCP_KEEPINTVL", 5)
    _set_if_known(sock, "TCP_KEEPCNT", 3)
    return sock


def _open_proxy(
    command: str, settings: HostSettings, user: str, undo: contextlib.ExitStack
) -> socket.socket:
    """Run a ProxyCommand at the other end of a socket pair.

    paramiko's own ProxyCommand spins when the command ends, and never waits for it.
    """
    for token, word in (("%h", settings.host), ("%p", str(settings.port)), ("%r", user)):
        command = command.replace(token, word)
    ours, its = socket.socketpair()
    undo.callback(ours.close)
    with its:
        process = subprocess.Popen(
            shlex.split(command.removeprefix("exec ")),
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    undo.callback(process.wait)
    undo.callback(process.kill)
    return ours


def _set_if_known(sock: socket.socket, option: str, value: int) -> None:
    number = getattr(socket, option, None)  # macOS lacks some of them
    if number is not None:
        sock.setsockopt(socket.IPPROTO_TCP, number, value)
