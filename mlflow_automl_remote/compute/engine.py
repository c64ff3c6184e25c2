"""Reaches the Docker engine of a target with the docker SDK, which runs on the client.

Over SSH each connection of the SDK is one to a socket in a private folder here, and is carried on
by a command on the target that speaks to the engine's own socket. No docker program is needed on
either side, and no port is opened.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import docker
from docker.errors import DockerException
from requests import RequestException

from mlflow_automl_remote.compute.control import BOOTSTRAP, MAX_NOISE_BYTES
from mlflow_automl_remote.compute.transport import CONNECT_S, READ_BYTES, SILENCE_S
from mlflow_automl_remote.errors import ConnectionLost, EnvironmentSetupFailed

if TYPE_CHECKING:
    from docker import DockerClient

    from mlflow_automl_remote.compute.transport import Channel, Transport

DEFAULT_SOCKET: Final = "/var/run/docker.sock"
HOST_VARIABLE: Final = "DOCKER_HOST"
ANSWER_S: Final = 900.0
"""For the engine to say something; a slow registry or disk is why it takes minutes."""
IDLE_S: Final = 24 * 3600.0
RELAY: Final = """
import os, socket, sys, threading
engine = socket.socket(socket.AF_UNIX)
engine.connect({path!r})
os.write(1, {marker!r})
def up():
    while True:
        data = i.read1(65536)
        if not data:
            break
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while True:
    data = engine.recv(65536)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
os._exit(0)
"""
"""Runs on the target, one for each connection, until the engine ends it."""


def socket_path(named: str | None, *, is_local: bool) -> str:
    """Return the path of the engine's socket on the target."""
    here = os.environ.get(HOST_VARIABLE, "")
    if named is None and is_local and here.startswith("unix://"):
        return here.removeprefix("unix://")
    return named or DEFAULT_SOCKET


def refuse_unreachable(state: str, path: str, label: str) -> None:
    """Raise where the helper on the target has found that the engine is out of reach.

    Raises:
        EnvironmentSetupFailed: With the remedy.
    """
    if state == "no access":
        raise EnvironmentSetupFailed(
            f"The account on {label} may not use the Docker engine at {path}. Add it to the group "
            "of the socket there: sudo usermod -aG docker USER. That makes it as good as root."
        )
    if state != "ok":
        raise EnvironmentSetupFailed(
            f"No Docker engine answers on {label} at {path}. Start or install one there (apt-get "
            "install docker.io), name another 'docker_socket', or leave out "
            '"environment": "docker".'
        )


def refuse_unsupported(info: Mapping[str, Any], label: str) -> None:
    """Raise where accounts inside are others than outside, so that files would be nobody's.

    Args:
        info: What the engine says of itself.
        label: The machine, as a person would name it.

    Raises:
        EnvironmentSetupFailed: They are.
    """
    options = [str(option).split(",")[0] for option in info.get("SecurityOptions") or ()]
    for option, what in (("name=rootless", "is rootless"), ("name=userns", "remaps accounts")):
        if option in options:
            raise EnvironmentSetupFailed(
                f"The Docker engine on {label} {what}, so files of a sweep would not belong to "
                "the account that logs in. Name the 'docker_socket' of another engine."
            )


@contextlib.contextmanager
def explained(label: str) -> Iterator[None]:
    """Say in a line what the engine of a target could not do."""
    try:
        yield
    except (DockerException, RequestException) as error:
        said = words(error)
        what_to_do = remedy(said) or "See its log there (journalctl -u docker)."
        raise EnvironmentSetupFailed(
            f"The Docker engine of {label}: {said}. {what_to_do}"
        ) from error


def remedy(said: str) -> str:
    """Give what to do about what the engine said; nothing where that is not known."""
    said = said.lower()
    if "no space" in said:
        return "Make room for it there: docker system prune."
    if "executable file not found" in said or "no such file" in said:
        return (
            "The image needs /bin/sh and a Python of 3.8 or newer: name it with 'python' in "
            "the backend config, or give a 'base_image' to build on."
        )
    if "bind source path" in said:
        return "A volume has to be there before."
    return ""


def words(error: Exception) -> str:
    """Give in a line what the engine said."""
    text = getattr(error, "explanation", None) or getattr(error, "msg", None) or str(error)
    return " ".join(str(text).split())[:400].rstrip(".")


@contextlib.contextmanager
def connected(
    transport: Transport, python: str, path: str, *, is_local: bool
) -> Iterator[DockerClient]:
    """Give the SDK's client of the engine behind a socket on the target."""
    with contextlib.ExitStack() as stack:
        if not is_local:
            path = stack.enter_context(_bridge(transport, python, path))
        client = docker.DockerClient(f"unix://{path}", version="auto", timeout=int(ANSWER_S))
        yield stack.enter_context(contextlib.closing(client))


@contextlib.contextmanager
def _bridge(transport: Transport, python: str, path: str) -> Iterator[str]:
    """Give the path of a socket here whose connections end at a socket on the target."""
    folder = Path(tempfile.mkdtemp(prefix="automl-remote-"))
    server = socket.socket(socket.AF_UNIX)
    links: list[_Link] = []
    try:
        server.bind(str(folder / "engine"))
        server.listen()
        args = (server, transport, python, path, links)
        threading.Thread(target=_accept, args=args, daemon=True).start()
        yield str(folder / "engine")
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        for link in links:
            link.close()
        shutil.rmtree(folder, ignore_errors=True)


def _accept(
    server: socket.socket, transport: Transport, python: str, path: str, links: list[_Link]
) -> None:
    while True:
        try:
            end = server.accept()[0]
        except OSError:
            return
        try:
            links.append(_Link(end, transport.open([python, "-I", "-c", BOOTSTRAP]), path))
        except ConnectionLost:
            end.close()


class _Link:
    """One connection to the engine: a socket here, a channel there, and a thread for each way."""

    def __init__(self, end: socket.socket, channel: Channel, path: str) -> None:
        self._end = end
        self._channel = channel
        try:
            rest = self._start(path)
        except BaseException:
            self.close()
            raise
        self._threads = [
            threading.Thread(target=self._up, daemon=True),
            threading.Thread(target=self._down, args=(rest,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _start(self, path: str) -> bytes:
        """Start the relay, and return what it has sent already."""
        marker = b"automl-remote-%s\n" % secrets.token_hex(16).encode()
        program = RELAY.format(path=path, marker=marker).encode()
        self._channel.write(b"%d\n%s" % (len(program), program), SILENCE_S)
        noise = b""
        while marker not in noise:
            part = self._channel.read_some(READ_BYTES, CONNECT_S)
            noise += part
            if not part or len(noise) > MAX_NOISE_BYTES:
                raise ConnectionLost("The way to the Docker engine was closed.")
        return noise.partition(marker)[2]

    def _up(self) -> None:
        with contextlib.suppress(OSError, ConnectionLost):
            while data := self._end.recv(READ_BYTES):
                self._channel.write(data, SILENCE_S)
            self._channel.finish_input()

    def _down(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ConnectionLost):
            if data:
                self._end.sendall(data)
            while data := self._channel.read_some(READ_BYTES, IDLE_S):
                self._end.sendall(data)
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut the connection."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._channel.close()
        for thread in getattr(self, "_threads", ()):
            thread.join(CONNECT_S)
        self._end.close()
