"""Containers of this machine's Docker engine that stand for machines over SSH."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote.errors import ConfigurationError, ProviderFailed
from mlflow_automl_remote.providers.base import MachineOrder, MadeMachine, Say, answers
from mlflow_automl_remote.providers.switch_off import watch_argv, watch_program

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

NAME: Final = "docker-local"
OPTIONS: Final[Mapping[str, str]] = {
    "image": "Image with an SSH server and python3; none builds one on the base image.",
    "base_image": "Image of a Debian or Ubuntu to build on.  [default: debian:stable-slim]",
    "cores": "CPU cores that it may use at once.  [default: all]",
    "memory_gib": "Memory that it may use.  [default: all]",
    "environment": "NAME=VALUE,... that its sessions get, such as proxies.",
}
BASE_IMAGE: Final = "debian:stable-slim"
REPOSITORY: Final = "automl-remote-vm"
NETWORK: Final = "automl-remote"
ACCOUNT: Final = "automl"
TOKEN, OWNER, TARGET = (f"automl-remote.{word}" for word in ("token", "owner", "target"))
BUILD: Final = """FROM {base}
RUN apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
    openssh-server python3 ca-certificates \\
 && rm -rf /var/lib/apt/lists/*
"""
BOOT: Final = f"""
set -e
mkdir -p /run/sshd
id {ACCOUNT} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --password '*' {ACCOUNT}
if [ $# -gt 0 ]; then
    /usr/sbin/sshd -D -e -f /etc/automl-remote/sshd_config &
    exec "$@"
fi
exec /usr/sbin/sshd -D -e -f /etc/automl-remote/sshd_config
"""
"""What the container runs; it holds nothing that was given from outside."""
SSHD: Final = """HostKey /etc/automl-remote/host_key
AuthorizedKeysFile /etc/automl-remote/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM no
Subsystem sftp internal-sftp
"""
ANSWER_S: Final = 60.0
STOP_S: Final = 20


class DockerLocal:
    """Makes containers with an SSH server on a port of 127.0.0.1.

    Args:
        options: See `OPTIONS`.

    Raises:
        ConfigurationError: An option has a value that is not allowed.
    """

    name = NAME

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options
        self._image = options.get("image", "")
        self._base = options.get("base_image", BASE_IMAGE)
        self._cores = _positive(options, "cores")
        self._memory_gib = _positive(options, "memory_gib")
        self._environment = _pairs(options.get("environment", ""))

    def create(self, order: MachineOrder, say: Say) -> MadeMachine:
        """See `Provider.create`."""
        with _engine() as client:
            image = self._image or _built(client, self._base, say)
            _ensure_network(client)
            port = _free_port()
            say(f"Starting a container of {image}")
            # One that switches itself off ends with status 0, and has to stay off.
            policy = "on-failure" if order.ends_itself else "unless-stopped"
            chosen: dict[str, Any] = {"restart_policy": {"Name": policy}}
            if self._cores:
                chosen["nano_cpus"] = int(self._cores * 1e9)
            if self._memory_gib:
                chosen["mem_limit"] = int(self._memory_gib * 2**30)
            container = client.containers.create(
                image,
                _boot(order),
                name=f"automl-remote-{order.name}-{order.token[:8]}",
                hostname=order.name.replace("_", "-")[:63],
                labels={TOKEN: order.token, OWNER: order.owner, TARGET: order.name},
                network=NETWORK,
                ports={"22/tcp": ("127.0.0.1", port)},
                init=True,
                **chosen,
            )
            container.put_archive("/", self._settings(order))
            container.start()
            _wait_until_up(container, port)
            return _made(container)

    def _settings(self, order: MachineOrder) -> bytes:
        """Pack what the SSH server needs."""
        config = SSHD
        if self._environment:
            pairs = (f'"{key}={value}"' for key, value in self._environment.items())
            config += f"SetEnv {' '.join(pairs)}\n"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content, mode in (
                ("host_key", order.host_key, 0o600),
                ("authorized_keys", f"{order.public_key}\n", 0o644),
                ("sshd_config", config, 0o644),
                ("watch.py", watch_program(), 0o644),
            ):
                entry = tarfile.TarInfo(f"etc/automl-remote/{name}")
                entry.size, entry.mode = len(content), mode
                archive.addfile(entry, io.BytesIO(content.encode()))
        return buffer.getvalue()

    def find(self, token: str, details: str) -> MadeMachine | None:
        """See `Provider.find`."""
        with _engine() as client:
            container = _find(client, token)
            return None if container is None else _made(container)

    def start(self, token: str, details: str) -> None:
        """See `Provider.start`."""
        with _engine() as client:
            container = _known(client, token)
            container.start()
            _wait_until_up(container, _made(container).port)

    def stop(self, token: str, details: str) -> None:
        """See `Provider.stop`."""
        with _engine() as client:
            _known(client, token).stop(timeout=STOP_S)

    def destroy(self, token: str, details: str) -> None:
        """See `Provider.destroy`."""
        from docker.errors import APIError, NotFound

        with _engine() as client:
            container = _find(client, token)
            if container is not None:
                with suppress(NotFound):
                    container.remove(force=True, v=True)
            # The network goes with its last container; one that is in use stays.
            with suppress(APIError):
                client.networks.get(NETWORK).remove()

    def mine(self, owner: str) -> tuple[MadeMachine, ...]:
        """See `Provider.mine`."""
        with _engine() as client:
            found = client.containers.list(all=True, filters={"label": f"{OWNER}={owner}"})
            return tuple(_made(container) for container in found)


@contextmanager
def _engine() -> Iterator[DockerClient]:
    """Connect to the engine; give what it says as one of our errors."""
    import docker
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    try:
        with closing(docker.from_env()) as client:
            yield client
    except ImageNotFound as error:
        raise ProviderFailed(
            f"The image is not there and cannot be fetched: {_said(error)}. "
            "Give one that the engine has with --option image=NAME."
        ) from error
    except (DockerException, RequestException, OSError) as error:
        raise ProviderFailed(
            f"The Docker engine of this machine does not do it: {_said(error)}. Look whether it "
            "runs and whether your account may use it with: docker info"
        ) from error


def _said(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())[:300].rstrip(".")


def _built(client: DockerClient, base: str, say: Say) -> str:
    """Give the image that has what a machine needs, built unless the engine has it."""
    from docker.errors import BuildError, ImageNotFound

    recipe = BUILD.format(base=base)
    tag = f"{REPOSITORY}:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    try:
        client.images.get(tag)
    except ImageNotFound:
        say(f"Building an image with an SSH server on {base}; this takes a minute, once")
        try:
            client.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
        except BuildError as error:
            raise ProviderFailed(
                f"No image could be built on {base}: {_said(error)}. Give one that has an SSH "
                "server and python3 with --option image=NAME."
            ) from error
    return tag


def _ensure_network(client: DockerClient) -> None:
    if NETWORK not in [network.name for network in client.networks.list()]:
        client.networks.create(NETWORK, driver="bridge", labels={TOKEN: ""})


def _boot(order: MachineOrder) -> list[str]:
    argv = ["/bin/sh", "-c", BOOT]
    if order.ends_itself:
        argv += ["boot", *watch_argv("/etc/automl-remote/watch.py", ACCOUNT, order)]
    return argv


def _find(client: DockerClient, token: str) -> Container | None:
    found = client.containers.list(all=True, filters={"label": f"{TOKEN}={token}"})
    return found[0] if found else None


def _known(client: DockerClient, token: str) -> Container:
    container = _find(client, token)
    if container is None:
        raise ProviderFailed("The container of this target is gone. Forget it with: destroy")
    return container


def _made(container: Container) -> MadeMachine:
    host = container.attrs["HostConfig"]
    bound = (host.get("PortBindings") or {}).get("22/tcp") or [{}]
    cores, memory = host.get("NanoCpus") or 0, host.get("Memory") or 0
    limits = [f"{cores / 1e9:g} cores"] * bool(cores) + [f"{memory / 2**30:g} GiB"] * bool(memory)
    return MadeMachine(
        token=container.labels.get(TOKEN, ""),
        name=container.labels.get(TARGET, ""),
        is_running=container.status in ("running", "created"),
        host="127.0.0.1",
        port=int(bound[0].get("HostPort") or 0),
        user=ACCOUNT,
        size=", ".join(limits) or "all of this machine",
    )


def _wait_until_up(container: Container, port: int) -> None:
    """Wait for the SSH server itself, not only for the engine's proxy before it."""
    deadline = time.monotonic() + ANSWER_S
    while not answers("127.0.0.1", port):
        container.reload()
        if container.status not in ("created", "running") or time.monotonic() > deadline:
            last = container.logs(tail=5).decode("utf-8", "replace")
            raise ProviderFailed(
                f"The container's SSH server does not answer: {' '.join(last.split())[-300:]}"
            )
        time.sleep(0.05)


def _free_port() -> int:
    """Choose a port once, so that it stays when the container is started again."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _positive(options: Mapping[str, str], key: str) -> float:
    text = options.get(key)
    try:
        number = float(text) if text is not None else 0.0
    except ValueError:
        number = -1.0
    if text is not None and not 0 < number < float("inf"):
        raise ConfigurationError(f"The option '{key}' must be a number above 0. Got '{text}'.")
    return number


def _pairs(text: str) -> Mapping[str, str]:
    pairs = [word.partition("=") for word in text.split(",") if word]
    for name, sign, value in pairs:
        if not sign or not name.isidentifier() or '"' in value or not value.isprintable():
            raise ConfigurationError(
                f"The option 'environment' must be NAME=VALUE,NAME=VALUE... Got '{text}'."
            )
    return {name: value for name, _, value in pairs}
