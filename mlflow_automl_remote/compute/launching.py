"""Starts processes of a sweep on a target that outlive the connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote.errors import CommandFailed

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.workspace import Place, Workspace

ACKNOWLEDGE_S: Final = 120.0
"""For the agent to take its lock; first imports from a cold disk are why it takes seconds."""
COOKIE: Final = "AUTOML_REMOTE_SWEEP"
"""Variable with the workspace, by which every process of a sweep is found, daemons included."""
KEPT_VARIABLES: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR",
    "LD_LIBRARY_PATH", "CUDA_*", "NVIDIA_*", "OMP_NUM_THREADS", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy",
)  # fmt: skip
"""What an agent gets of its account's environment; nothing else, so no credential by accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommand:
    """How an agent is started on a target.

    Attributes:
        python: Interpreter of the agent's environment.
        variables: Added to what is kept of the account's environment.
        kept: Names of the variables that are kept.
    """

    python: str
    variables: Mapping[str, str]
    kept: tuple[str, ...] = KEPT_VARIABLES


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """What an agent says of itself when it has started.

    Attributes:
        pid: On the target.
        version: Of this package, there.
        was_running: Whether it had been started before.
    """

    pid: int
    version: str
    was_running: bool


def launch(
    control: Control,
    workspace: Workspace,
    command: AgentCommand,
    module: str,
    place: Place,
    *,
    stdin: bytes = b"",
) -> AgentIdentity:
    """Start a process and wait until it has said who it is; one that lives already is kept.

    Args:
        control: The helper on the target.
        workspace: The sweep's folder, which is its argument.
        command: The environment to start it in.
        module: What is run.
        place: Its files in the workspace.
        stdin: What it is told; secrets may be in there.

    Raises:
        CommandFailed: It ended before; the message has the end of its log.
    """
    request = _request(workspace, command, module, place)
    try:
        reply = control.request(
            "launch",
            stdin,
            timeout_s=ACKNOWLEDGE_S,
            lock=str(place.lock),
            agent=str(place.identity),
            **request,
        )[0]
    except CommandFailed as error:
        raise CommandFailed(
            f"The {place.name} did not start. {error}",
            argv=request["argv"],
            exit_status=error.exit_status,
        ) from error
    identity = reply["identity"]
    return AgentIdentity(
        pid=int(identity.get("pid", 0)),
        version=str(identity.get("version", "")),
        was_running=bool(reply["was_running"]),
    )


def start_at_boot(
    control: Control, workspace: Workspace, command: AgentCommand, module: str
) -> None:
    """Let the agent be started whenever the machine boots, until the sweep is published.

    Raises:
        CommandFailed: The machine has nothing that would do it.
    """
    request = _request(workspace, command, module, workspace.agent)
    # a proxy may have a password in its address, and this is written to a file
    request["keep"] = [name for name in command.kept if "proxy" not in name.lower()]
    try:
        control.request("boot_install", name=workspace.sweep_id, **request)
    except CommandFailed as error:
        raise CommandFailed(
            f"The sweep cannot go on by itself after a reboot ('resume_on_boot'). {error}",
            argv=error.argv,
            exit_status=error.exit_status,
        ) from error


def _request(
    workspace: Workspace, command: AgentCommand, module: str, place: Place
) -> dict[str, Any]:
    path = str(workspace.path)
    return {
        "argv": [command.python, "-m", module, path],
        "cwd": path,
        "env": {**command.variables, COOKIE: path},
        "keep": list(command.kept),
        "log": str(place.log),
    }
