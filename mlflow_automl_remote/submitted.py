"""A sweep that was submitted, for who goes on working: asks, loads, shows, stops, continues it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote import continuing, terminal
from mlflow_automl_remote.background import Background
from mlflow_automl_remote.errors import AgentLost, ConfigurationError, IterationNotFound
from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.notebook import Details

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

    from mlflow_automl_remote.publishing.parent_run import ParentRun
    from mlflow_automl_remote.sweep_run import SweepHandle

ANSWER_S: Final = 20.0
"""How long a request waits for the agent's answer."""
PUBLISH_S: Final = 30.0
"""How long an iteration that has ended is waited for until it is in MLflow."""
SHOW_S: Final = 0.25
"""From one look of `wait` at what has happened to the next."""


class SweepRun:
    """A sweep that was submitted, whether it still runs or not.

    While it runs, a thread of this process follows it and publishes it to MLflow. The sweep does
    not need this process: when it ends, the sweep goes on, and `attach` finds it again.

    Args:
        handle: The sweep on its target.
        state: What is known of it already.

    Examples:
        A `run` that `submit` or `attach` has given:

        >>> len(run.table())
        2
        >>> run.model().predict([[0] * 64]).shape
        (1,)
        >>> run.cancel()
        'The sweep had ended before; nothing was changed.'
    """

    def __init__(self, handle: SweepHandle, state: SweepState | None = None) -> None:
        self._handle = handle
        self._background = Background(handle, state)
        if state is None or not state.status.is_finished:
            self._background.start()

    def __repr__(self) -> str:
        return f"SweepRun({self.run_id!r} on {self.target}: {self.status})"

    @property
    def run_id(self) -> str:
        """The parent run in MLflow."""
        return self._handle.run_id

    @property
    def target(self) -> str:
        """The machine that it runs on, in words."""
        return self._handle.facts.target

    @cached_property
    def url(self) -> str:
        """Where its run is in MLflow's UI."""
        from mlflow_automl_remote.publishing import parent_run

        return parent_run.where_to_look(self.run_id)

    @property
    def state(self) -> SweepState:
        """All that is known of it now, as one value."""
        return self._background.state

    @property
    def status(self) -> str:
        """RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED, or LOST when its agent has died."""
        if isinstance(self._background.error, AgentLost):
            return "LOST"
        if self.state.paused_since_ms is not None:
            return "PAUSED"
        return self.state.status.value

    def table(self) -> pd.DataFrame:
        """Give all iterations that have begun: pipeline, state, score, best so far, metrics.

        Returns:
            One row per iteration, by its number; a metric is NaN where there is none.
        """
        from mlflow_automl_remote.tables import iterations_table

        return iterations_table(self.state)

    def wait(self, *, show: bool = True, timeout_s: float | None = None) -> str:
        """Wait until it has ended and is published.

        Ctrl-C stops the waiting, not the sweep.

        Args:
            show: Print the table of iterations as they end.
            timeout_s: Wait no longer; None waits to the end.

        Returns:
            The status then.

        Raises:
            AgentLost: The agent died; `resume` goes on.
            PublishFailed: The tracking store did not answer.
            TransportError: The target does not let us in any more.
        """
        with terminal.view() as view:
            self._wait(view if show else None, timeout_s)
        if self._background.error is not None:
            raise self._background.error
        return self.status

    def _wait(self, view: terminal.SweepView | None, timeout_s: float | None) -> None:
        known, told, left_s = None, len(self._background.notices), timeout_s
        while left_s is None or left_s > 0:
            state = self._background.wait(known, SHOW_S)
            left_s = None if left_s is None else left_s - SHOW_S
            if view is not None:
                for line in self._background.notices[told:]:
                    view.say(line)
                view.state(state)
            told, known = len(self._background.notices), state
            if not self._background.is_following:
                break
        if view is not None and self.state.status.is_finished:
            for line in terminal.closing_lines(self.state):
                view.say(line)

    def child(self, iteration: int | None = None, *, metric: str | None = None) -> Run:
        """Give the MLflow run of an iteration, of those published so far.

        Args:
            iteration: Its number; None for the best.
            metric: The best by this metric; None for the primary one.

        Raises:
            ConfigurationError: Both are given, or no iteration has such a metric.
            IterationNotFound: There is no such iteration, or none has a model so far.
        """
        from mlflow_automl_remote.publishing import results

        if iteration is not None and metric is not None:
            raise ConfigurationError(
                "'iteration' and 'metric' cannot both be given: they name a model each. "
                f"Got {iteration!r} and {metric!r}."
            )
        deadline = time.monotonic() + PUBLISH_S
        while True:
            try:
                if iteration is not None:
                    return results.child(self._parent(), iteration)
                return results.best_child(self._parent(), metric)
            except IterationNotFound:
                if not self._is_coming(iteration) or time.monotonic() > deadline:
                    raise
            self._background.wait(self.state, SHOW_S)

    def _is_coming(self, iteration: int | None) -> bool:
        """Whether an iteration that is not in MLflow yet soon will be."""
        if not self._background.is_following:
            return False
        if iteration is None:
            return self.state.best is not None
        return iteration in self.state.iterations

    def children(self) -> list[Run]:
        """Give the MLflow runs of all iterations that are published so far, by number."""
        from mlflow_automl_remote.publishing import results

        return results.children(self._parent())

    def model(self, iteration: int | None = None, *, metric: str | None = None) -> Any:
        """Load a fitted model, also while the sweep runs: by default the best one so far.

        It is unpickled here: do so for targets that you trust.

        Args:
            iteration: Its number; None for the best.
            metric: The best by this metric; None for the primary one.

        Returns:
            A fitted scikit-learn pipeline.

        Raises:
            ConfigurationError: Both are given, or no iteration has such a metric.
            IterationNotFound: There is no such iteration, or it has no model.
        """
        from mlflow_automl_remote.publishing import results

        return results.load_model(self.child(iteration, metric=metric))

    def cancel(self, iteration: int | None = None) -> str:
        """Stop the sweep, or one iteration of it; what is finished is kept.

        Args:
            iteration: Its number; None for the whole sweep.

        Returns:
            What the request met, as a sentence.
        """
        if self.state.status.is_finished:
            what = "The sweep" if iteration is None else f"Iteration {iteration}"
            return f"{what} had ended before; nothing was changed."
        handled = self._handle.cancel(iteration, wait_s=ANSWER_S)
        return terminal.cancel_line(handled, self.run_id, iteration)

    def pause(self) -> str:
        """Begin no more iterations until `resume`; those that run go on to their end.

        Returns:
            What the request met, as a sentence.
        """
        return terminal.pause_line(self._handle.pause(wait_s=ANSWER_S), self.run_id)

    def resume(self) -> None:
        """Go on after a pause, or after its agent died; finished iterations are kept."""
        self._handle.resume()
        self._follow_again()

    def extend(
        self,
        iterations: int = 0,
        *,
        minutes: float | None = None,
        exit_score: float | None = None,
    ) -> None:
        """Go on with a sweep that has ended; see `continuing.continue_sweep`.

        Args:
            iterations: How many more.
            minutes: For the time from now on; None for as much as it had before.
            exit_score: At which it ends; None for none.

        Raises:
            ConfigurationError: It still runs, or a value is not allowed.
        """
        continuing.continue_sweep(
            self._handle, iterations=iterations, minutes=minutes, exit_score=exit_score
        )
        self._follow_again()

    def retry(self, iteration: int | None = None) -> None:
        """Run iterations that failed once more, when the sweep has ended.

        Args:
            iteration: Its number, also of one that was cancelled; None for all that failed.

        Raises:
            ConfigurationError: The sweep still runs, or there is nothing to retry.
        """
        continuing.retry(self._handle, iteration)
        self._follow_again()

    def _follow_again(self) -> None:
        if not self._background.is_following:
            self._background.start()

    def explain(self, iteration: int | None = None) -> str:
        """Explain the model of an iteration on the target, and publish the explanation.

        Args:
            iteration: Its number; None for the best.

        Returns:
            What came of it, in a few lines.
        """
        from mlflow_automl_remote import explanation_request

        found = explanation_request.explain_run(self.run_id, iteration)
        return "\n".join(terminal.explanation_lines(found, self.run_id))

    def show(self) -> None:
        """Show it in the output of the cell; it goes on growing while the sweep does."""
        from mlflow_automl_remote.notebook import display

        display.show(self)

    def log(self, iteration: int | None = None) -> str:
        """Read the log of the agent, or of an iteration, as far as it is written."""
        pieces = b"".join(self._handle.log(iteration))
        return terminal.clean(pieces.decode("utf-8", errors="replace"))

    def details(self, iteration: int) -> Details:
        """Give of an iteration its log, where its run is, and a picture of its charts."""
        from mlflow_automl_remote.publishing import results

        try:
            child = self.child(iteration)
        except IterationNotFound:
            return Details(log=self.log(iteration))
        picture, log = results.picture(child), results.log(child)
        if log is None:
            log = self.log(iteration)
        return Details(log=log, url=results.url(child), picture=picture)

    def watch(self, watcher: Callable[[SweepState], None]) -> Callable[[], None]:
        """Call a function with each new state, in another thread; give what ends that."""
        return self._background.watch(watcher)

    def close(self) -> None:
        """Stop following; the sweep goes on, and `attach` finds it again."""
        self._background.close()

    def _parent(self) -> ParentRun:
        from mlflow_automl_remote.publishing import parent_run

        return parent_run.find_parent(self.run_id)
