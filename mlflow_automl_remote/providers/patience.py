"""Tells a person that something goes on for as long as a provider says nothing of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow_automl_remote.providers.base import Say

SAY_S: Final = 15.0


def silent(line: str) -> None:
    """Tell nobody."""


@contextlib.contextmanager
def told(say: Say, what: str) -> Iterator[None]:
    """Say what is being done, and every now and then for how long already."""
    say(what)
    done = threading.Event()

    def repeat() -> None:
        begin = time.monotonic()
        while not done.wait(SAY_S):
            say(f"{what}, for {time.monotonic() - begin:.0f} s")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
