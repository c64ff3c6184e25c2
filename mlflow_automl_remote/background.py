"""Follows a sweep in a thread, so that whoever has submitted it can go on working."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlflow_automl_remote.errors import AutoMLRemoteError
from mlflow_automl_remote.following import Listener
from mlflow_automl_remote.journal.replay import SweepState

if TYPE_CHECKING:
    from mlflow_automl_remote.sweep_run import SweepHandle


class Background:
    """The latest state of a sweep, and the thread that publishes it while this process lives.

    The thread may die with the process at any moment: what it has not published, whoever follows
    the sweep next does.

    Args:
        handle: The sweep.
        state: What is known of it already.

    Attributes:
        state: The sweep as its journal tells it so far; never changed, only replaced.
        error: Why it is not followed any more, or None.
        notices: Lines for a person, such as that the connection was lost.
    """

    def __init__(self, handle: SweepHandle, state: SweepState | None = None) -> None:
        self.state = state or SweepState()
        self.error: AutoMLRemoteError | None = None
        self.notices: list[str] = []
        self._handle = handle
        self._changed = threading.Condition()
        self._watchers: list[Callable[[SweepState], None]] = []
        self._is_wanted = False
        self._thread: threading.Thread | None = None

    @property
    def is_following(self) -> bool:
        """Whether the thread lives: the sweep goes on, or its end is being published."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Follow, from the begin of the journal; one thread at a time does."""
        self.close()
        self.error = None
        self._is_wanted = True
        self._thread = threading.Thread(
            target=self._follow, name=f"follow {self._handle.run_id}", daemon=True
        )
        self._thread.start()

    def wait(self, known: SweepState | None, limit_s: float) -> SweepState:
        """Wait until there is another state than the known one, or nobody follows any more."""
        deadline = time.monotonic() + limit_s
        with self._changed:
            while self.state is known and self.is_following:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            return self.state

    def watch(self, watcher: Callable[[SweepState], None]) -> Callable[[], None]:
        """Call a function with each new state, in the thread; give what ends that."""
        with self._changed:
            self._watchers.append(watcher)

        def end() -> None:
            with self._changed:
                if watcher in self._watchers:
                    self._watchers.remove(watcher)

        return end

    def close(self) -> None:
        """Stop following and wait for the thread, for as long as the target may take to answer."""
        self._is_wanted = False
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _follow(self) -> None:
        listener = Listener(
            on_state=self._take,
            on_notice=self.notices.append,
            is_wanted=lambda: self._is_wanted,
        )
        try:
            self._handle.follow(listener)
        except AutoMLRemoteError as error:
            self.error = error
        finally:
            self._take(self.state)

    def _take(self, state: SweepState) -> None:
        with self._changed:
            self.state = state
            watchers = list(self._watchers)
            self._changed.notify_all()
        for watcher in watchers:
            watcher(state)
