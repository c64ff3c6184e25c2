"""The helpers that are open on a target, lent to one thread at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.control import Control

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.transport import Transport


class HelperPool:
    """Starts a helper where none is idle, and keeps it for the next request.

    Args:
        transport: To the target.
        python: Interpreter there.
    """

    def __init__(self, transport: Transport, python: str) -> None:
        self._transport, self._python = transport, python
        self._idle: list[Control] = []
        self._lock = threading.Lock()

    @property
    def n_idle(self) -> int:
        """How many are open, and not lent."""
        with self._lock:
            return len(self._idle)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Control]:
        """Lend a helper for one request after the other; a second thread gets a second helper."""
        with self._lock:
            control = self._idle.pop() if self._idle else None
        if control is None:
            control = Control(self._transport, self._python)
        try:
            yield control
        finally:
            if control.is_broken:
                control.close()
            else:
                with self._lock:
                    self._idle.append(control)

    def close(self) -> None:
        """End those that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for control in idle:
            control.close()
