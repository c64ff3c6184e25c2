"""Asks for more of a sweep that has ended: more iterations or time, or failed iterations anew."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote import compute, forwarding
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import ConfigurationError, ConnectionLost
from mlflow_automl_remote.following import POLL_S, JournalReader
from mlflow_automl_remote.states import IterationState

if TYPE_CHECKING:
    from mlflow_automl_remote.compute import Job
    from mlflow_automl_remote.journal.replay import SweepState
    from mlflow_automl_remote.sweep_run import SweepHandle

BEGIN_S: Final = 60.0
"""How long an agent that was started for it may take to begin the sweep anew."""
_RETRIED: Final = frozenset(IterationState) - {IterationState.RUNNING, IterationState.COMPLETED}


def continue_sweep(
    handle: SweepHandle,
    *,
    iterations: int = 0,
    minutes: float | None = None,
    exit_score: float | None = None,
) -> None:
    """Give a sweep more to do; what ended it before does not end it at once again.

    Args:
        handle: A sweep that has ended, or whose agent has died.
        iterations: How many more.
        minutes: For the time from now on; None for as much as it had before.
        exit_score: At which it ends; None for none.

    Raises:
        ConfigurationError: It still runs, or a value is not allowed.
        TransportError: The target cannot be used.
    """
    if iterations < 0:
        raise ConfigurationError(
            f"'iterations' must be how many more are wanted. Got {iterations} instead."
        )
    _ask(handle, iterations=iterations, minutes=minutes, exit_score=exit_score, again=None)


def retry(handle: SweepHandle, iteration: int | None = None) -> None:
    """Run iterations without a model once more, under their numbers.

    Args:
        handle: A sweep that has ended, or whose agent has died.
        iteration: Its number; None for all of them.

    Raises:
        ConfigurationError: It still runs, or there is nothing to retry.
        TransportError: The target cannot be used.
    """
    _ask(handle, iterations=0, minutes=None, exit_score=None, again=(iteration,))


def _ask(
    handle: SweepHandle,
    *,
    iterations: int,
    minutes: float | None,
    exit_score: float | None,
    again: tuple[int | None] | None,
) -> None:
    with handle.connection() as connection:
        job = connection.job(handle.facts.sweep_id)
        reader = JournalReader()
        chunk = reader.read(job)
        while chunk.is_full:
            chunk = reader.read(job)
        state = reader.state
        if not state.status.is_finished and chunk.liveness is not compute.Liveness.DEAD:
            raise ConfigurationError(
                "The sweep still runs. Wait for its end or cancel it; then it can be continued."
            )
        request_id = job.request(
            {
                "action": "continue",
                "settings": _changes(state, iterations, minutes, exit_score),
                "again": _numbers(state, again[0]) if again is not None else [],
            }
        )
        connection.bring_hosts(job)
        connection.start(job)
        _wait_for_begin(job, reader, request_id)
        forwarding.let_publish(connection, job, handle.run_id, handle.facts)


def _changes(
    state: SweepState, iterations: int, minutes: float | None, exit_score: float | None
) -> dict[str, object]:
    """Give the settings that are to be others, once it is known that they are allowed."""
    if state.started is None:
        return {}
    settings = dict(state.started.settings)
    changes: dict[str, object] = {
        "iterations": int(str(settings["iterations"])) + iterations,
        "experiment_exit_score": exit_score,
        "enable_early_stopping": False,
    }
    if minutes is not None:
        changes["experiment_timeout_minutes"] = minutes
    AutoMLConfig.from_json(json.dumps({**settings, **changes}))
    return changes


def _numbers(state: SweepState, iteration: int | None) -> list[int]:
    failed = [one.number for one in state.iterations.values() if one.state in _RETRIED]
    if iteration is None and failed:
        return [
            number
            for number in failed
            if state.iterations[number].state is not IterationState.CANCELLED
        ]
    if iteration in failed:
        return [iteration]
    what = "No iteration" if iteration is None else f"Iteration {iteration}"
    raise ConfigurationError(
        f"{what} of the sweep has ended without a model: there is nothing to retry."
    )


def _wait_for_begin(job: Job, reader: JournalReader, request_id: str) -> None:
    """Wait until the sweep runs again: whoever follows it then does not see its old end."""
    deadline = time.monotonic() + BEGIN_S
    while time.monotonic() < deadline:
        continuation = reader.state.continuation
        if continuation is not None and request_id in continuation.request_ids:
            return
        chunk = reader.read(job, POLL_S)
        if not chunk.data and chunk.liveness is compute.Liveness.DEAD:
            break
    raise ConnectionLost("The agent did not begin the sweep anew. See its log.")
