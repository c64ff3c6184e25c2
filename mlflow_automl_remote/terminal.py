"""What a person sees of a sweep in a terminal: steps of the set-up, then the table of iterations.

The table is the one of Azure's "train with automated ML on a remote DSVM": rows appear as
iterations end, so they may be out of order. Below it one line says what is going on now.
"""

from __future__ import annotations

import atexit
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mlflow_automl_remote import live_table, promoting
from mlflow_automl_remote.errors import AutoMLRemoteError, SweepFailed
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.live_table import duration, milliseconds, score
from mlflow_automl_remote.states import IterationState, SweepStatus
from mlflow_automl_remote.sweep_run import Listener, SweepHandle

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_automl_remote.compute import Liveness
    from mlflow_automl_remote.explanation_request import Requested
    from mlflow_automl_remote.journal.events import RequestHandled

_REFRESH_PER_S: Final = 4


class Progress(Protocol):
    """A step of the set-up: which one, in words, and how much of it is done if that is known."""

    @property
    def text(self) -> str:
        """What is being done, in words."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1, or None."""

    @property
    def is_detail(self) -> bool:
        """Whether it only says how far a step is that was told before."""


class Detached(AutoMLRemoteError):
    """A person stopped following; the sweep goes on."""


class SweepView:
    """Shows one sweep as it is set up and as it goes on; a context manager.

    Args:
        console: Where to; a terminal gets a live line below the table, a file gets plain lines.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self._shown: set[tuple[int, int]] = set()
        self._headed = False
        self._was_explaining = False
        self._line: Callable[[], str] = str
        self._live = (
            Live(
                console=console,
                refresh_per_second=_REFRESH_PER_S,
                transient=True,
                get_renderable=lambda: Text(self._line(), style="dim", no_wrap=True),
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._show(str)
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        self._console.print(Text(clean(text)), soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Show a step of the set-up as a line, and how far it is in the live line."""
        if progress.is_detail:
            done = "" if progress.fraction is None else f"{progress.fraction:4.0%}  "
            self._show(lambda: f"{done}{clean(progress.text)}")
        else:
            self.say(progress.text)

    def state(self, state: SweepState) -> None:
        """Show what has ended since the last call, and what is going on."""
        if state.started is not None and not self._headed:
            self._headed = True
            for line in live_table.heads(state):
                self.say(line)
        for number in state.finished:
            self._row(state.iterations[number], state)
        if state.explaining is not None and not self._was_explaining:
            self._was_explaining = True
            self.say(f"Explaining the best model (iteration {state.explaining}) with SHAP.")
        self._show(lambda: self._now(state))

    def _show(self, line: Callable[[], str]) -> None:
        """Set the live line; it is asked for again at each refresh, since time goes on in it."""
        self._line = line
        if self._live is not None:
            self._live.refresh()

    def _row(self, iteration: Iteration, state: SweepState) -> None:
        if (iteration.number, iteration.attempt) in self._shown:
            return
        self._shown.add((iteration.number, iteration.attempt))
        for line in live_table.row(iteration, state):
            self.say(line)

    def _now(self, state: SweepState) -> str:
        running = [one for one in state.iterations.values() if not one.state.is_finished]
        total = state.started.settings.get("iterations") if state.started else None
        parts = [f"{len(state.finished)}/{total or '?'} iterations"]
        if running:
            parts.append("running " + ", ".join(f"{one.number} {one.pipeline}" for one in running))
        if state.explaining is not None:
            parts.append("explaining the best model")
        if state.best is not None:
            parts.append(f"best {score(state.best.score)}")
        elapsed = self._clock() - self._began
        parts.append(duration(elapsed))
        left = time_left(state, total)
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return "  ".join(clean(part) for part in parts)


@contextmanager
def view() -> Iterator[SweepView]:
    """Open a view on the terminal, or on whatever the output goes to."""
    # At exit Python looks for garbage among all that MLflow imported, for most of a second.
    atexit.register(gc.freeze)
    # Plain lines in a notebook too, where rich would make a picture of each.
    is_notebook = "ipykernel" in sys.modules
    console = Console(
        highlight=False, force_jupyter=False, force_terminal=False if is_notebook else None
    )
    with SweepView(console) as opened:
        yield opened


def listener(view: SweepView) -> Listener:
    """Let a view show what a sweep tells."""
    return Listener(on_progress=view.progress, on_state=view.state, on_notice=view.say)


def explaining_listener(view: SweepView) -> Listener:
    """Let a view show what the target of a sweep does for an explanation, without its table."""
    return Listener(on_progress=view.progress, on_notice=view.say)


def explanation_lines(found: Requested, run_id: str) -> list[str]:
    """Say what came of a request for an explanation."""
    what = "The best model" if found.iteration is None else f"Iteration {found.iteration}"
    if not found.is_known:
        return [f"{what} has no model to explain. See: automl-remote status {run_id}"]
    if found.finished is None:
        return [f"{what} will be explained when the search has ended."]
    ended = found.finished
    if ended.reason:
        return [clean(f"{what} has no explanation: {ended.reason}")]
    lines = [
        f"Explained iteration {ended.iteration} by {ended.explainer} in {ended.duration_s:.1f} s, "
        f"{ended.n_rows} of {ended.n_requested} rows; see 'explanation' in its run."
    ]
    lines += [f"  {one.share:6.1%}  {one.feature}  {one.effect}" for one in ended.findings]
    return [clean(line).rstrip() for line in lines]


def follow(sweep: SweepHandle, view: SweepView, *, take_over: bool = False) -> SweepState:
    """Follow a sweep to its end and say how it ended.

    Args:
        sweep: The sweep.
        view: Where it is shown.
        take_over: Whether to publish it even if another client does.

    Raises:
        SweepFailed: It ended without success; the message says why.
        Detached: Ctrl-C; the message says how to come back and how to cancel.
        PromotionRefused: It was to be promoted, and a gate was not passed.
        PromotionFailed: It was to be promoted, and whether is not known.
    """
    try:
        state = sweep.follow(listener(view), take_over=take_over)
    except KeyboardInterrupt as error:
        raise Detached(
            "Stopped following; the sweep goes on. "
            f"Follow it: automl-remote follow {sweep.run_id} - "
            f"cancel it: automl-remote cancel {sweep.run_id}"
        ) from error
    for line in closing_lines(state):
        view.say(line)
    if state.status is not SweepStatus.COMPLETED:
        raise SweepFailed(f"The sweep has ended as {state.status}: {state.reason}")
    for line in promoting.at_the_end(sweep, state, explaining_listener(view)):
        view.say(line)
    return state


def closing_lines(state: SweepState) -> list[str]:
    """Say how a sweep ended: status, counts of what failed, the best pipeline."""
    ended = [state.iterations[number] for number in state.finished]
    without = [one for one in ended if one.state is not IterationState.COMPLETED]
    lines = [f"The sweep has ended: {state.status}. {state.reason}".rstrip()]
    if without:
        counts = {one.state: 0 for one in without}
        for one in without:
            counts[one.state] += 1
        told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        lines.append(f"{len(without)} of {len(ended)} iterations have no model: {told}.")
    if state.best is not None and state.started is not None:
        lines.append(
            f"Best: iteration {state.best.number}, {state.best.pipeline}, "
            f"{state.started.primary_metric} {score(state.best.score)}{_pace(state)}."
        )
    if state.explanation is not None and state.explanation.reason:
        lines.append(f"The best model has no explanation: {state.explanation.reason}")
    return lines


def status_lines(state: SweepState, liveness: Liveness, target: str) -> list[str]:
    """Say where a sweep stands: agent, counts, best pipeline."""
    if state.status.is_finished:
        return closing_lines(state)
    total = state.started.settings.get("iterations") if state.started else "?"
    running = [one for one in state.iterations.values() if not one.state.is_finished]
    lines = [
        f"{'Running' if state.paused_since_ms is None else 'Paused'} on {clean(target)}: "
        f"the agent is {liveness.value}.",
        f"{len(state.finished)} of {total} iterations have ended, {len(running)} run.",
    ]
    lines += [f"  {one.number} {clean(one.pipeline)}" for one in running]
    if state.interrupted:
        lines.append(f"It is interrupted. {clean(state.interrupted)}")
    if state.explaining is not None:
        lines.append(f"The best model, iteration {state.explaining}, is being explained.")
    if state.best is not None:
        best = state.best
        lines.append(
            f"Best so far: iteration {best.number}, {best.pipeline}, {score(best.score)}."
        )
    return lines


def cancel_line(handled: RequestHandled | None, run_id: str, iteration: int | None) -> str:
    """Say what a request to cancel met."""
    what = "The sweep" if iteration is None else f"Iteration {iteration}"
    if handled is None:
        return (
            "The request is on the target; the agent has not answered yet. It is carried out when "
            f"the agent sees it. See: automl-remote status {run_id}"
        )
    return {
        "queued": f"{what} had not begun; it will not run.",
        "running": f"{what} was running; it is being stopped.",
        "finished": f"{what} had ended before; nothing was changed.",
    }.get(handled.outcome, f"{what} is not known to this sweep; nothing was changed.")


def pause_line(handled: RequestHandled | None, run_id: str) -> str:
    """Say what a request to pause met."""
    if handled is None:
        return (
            "The request is on the target; the agent has not answered yet. "
            f"See: automl-remote status {run_id}"
        )
    if handled.outcome == "running":
        return (
            "The sweep is paused: iterations that run go on to their end, and none begins. "
            f"Go on with: automl-remote resume {run_id}"
        )
    return "The sweep had ended before; nothing was changed."


def _pace(state: SweepState) -> str:
    known = live_table.is_timed(state) and state.best is not None and state.best.predict_ms_per_row
    return f", {milliseconds(known)} ms a row" if known else ""


def clean(text: str) -> str:
    """Take out control characters: text from a target must not drive the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def time_left(state: SweepState, total: object) -> float | None:
    """Estimate the seconds until the last iteration ends, from the pace of those that ended."""
    if not isinstance(total, int) or not state.finished or state.started_ms is None:
        return None
    ends = [state.iterations[number].ended_ms or 0 for number in state.finished]
    first = min(one.started_ms for one in state.iterations.values())
    pace_s = (max(ends) - first) / 1000 / len(ends)
    return max(0.0, pace_s * (total - len(ends)))
