"""Runs the check of a project's data on a target, for `automl-remote check`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.errors import CommandFailed

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.launching import AgentCommand
    from mlflow_automl_remote.compute.workspace import Workspace

MODULE: Final = "mlflow_automl_remote.agent.check"
LIMIT_S: Final = 3600.0
"""For loading and checking data; a database behind `get_data()` is why it may take long."""
MAX_BYTES: Final = 4 * 1024 * 1024
LAST_LINES: Final = 15


def run_check(control: Control, command: AgentCommand, workspace: Workspace, label: str) -> bytes:
    """Check the data of a workspace, and return what the check wrote.

    Raises:
        CommandFailed: It came to no end; the message has the last lines of its output.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    argv = [command.python, "-m", MODULE, str(workspace.path)]
    status = control.request(
        "run",
        on_frame=lambda frame: last.append(str(frame.get("line", ""))),
        argv=argv,
        env=dict(command.variables),
        timeout_s=LIMIT_S,
    )[0]["status"]
    if status != 0:
        words = "\n".join(last)
        raise CommandFailed(
            f"The check on {label} ended with status {status}. Its last words:\n{words}",
            argv=argv,
            exit_status=int(status),
        )
    path = str(workspace.path / "check.json")
    return control.request("read", paths=[path], folder=path, offset=0, limit=MAX_BYTES, wait_s=0)[
        1
    ]
