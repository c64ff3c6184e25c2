"""Takes the lock of a workspace, says so, and carries out its sweep."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from mlflow_automl_remote.agent.lifecycle import AlreadyRunning, alive
from mlflow_automl_remote.agent.logs import LOG_FORMAT

_log = logging.getLogger(__name__)


def main(workspace: Path) -> int:
    """Run the sweep of a workspace; return the exit status of the process.

    Everything that happens is in the journal: the status only says whether the agent got to write
    its last event.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    workspace = workspace.resolve()
    try:
        with alive(workspace):
            _run(workspace)
    except AlreadyRunning as error:
        _log.error("%s", error)
        return 3
    except Exception:  # noqa: BLE001 - the last edge: it must be readable in agent.log
        _log.exception("The agent ended early.")
        return 1
    return 0


def _run(workspace: Path) -> None:
    """Import what runs a sweep only now: whoever started the agent waits for its lock.

    The template of all iterations is forked as soon as that is done: one import serves both. What
    only iterations need is imported there while the data are loaded.
    """
    from mlflow_automl_remote.automl.template import PRELOAD, Template

    os.chdir(workspace / "project")
    template = Template.fork(PRELOAD, later=["mlflow_automl_remote.agent.preload"])

    from mlflow_automl_remote.agent.recorder import Recorder
    from mlflow_automl_remote.agent.runner import Agent
    from mlflow_automl_remote.journal.file import JournalWriter

    with JournalWriter(workspace / "journal.jsonl", now_ms=_now_ms) as journal:
        Agent(workspace, Recorder(journal, workspace / "artifacts"), template).run()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
