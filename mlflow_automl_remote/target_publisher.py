"""Publishes a sweep from the machine that it runs on, beside its agent, where that is asked for.

What it may use comes by standard input and stays in this process; the agent has none of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlflow_automl_remote.agent.lifecycle import AlreadyRunning, alive
from mlflow_automl_remote.agent.logs import LOG_FORMAT
from mlflow_automl_remote.compute import TargetSpec
from mlflow_automl_remote.errors import AutoMLRemoteError, PublishFailed
from mlflow_automl_remote.following import LONGEST_RETRY_S, Listener
from mlflow_automl_remote.publishing import ParentFacts, parent_run
from mlflow_automl_remote.sweep_run import SweepHandle

_IMPATIENT: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""While the server is reached for the first time: somebody waits for it."""

_log = logging.getLogger(__name__)


def main(workspace: Path) -> int:
    """Publish the sweep of a workspace to its end; give the exit status of the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    told = json.loads(sys.stdin.buffer.read())
    os.environ.update(told["variables"])
    run_id = str(told["run_id"])
    try:
        with _set(_IMPATIENT):
            parent_run.find_parent(run_id)
        with alive(workspace, "target-publisher"):
            root = workspace.absolute().parents[1]
            spec = TargetSpec(root=str(root))
            _publish(SweepHandle(run_id, ParentFacts(**told["facts"]), spec))
    except (AutoMLRemoteError, AlreadyRunning) as error:
        _log.error("%s", error)
        return 1
    return 0


def _publish(run: SweepHandle) -> None:
    """Publish to the end; a server that is down is waited for, as long as it takes."""
    listener = Listener(on_notice=lambda line: _log.info("%s", line))
    take_over = True  # from the client that has started this
    while True:
        try:
            run.follow(listener, take_over=take_over)
        except PublishFailed as error:
            _log.warning("%s It is tried again.", error)
            take_over = False
            time.sleep(LONGEST_RETRY_S)
        else:
            return


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
