"""A sweep from a client's side: submit it, follow it, find it again, stop it."""

from __future__ import annotations

import gc
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_automl_remote import compute, forwarding
from mlflow_automl_remote.errors import ConnectFailed, ConnectionLost, DataError
from mlflow_automl_remote.following import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    POLL_S,
    Follower,
    JournalReader,
    Listener,
    Notice,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data_script import DataSummary
    from mlflow_automl_remote.compute import Connection, Job, Liveness, Machine, TargetSpec
    from mlflow_automl_remote.config import AutoMLConfig
    from mlflow_automl_remote.journal.events import RequestHandled
    from mlflow_automl_remote.journal.replay import SweepState
    from mlflow_automl_remote.publishing import ParentFacts

__all__ = ["Listener", "Notice", "SweepHandle", "attach", "check", "submit"]


class SweepHandle:
    """A sweep that was submitted, whether it still runs or not.

    Args:
        run_id: The parent run.
        facts: Where the sweep is.
        target: The compute target that it runs on.
    """

    def __init__(self, run_id: str, facts: ParentFacts, target: TargetSpec) -> None:
        self.run_id = run_id
        self.facts = facts
        self._target = target

    def __repr__(self) -> str:
        return f"SweepHandle(run_id={self.run_id!r}, target={self.facts.target!r})"

    def follow(self, listener: Listener | None = None, *, take_over: bool = False) -> SweepState:
        """Publish the sweep as it goes on, until it has ended.

        A connection that is lost is made again for as long as it takes: a target that cannot be
        reached has not failed. While another client publishes the sweep, this one looks
        on.

        Args:
            listener: What to tell.
            take_over: Whether to publish even if another client does, which then looks on.

        Returns:
            The state at the end.

        Raises:
            AgentLost: The agent died without a last event.
            PublishFailed: The tracking store did not answer, even at the end.
            TransportError: The target refuses the connection.
        """
        listener = listener or Listener()
        with Follower(self.run_id, self.facts, listener, take_over=take_over) as follower:
            return self._follow(follower)

    def _follow(self, follower: Follower) -> SweepState:
        retry_s = FIRST_RETRY_S
        while follower.listener.is_wanted():
            try:
                with self._job() as job:
                    return follower.follow(job)
            except (ConnectionLost, ConnectFailed) as error:
                if not follower.has_news and isinstance(error, ConnectFailed):
                    raise
                retry_s = FIRST_RETRY_S if follower.progressed() else retry_s
                follower.listener.on_notice(
                    f"{error} The sweep goes on; trying again in {retry_s:.0f} s."
                )
                time.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        return follower.state

    def state(self) -> tuple[SweepState, Liveness]:
        """Read where the sweep stands now, and whether its agent lives."""
        with self._job() as job:
            reader = JournalReader()
            chunk = reader.read(job)
            while chunk.is_full:
                chunk = reader.read(job)
            return reader.state, chunk.liveness

    def cancel(self, iteration: int | None = None, *, wait_s: float = 0) -> RequestHandled | None:
        """Ask the sweep, or one iteration of it, to stop.

        The request is a file on the target: it is carried out even if the agent is down now.

        Args:
            iteration: Its number; None for the whole sweep.
            wait_s: How long to wait for the agent's answer.

        Returns:
            The agent's answer, or None when it has not answered in time.
        """
        return self._ask("cancel" if iteration is None else "cancel_iteration", iteration, wait_s)

    def pause(self, *, wait_s: float = 0) -> RequestHandled | None:
        """Ask the sweep to begin no more iterations until it is resumed.

        Those that run go on to their end; the time of the pause does not count.

        Args:
            wait_s: How long to wait for the agent's answer.

        Returns:
            The agent's answer, or None when it has not answered in time.
        """
        return self._ask("pause", None, wait_s)

    def _ask(self, action: str, iteration: int | None, wait_s: float) -> RequestHandled | None:
        with self._job() as job:
            request_id = job.request({"action": action, "iteration": iteration})
            return _answer(job, request_id, time.monotonic() + wait_s)

    def log(self, iteration: int | None = None, *, follow: bool = False) -> Iterator[bytes]:
        """Read the log of the agent or of an iteration, piece by piece.

        Args:
            iteration: Its number; None for the agent's log.
            follow: Go on until the agent has ended.
        """
        offset = 0
        with self._job() as job:
            while True:
                piece = job.log(offset, iteration=iteration)
                if piece:
                    offset += len(piece)
                    yield piece
                elif not follow or job.liveness() is not compute.Liveness.ALIVE:
                    return
                else:
                    time.sleep(FIRST_RETRY_S)

    def resume(self, listener: Listener | None = None) -> None:
        """Go on after a pause, or with a new agent after one that died.

        Finished iterations are kept.
        """
        with self.connection(listener) as connection:
            job = connection.job(self.facts.sweep_id)
            job.request({"action": "unpause"})
            connection.bring_hosts(job)
            connection.start(job)
            forwarding.let_publish(connection, job, self.run_id, self.facts)

    def join(self, host: TargetSpec, listener: Listener | None = None) -> None:
        """Let one more host take part in a sweep that runs on several.

        Raises:
            AutoMLRemoteError: It does not, or the host cannot be used.
        """
        from mlflow_automl_remote.publishing import parent_run

        with self.connection(listener) as connection:
            connection.join(host, connection.job(self.facts.sweep_id))
        if all(other.label != host.label for other in self._target.others):
            self._target = replace(self._target, others=(*self._target.others, host))
            self.facts = replace(
                self.facts,
                target=self._target.full_label,
                target_config=self._target.as_json(),
            )
            parent_run.remember(self.run_id, self.facts)

    @contextmanager
    def connection(self, listener: Listener | None = None) -> Iterator[Connection]:
        """Connect to the target."""
        listener = listener or Listener()
        with compute.connect(self._target, on_progress=listener.on_progress) as connection:
            yield connection

    @contextmanager
    def _job(self) -> Iterator[Job]:
        with self.connection() as connection:
            yield connection.job(self.facts.sweep_id)


def submit(
    config: AutoMLConfig,
    target: TargetSpec,
    project_dir: Path,
    *,
    open_run: Callable[[], str],
    listener: Listener | None = None,
    is_own_process: bool = True,
) -> SweepHandle:
    """Start a sweep on a target; return as soon as its agent has acknowledged.

    The agent is started first, and works while the parent run is made: a wrong host, key or
    project leaves no run behind. Where no run can be made the agent is killed; a client that dies
    in between leaves one that ends by itself.

    Args:
        config: The settings.
        target: Where.
        project_dir: The folder with the data script; it is sent to the target.
        open_run: Creates or finds the parent run, and gives its id.
        listener: What to tell on the way.
        is_own_process: Whether this process is there for the sweep alone, so that its garbage
            collector may be told what to leave aside.

    Raises:
        ConfigurationError: The data script or a data file is not in the project, or there is no
            such sweep or experiment as `warm_start_from` names.
        TransportError: The target cannot be used.
        EnvironmentSetupFailed: Its Python environment cannot be made.
    """
    listener = listener or Listener()
    compute.scan_project(project_dir, config.project_files)
    warm_start_json = _earlier(config, listener)
    importing = threading.Thread(target=_import_mlflow if is_own_process else _import_store)
    importing.start()
    sweep_id = uuid.uuid4().hex
    with compute.connect(target, on_progress=listener.on_progress) as connection:
        if not target.overcommit and not target.is_cluster:
            config = _bounded(config, connection.machine, listener)
        job = connection.submit(
            sweep_id,
            project_dir,
            config.to_json(),
            needed=config.project_files,
            warm_start_json=warm_start_json,
        )
        try:
            importing.join()
            from mlflow_automl_remote.publishing import ParentFacts

            facts = ParentFacts(
                sweep_id=sweep_id,
                target=target.full_label,
                target_config=target.as_json(),
                workspace=str(job.workspace.path),
            )
            run_id = _open_parent(open_run, facts, listener)
            forwarding.let_publish(connection, job, run_id, facts, is_new=True)
        except BaseException:
            connection.abandon(job)
            raise
        job.remember_run(run_id)
        job.request({"action": "begin"})
    return SweepHandle(run_id, facts, target)


def check(
    config: AutoMLConfig, target: TargetSpec, project_dir: Path, listener: Listener
) -> DataSummary:
    """Look the data of a project over on a target, without a sweep.

    Raises:
        DataError: The data cannot be loaded there, or cannot be trained on.
        TransportError: The target cannot be used.
        EnvironmentSetupFailed: Its Python environment cannot be made.
    """
    from pydantic import TypeAdapter, ValidationError

    from mlflow_automl_remote.automl.data_script import DataSummary

    with compute.connect(target, on_progress=listener.on_progress) as connection:
        found = connection.check_data(
            f"check-{uuid.uuid4().hex}", project_dir, config.to_json(), needed=config.project_files
        )
    try:
        result = json.loads(found)
        if "error" in result:
            raise DataError(str(result["error"]))
        return TypeAdapter(DataSummary).validate_python(result["summary"])
    except (ValidationError, KeyError, TypeError, RecursionError) as error:
        raise ConnectionLost(f"{target.label} answered something else than a check.") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise ConnectionLost(f"{target.label} answered something else than a check.") from error


def _bounded(config: AutoMLConfig, machine: Machine, listener: Listener) -> AutoMLConfig:
    """Let no more iterations run at a time than cores and memory of the target carry."""
    asked, most = config.max_concurrent_iterations, machine.max_concurrent
    if asked is None and most >= machine.n_cores:
        return config
    if asked is not None and asked <= most:
        return config
    if asked is not None:
        listener.on_notice(
            f"'max_concurrent_iterations' is {asked}, but {machine.n_cores} cores and "
            f"{machine.memory_bytes / 2**30:.1f} GiB of memory carry {most} at a time; no more "
            'than these are run, unless the backend config has "overcommit": true.'
        )
    return config.model_copy(update={"max_concurrent_iterations": most})


def _earlier(config: AutoMLConfig, listener: Listener) -> str | None:
    """Read in the tracking store what the sweep is to begin with, if it is to."""
    if config.warm_start_from is None:
        return None
    from mlflow_automl_remote.publishing import earlier

    found = earlier.find(config.warm_start_from, config, listener.on_notice)
    return None if found is None else found.to_json()


def _import_mlflow() -> None:
    """Import what takes seconds while the target is being made ready.

    What an import makes, stays: looking for garbage in it costs a quarter of the time.
    """
    gc.disable()
    try:
        _import_store()
    finally:
        gc.freeze()
        gc.enable()


def _import_store() -> None:
    from mlflow_automl_remote.publishing import parent_run

    parent_run.import_store()


def _open_parent(open_run: Callable[[], str], facts: ParentFacts, listener: Listener) -> str:
    from mlflow_automl_remote.publishing import parent_run

    run_id = open_run()
    parent_run.remember(run_id, facts)
    listener.on_notice(f"Parent run: {run_id}")
    listener.on_notice(f"In MLflow:  {parent_run.where_to_look(run_id)}")
    return run_id


def attach(run_id: str) -> SweepHandle:
    """Find a sweep by its parent run, from any machine that reaches the tracking store.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep.
    """
    from mlflow_automl_remote.publishing import parent_run

    found = parent_run.find_parent(run_id)
    return SweepHandle(
        run_id, found.facts, compute.TargetSpec.from_json(found.facts.target_config)
    )


def _answer(job: Job, request_id: str, deadline: float) -> RequestHandled | None:
    """Wait until the journal says what became of a request."""
    reader = JournalReader()
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        chunk = reader.read(job, min(left_s, POLL_S))
        for handled in reader.state.requests:
            if handled.request_id == request_id:
                return handled
        if left_s == 0 or (not chunk.data and chunk.liveness is compute.Liveness.DEAD):
            return None
