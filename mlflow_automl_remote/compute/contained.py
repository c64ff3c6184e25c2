"""Runs an agent in a container of a target's Docker engine, and programs beside it.

Our root is mounted at its own path, and the container shares the machine's processes and network:
so journal, lock, identity and logs are the same files and numbers with a container as without.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from docker.errors import NotFound
from docker.types import DeviceRequest, Mount

from mlflow_automl_remote.compute import engine
from mlflow_automl_remote.compute.container_channel import ContainerTransport
from mlflow_automl_remote.compute.control import Control
from mlflow_automl_remote.compute.helper.processes import chosen_environment
from mlflow_automl_remote.compute.images import ensure_image
from mlflow_automl_remote.compute.launching import (
    ACKNOWLEDGE_S,
    COOKIE,
    KEPT_VARIABLES,
    AgentCommand,
    AgentIdentity,
)
from mlflow_automl_remote.compute.machine import Machine
from mlflow_automl_remote.compute.progress import OnProgress
from mlflow_automl_remote.errors import CommandFailed, ConfigurationError

if TYPE_CHECKING:
    from docker import DockerClient

    from mlflow_automl_remote.compute.job import Job
    from mlflow_automl_remote.compute.targets import TargetSpec
    from mlflow_automl_remote.compute.transport import Transport
    from mlflow_automl_remote.compute.workspace import Root, Workspace

SWEEP_LABEL: Final = "automl-remote.sweep"
WORKSPACE_LABEL: Final = "automl-remote.workspace"
OF_THE_IMAGE: Final = ("PATH", "HOME", "SHELL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_DIR")
"""Variables of the account that mean nothing inside."""
INDEX_VARIABLES: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "PIP_INDEX_URL")
CERTIFICATES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
GUARD: Final = """umask 077
exec >>"$0" 2>&1 </dev/null
"$@"
[ -e agent.json ] || exit 1
while :; do sleep 86400; done
"""
"""What the container of a sweep runs: the agent, and then nothing, since the engine starts again
what ends, and knows no other way to start it after a restart of its own or of the machine."""
ONCE: Final = 'umask 077; exec "$@" >>"$0" 2>&1 </dev/null'
POLL_S: Final = 0.1
LOG_BYTES: Final = 4096


class Contained:
    """The containers of a target.

    Args:
        spec: The target, which has a `container`.
        transport: To it.
        control: The helper on it, outside of any container.
        root: Our folder on it.
        on_progress: Is told what is being done.
    """

    def __init__(
        self,
        spec: TargetSpec,
        transport: Transport,
        control: Control,
        root: Root,
        on_progress: OnProgress,
    ) -> None:
        if spec.container is None:
            raise ValueError("a target without a container")
        self._spec, self._container = spec, spec.container
        self._transport, self._control, self._root = transport, control, root
        self._on_progress = on_progress
        self.socket = engine.socket_path(spec.container.docker_socket, is_local=spec.is_local)

    @contextlib.contextmanager
    def inside(self) -> Iterator[tuple[Control, Machine]]:
        """Give a helper in a container of its own, which is gone afterwards.

        Raises:
            EnvironmentSetupFailed: There is no engine, no image or no Python in it.
        """
        with self.engine() as (client, account):
            image, image_id = self._image(client)
            label = f"the image '{image}' on {self._spec.label}"

            def create(argv: Sequence[str]) -> str:
                options = self._options(client, account, auto_remove=True)
                made = client.api.create_container(
                    image, list(argv), stdin_open=True, detach=False, **options
                )
                return str(made["Id"])

            python = self._spec.python
            control = Control(ContainerTransport(client, create, label), python)
            try:
                machine = Machine.ask(control, label)
                yield control, replace(machine, image=image_id)
            finally:
                control.close()

    def launch(
        self, job: Job, command: AgentCommand, module: str, *, is_published: bool
    ) -> AgentIdentity:
        """Start the agent of a workspace, and wait until it has taken its lock.

        Args:
            job: The sweep.
            command: The environment to start it in.
            module: What is run, with the workspace as its argument.
            is_published: Whether it only looks at what has ended; its container then ends with it.

        Raises:
            CommandFailed: It ended before; the message has the end of its log.
            ConfigurationError: The run names another container than the sweep was submitted with;
                whoever can write its tags must not be able to choose what is run.
        """
        submitted = job.read_file(job.workspace.container_spec)
        if submitted != self._container.as_json().encode():
            raise ConfigurationError(
                f"The sweep '{job.workspace.sweep_id}' was submitted for another container than "
                "its run names now, so it is not started."
            )
        workspace, path = job.workspace, str(job.workspace.path)
        name = container_name(workspace)
        with self.engine() as (client, account):
            image, _ = self._image(client)
            _remove(client, name)
            self._control.request("remove", paths=[str(workspace.agent_identity)])
            self._control.request(
                "put",
                json.dumps({"name": name, "socket": self.socket}).encode(),
                path=str(workspace.container),
                mode=0o600,
            )
            variables = {**command.variables, COOKIE: path}
            options = self._options(
                client,
                account,
                variables,
                auto_remove=is_published,
                stays=not is_published,
                is_limited=True,
            )
            guard = ONCE if is_published else GUARD
            agent = [command.python, "-m", module, path]
            with engine.explained(self._spec.label):
                made = client.api.create_container(
                    image,
                    ["-c", guard, str(workspace.agent_log), *agent],
                    entrypoint=["/bin/sh"],
                    name=name,
                    detach=True,
                    working_dir=path,
                    labels={SWEEP_LABEL: workspace.sweep_id, WORKSPACE_LABEL: path},
                    **{key: value for key, value in options.items() if key != "entrypoint"},
                )
                client.api.start(made["Id"])
            return self._acknowledged(client, job, name)

    def _acknowledged(self, client: DockerClient, job: Job, name: str) -> AgentIdentity:
        deadline = time.monotonic() + ACKNOWLEDGE_S
        while time.monotonic() < deadline:
            identity = self._identity(job.workspace)
            if identity is not None:
                return identity
            if not _lives(client, name):
                identity = self._identity(job.workspace)
                if identity is not None:  # it was quick to end
                    return identity
                break
            time.sleep(POLL_S)
        _remove(client, name)
        words = job.log_tail()[-LOG_BYTES:].decode("utf-8", "replace").rstrip()
        raise CommandFailed(
            f"The agent did not start in its container. The end of its log:\n{words}",
            argv=("docker",),
            exit_status=-1,
        )

    def _identity(self, workspace: Workspace) -> AgentIdentity | None:
        path = str(workspace.agent_identity)
        content = self._control.request(
            "read", paths=[path], folder=str(workspace.path), offset=0, limit=LOG_BYTES, wait_s=0
        )[1]
        try:
            found = json.loads(content)
            return AgentIdentity(
                pid=int(found["pid"]), version=str(found.get("version", "")), was_running=False
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextlib.contextmanager
    def engine(self) -> Iterator[tuple[DockerClient, Mapping[str, Any]]]:
        """Give the engine, and what the helper says of the account.

        Raises:
            EnvironmentSetupFailed: It is out of reach, or cannot do what is asked of it.
        """
        spec = self._spec
        keep = [*KEPT_VARIABLES, *INDEX_VARIABLES]
        account = self._control.request(
            "account", keep=keep, socket=self.socket, folder=str(self._root.container_home)
        )[0]
        if spec.is_local:  # whose helper does not get them
            account["variables"] = chosen_environment(keep, {})
        engine.refuse_unreachable(str(account["docker"]), self.socket, spec.label)
        with (
            engine.explained(spec.label),
            engine.connected(
                self._transport, spec.python, self.socket, is_local=spec.is_local
            ) as client,
        ):
            engine.refuse_unsupported(client.info(), spec.label)
            yield client, account

    def _image(self, client: DockerClient) -> tuple[str, str]:
        login = self._spec.registry_login
        return ensure_image(client, self._container, login, self._spec.label, self._on_progress)

    def _options(
        self,
        client: DockerClient,
        account: Mapping[str, Any],
        more: Mapping[str, str] | None = None,
        *,
        auto_remove: bool,
        stays: bool = False,
        is_limited: bool = False,
    ) -> dict[str, Any]:
        """Give what all containers have in common."""
        container, root = self._container, str(self._root.path)
        theirs = dict(account["variables"])
        variables = {key: value for key, value in theirs.items() if key not in OF_THE_IMAGE}
        variables |= {
            "HOME": str(self._root.container_home),
            **_chosen(container.variables),
            **(more or {}),
        }
        mounts = [Mount(root, root, type="bind")]
        for file in sorted({theirs[name] for name in CERTIFICATES if theirs.get(name)}):
            mounts.append(Mount(file, file, type="bind", read_only=True))
        for volume in container.volumes:
            there, inside, *mode = volume.split(":")
            mounts.append(Mount(inside, there, type="bind", read_only=mode == ["ro"]))
        gib = container.memory_gib
        limits: dict[str, Any] = {}
        if gib is not None and is_limited:
            limits |= {"mem_limit": int(gib * 2**30), "memswap_limit": int(gib * 2**30)}
        if container.cores is not None and is_limited:
            limits["nano_cpus"] = container.cores * 1_000_000_000
        if container.gpus:
            limits["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        host = client.api.create_host_config(
            mounts=mounts,
            network_mode="host",
            pid_mode="host",
            auto_remove=auto_remove,
            restart_policy={"Name": "unless-stopped"} if stays else None,
            **limits,
        )
        return {
            "host_config": host,
            "environment": variables,
            "user": f"{account['uid']}:{account['gid']}",
            "entrypoint": "",
            "stop_signal": "SIGKILL",
        }


def container_name(workspace: Workspace) -> str:
    """Return the name of the container of a sweep."""
    return f"automl-remote-{workspace.sweep_id}"


def _chosen(variables: Sequence[str]) -> dict[str, str]:
    """Give variables their values; those that are copied and are not set here are left out."""
    pairs = [each.partition("=") for each in variables]
    given = {name: value if sign else os.environ.get(name) for name, sign, value in pairs}
    return {name: value for name, value in given.items() if value is not None}


def _lives(client: DockerClient, name: str) -> bool:
    """Whether a container runs, and has not been started again by the engine."""
    try:
        found = client.api.inspect_container(name)
    except NotFound:
        return False
    return bool(found["State"]["Running"]) and not found["RestartCount"]


def _remove(client: DockerClient, name: str) -> None:
    with contextlib.suppress(NotFound):
        client.api.remove_container(name, force=True)
