"""Carries out the sweep of a workspace, from its settings to the last event of its journal.

The engine is imported where it is first needed, while a child process is busy with something else.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote import __version__
from mlflow_automl_remote.agent import disk
from mlflow_automl_remote.agent.charts import (
    CHARTS_TIMEOUT_S,
    ChartsRequest,
    draw_charts,
    save_charts,
)
from mlflow_automl_remote.agent.cluster import Cluster
from mlflow_automl_remote.agent.control import CONTINUE, Control
from mlflow_automl_remote.agent.conversion import data_loaded
from mlflow_automl_remote.agent.explaining import Explaining
from mlflow_automl_remote.agent.inbox import Inbox, take
from mlflow_automl_remote.agent.logs import set_up_logs
from mlflow_automl_remote.agent.machine import sweep_started
from mlflow_automl_remote.agent.models import load_model, save_model
from mlflow_automl_remote.agent.recorder import Recorder, folder_of
from mlflow_automl_remote.agent.sampling import OfNodes, sampled
from mlflow_automl_remote.automl.executor import MOST_LOST, Call, Capacity, Executor, Finished
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import WarmStart
from mlflow_automl_remote.errors import SweepFailed
from mlflow_automl_remote.journal.events import (
    ChartsDrawn,
    SweepFinished,
    SweepInterrupted,
    SweepResumed,
)
from mlflow_automl_remote.states import IterationState, SweepStatus

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.proposals import PastIteration, Proposer
    from mlflow_automl_remote.automl.template import Template

BEGIN_LIMIT_S: Final = 600.0
"""How long an agent works without its client's word that the run is made."""

_PROPOSERS: Final[Mapping[str, Proposer]] = {
    "optuna": "optuna",
    "ensemble": "ensemble",
    "warm_start": "warm_start",
}

_log = logging.getLogger(__name__)


class Agent:
    """One sweep in its workspace.

    Args:
        workspace: The sweep's folder.
        recorder: Where everything that happens is recorded.
        template: What iterations are forked from.
    """

    def __init__(self, workspace: Path, recorder: Recorder, template: Template) -> None:
        self._template = template
        self._workspace = workspace
        self._recorder = recorder
        self._control = Control(recorder)
        self._config = self._settings()
        self._ended_by = ""
        self._nodes: Callable[[], OfNodes] = dict
        recorder.n_models = self._config.n_models
        set_up_logs(self._config, workspace)

    def run(self) -> None:
        """Run the sweep to its last event; a finished sweep is left as it is.

        A full disk ends the agent, not the sweep: what has ended is kept, and the rest can be
        resumed.
        """
        try:
            self._run()
        except OSError as error:
            if not disk.is_full(error):
                raise
            self._interrupted(error)

    def _run(self) -> None:
        take(self._workspace / "inbox", CONTINUE, self._control.handle)
        if self._recorder.state.status.is_finished:
            _log.info("The sweep has ended before; explaining what was asked for since.")
            self._explain_afterwards()
            return
        self._begin()
        self._control.begins()
        inbox = Inbox(self._workspace / "inbox", self._control.handle)
        try:
            with sampled(self._recorder, self._workspace, lambda: self._nodes()):
                last = self._run_to_the_end()
        finally:
            inbox.close()
        self._recorder.record(last)
        _log.info("The sweep has ended: %s %s", last.status, last.reason)

    def _settings(self) -> AutoMLConfig:
        """Read the settings, with those that were changed when the sweep was continued."""
        config = AutoMLConfig.from_json((self._workspace / "settings.json").read_bytes())
        continuation = self._recorder.state.continuation
        if continuation is None:
            return config
        return AutoMLConfig.model_validate({**config.model_dump(), **continuation.settings})

    def _begin(self) -> None:
        state = self._recorder.state
        self._config = self._settings()
        (self._workspace / "published").unlink(missing_ok=True)
        if state.started is None:
            self._recorder.record(sweep_started(self._workspace.name, self._config))
        else:
            resumed = SweepResumed(attempt=state.attempt + 1, package_version=__version__)
            self._recorder.record(resumed)
        shutil.rmtree(self._workspace / "work", ignore_errors=True)
        disk.keep_reserve(self._workspace)
        disk.check(self._workspace)

    def _interrupted(self, error: OSError) -> None:
        """Throw away what is half-written, and say that there was no room for more."""
        shutil.rmtree(self._workspace / "work", ignore_errors=True)
        reason = f"The disk of {self._workspace} is full ({error.strerror}). Make room there."
        _log.error("The sweep is interrupted. %s", reason)
        if self._recorder.state.status.is_finished:
            return
        event = SweepInterrupted(reason=reason)
        try:
            self._recorder.record(event)
        except OSError:
            disk.give_reserve_back(self._workspace)
            self._recorder.record(event)

    def _run_to_the_end(self) -> SweepFinished:
        try:
            cluster = Cluster(self._workspace)
            with (
                self._unless_begun(),
                cluster.hosting(),
                LocalExecutor(self._template) as executor,
            ):
                self._load_data(executor)
                with cluster.searching(executor) as chosen:
                    self._nodes = chosen.usage
                    self._search(chosen)
                    if not self._control.is_stopped:
                        self._look_at_best(chosen)
        except SweepFailed as error:
            if not self._control.is_stopped:
                return self._finished(SweepStatus.FAILED, str(error))
        except Exception as error:  # the last edge: the person reads it on the run
            if disk.is_full(error):
                raise
            _log.exception("The sweep failed.")
            return self._finished(SweepStatus.FAILED, f"{type(error).__name__}: {error}")
        return self._verdict()

    @contextmanager
    def _unless_begun(self) -> Iterator[None]:
        """Stop after a while if the client has died before it could say that its run is made."""
        timer = threading.Timer(BEGIN_LIMIT_S, self._control.give_up_unless_begun)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _verdict(self) -> SweepFinished:
        """Say how a sweep has ended in which nothing went wrong but iterations."""
        if self._control.cancelled:
            return self._finished(SweepStatus.CANCELLED, "A person asked for it.")
        if self._control.is_given_up:
            return self._finished(
                SweepStatus.FAILED, "The client was lost before it had made the parent run."
            )
        if self._recorder.state.best is None:
            return self._finished(SweepStatus.FAILED, self._why_no_model())
        return self._finished(SweepStatus.COMPLETED, "")

    def _load_data(self, executor: Executor) -> None:
        """Load the data once; all iterations share it."""
        if self._recorder.state.data is not None:
            return
        from mlflow_automl_remote.automl.data_script import DataOrder, DataSummary, prepare_data

        order = DataOrder(
            config=self._config,
            project=self._workspace / "project",
            folder=self._workspace / "data",
        )
        begin = time.monotonic()
        call = Call(
            prepare_data,
            order,
            output_dir=self._workspace / "work" / "data",
            timeout_s=self._config.experiment_timeout_s,
        )
        meanwhile = partial(import_module, "mlflow_automl_remote.automl.sweep")
        finished = self._step(executor, call, meanwhile)
        if not isinstance(finished.value, DataSummary):
            if disk.failed_by_it(finished.state, finished.reason):
                disk.check(self._workspace)
            raise SweepFailed(f"The data could not be loaded: {self._why(finished)}")
        self._recorder.record(data_loaded(finished.value, duration_s=time.monotonic() - begin))

    def _why(self, finished: Finished) -> str:
        """Say why there is no data; at the limit, which setting that is."""
        if finished.state is not IterationState.TIMED_OUT:
            return finished.reason
        return (
            "it was not there when the time of the sweep (experiment_timeout_minutes, "
            f"{self._config.experiment_timeout_s:g} s) was up."
        )

    def _search(self, executor: Executor) -> None:
        from mlflow_automl_remote.automl.sweep import Sweep

        continuation = self._recorder.state.continuation
        sweep = Sweep(
            self._config,
            self._workspace / "data",
            self._workspace / "work",
            executor=executor,
            callback=self._recorder,
            save_model=save_model,
            load_model=load_model,
            save_charts=save_charts if self._config.charts == "all" else None,
            history=self._history(),
            find_output=lambda number: self._workspace / "artifacts" / folder_of(number),
            spent_s=self._spent_s(),
            earlier=continuation.earlier if continuation else (),
            warm_start=WarmStart.from_file(self._workspace / "warm_start.json"),
        )
        self._control.sweep_begins(sweep)
        self._ended_by = sweep.run().ended_by

    def _spent_s(self) -> float:
        """Give the seconds since the sweep began or was continued, pauses left out.

        Those in which no agent lived count too.
        """
        state = self._recorder.state
        begun_ms = state.continuation.time_ms if state.continuation else state.started_ms
        if begun_ms is None:
            return 0.0
        now_ms = state.paused_since_ms or _now_ms()
        return max(0.0, (now_ms - begun_ms - state.paused_ms) / 1000)

    def _history(self) -> list[PastIteration]:
        """Tell the engine what an earlier agent has done, and what it left undone."""
        from mlflow_automl_remote.automl.proposals import PastIteration, Proposal

        return [
            PastIteration(
                proposal=Proposal(
                    number=past.number,
                    scaler=past.scaler,
                    model=past.model,
                    params=past.params,
                    proposed_by=_PROPOSERS.get(past.proposed_by, "portfolio"),
                    source_run_id=past.source_run_id,
                ),
                state=past.state,
                score=past.score,
                standard_error=past.standard_error,
                predict_ms_per_row=past.predict_ms_per_row,
            )
            for past in self._recorder.state.iterations.values()
        ]

    def _look_at_best(self, executor: Executor) -> None:
        """Draw and explain the best iteration, as far as the settings ask for it."""
        if self._config.charts == "best":
            self._draw_best(executor)
        self._explain(executor, at_the_end=True)

    def _draw_best(self, executor: Executor) -> None:
        """Draw the charts of the best iteration; a failure is an event, never the sweep's."""
        best = self._recorder.state.best
        if best is None or any(file.path.endswith("/charts.html") for file in best.files):
            return
        from mlflow_automl_remote.automl.sweep import SAMPLE_NAME

        name = f"{folder_of(best.number)}/charts"
        sample = self._workspace / "work" / SAMPLE_NAME
        request = ChartsRequest(
            config=self._config,
            iteration_dir=self._workspace / "artifacts" / folder_of(best.number),
            data_dir=sample if sample.exists() else self._workspace / "data",
            output_dir=self._workspace / "work" / "charts",
            title=best.pipeline,
        )
        call = Call(
            draw_charts,
            request,
            output_dir=request.output_dir,
            reads=(request.iteration_dir, request.data_dir),
            timeout_s=CHARTS_TIMEOUT_S,
        )
        finished = self._step(executor, call)
        (request.output_dir / "iteration.log").unlink(missing_ok=True)
        files = self._recorder.keep(request.output_dir, name)
        self._recorder.record(
            ChartsDrawn(iteration=best.number, reason=finished.reason, files=files)
        )

    def _explain(self, executor: Executor, *, at_the_end: bool) -> None:
        """Explain what the settings want at the end, and what was asked for."""
        explaining = Explaining(
            self._workspace,
            self._config,
            self._recorder,
            partial(self._step, executor),
            n_jobs=self._n_jobs_to_explain(executor.capacity()),
        )
        numbers = explaining.at_the_end() if at_the_end else []
        while numbers := [*numbers, *self._control.take_to_explain()]:
            explaining.explain(numbers, lambda: self._control.is_stopped and at_the_end)
            numbers = []

    def _n_jobs_to_explain(self, capacity: Capacity) -> int:
        """Give all cores of the machine or those that an iteration may have; one of a cluster."""
        if capacity.is_reserved:
            return 1
        asked = self._config.max_cores_per_iteration or -1
        return min(asked, capacity.n_cores) if asked > 0 else capacity.n_cores

    def _explain_afterwards(self) -> None:
        """Explain what was asked for after the sweep had ended."""
        inbox = Inbox(self._workspace / "inbox", self._control.handle)
        inbox.look()
        try:
            with LocalExecutor(self._template) as executor:
                self._explain(executor, at_the_end=False)
        finally:
            inbox.close()

    def _step(
        self, executor: Executor, call: Call, meanwhile: Callable[[], object] = lambda: None
    ) -> Finished:
        """Run one thing in a process of its own, and wait for it."""
        for n_left in reversed(range(1 + MOST_LOST)):
            ticket = executor.submit(call)
            self._control.step_begins(partial(executor.cancel, ticket))
            try:
                meanwhile()
                finished = executor.wait_any(tickets=(ticket,))[0]
            finally:
                self._control.step_ends()
            if not finished.is_lost or n_left == 0:
                break
        return finished

    def _why_no_model(self) -> str:
        """Say in one line why no iteration has a model: the most frequent reason."""
        reasons = [past.reason for past in self._recorder.state.iterations.values()]
        if not reasons:
            return "No iteration was run."
        usual = max(set(reasons), key=reasons.count)
        return f"None of the {len(reasons)} iterations has a model. The usual reason: {usual}"

    def _finished(self, status: SweepStatus, reason: str) -> SweepFinished:
        log = self._workspace / "work" / "sweep"
        log.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copyfile(self._workspace / "agent.log", log / "agent.log")
        if self._config.debug_log is not None:
            with suppress(FileNotFoundError):
                shutil.copyfile(
                    self._workspace / self._config.debug_log, log / self._config.debug_log
                )
        return SweepFinished(
            status=status,
            reason=reason,
            ended_by=self._ended_by,
            best_iteration=self._recorder.state.best_iteration,
            files=self._recorder.keep(log, "sweep"),
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
