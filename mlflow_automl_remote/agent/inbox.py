"""Requests from outside: small files that a client renames into the inbox of the workspace.

They outlive the agent: what is asked for while none runs is done by the next one.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

POLL_S: Final = 0.2
"""How soon a request is seen."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked for, such as `cancel`, or `cancel_iteration` with a number.

    Attributes:
        settings: With `continue`: settings with other values from now on.
        again: With `continue`: iterations to run once more.
    """

    request_id: str
    action: str
    iteration: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    again: tuple[int, ...] = ()


class Inbox:
    """Watches a folder and hands each request to a function, once.

    Args:
        folder: The inbox; made when it is missing.
        handle: Called in the watcher's thread. The file is removed after it has returned, so it
            must be able to see a request twice.
    """

    def __init__(self, folder: Path, handle: Callable[[Request], None]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._handle = handle
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look a last time, then stop watching."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Hand over what is there now."""
        with self._lock:
            for path in sorted(self._folder.glob("*.json")):
                request = _read(path)
                try:
                    if request is not None:
                        self._handle(request)
                except OSError as error:  # it cannot be recorded now: it stays until it can
                    _log.warning("The request %s waits: %s", path.name, error)
                    continue
                path.unlink(missing_ok=True)

    def _watch(self) -> None:
        while True:
            stopping = self._stop.is_set()
            self.look()
            if stopping:
                return
            self._stop.wait(POLL_S)


def take(folder: Path, action: str, handle: Callable[[Request], None]) -> None:
    """Hand over the requests for one action that are there now, and leave all others."""
    for path in sorted(folder.glob("*.json")):
        request = _read(path)
        if request is not None and request.action == action:
            handle(request)
            path.unlink(missing_ok=True)


def _read(path: Path) -> Request | None:
    try:
        content = json.loads(path.read_bytes())
        iteration = content.get("iteration")
        return Request(
            request_id=path.stem,
            action=str(content["action"]),
            iteration=None if iteration is None else int(iteration),
            settings=dict(content.get("settings") or {}),
            again=tuple(int(number) for number in content.get("again") or ()),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("The request %s cannot be read: %s", path.name, error)
        return None
