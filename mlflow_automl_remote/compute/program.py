"""Runs a program of this package on a target to its end, and reads the one file that it writes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.errors import CommandFailed

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.launching import AgentCommand

LIMIT_S: Final = 3600.0
"""A database behind `get_data()`, or a model that predicts slowly, is why it may take long."""
MAX_BYTES: Final = 4 * 1024 * 1024
LAST_LINES: Final = 15


def run_program(
    control: Control, command: AgentCommand, module: str, folder: PurePosixPath, answer: str
) -> bytes:
    """Run `python -m MODULE FOLDER`, and return the file of the folder that it wrote.

    Raises:
        CommandFailed: It came to no end; the message has the last lines of its output.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    argv = [command.python, "-m", module, str(folder)]
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
            f"'{module}' on the target ended with status {status}. Its last words:\n{words}",
            argv=argv,
            exit_status=int(status),
        )
    return control.request(
        "read",
        paths=[str(folder / answer)],
        folder=str(folder),
        offset=0,
        limit=MAX_BYTES,
        wait_s=0,
    )[1]
