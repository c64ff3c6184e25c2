"""What can be shown in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mlflow_automl_remote.journal.replay import SweepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is asked for when an iteration is clicked.

    Attributes:
        log: Of the iteration.
        url: Where its run is in MLflow's UI; empty before it is published.
        picture: Its charts as a PNG; empty if there are none.
    """

    log: str = ""
    url: str = ""
    picture: bytes = b""


class Shown(Protocol):
    """A sweep that tells of each of its states, and does what a person clicks."""

    @property
    def state(self) -> SweepState:
        """The sweep now."""

    @property
    def run_id(self) -> str:
        """Its parent run."""

    @property
    def url(self) -> str:
        """Where its run is in MLflow's UI."""

    def watch(self, watcher: Callable[[SweepState], None]) -> Callable[[], None]:
        """Call a function with each new state; give what ends that."""

    def details(self, iteration: int) -> Details:
        """Give of an iteration what is not in the state."""

    def cancel(self, iteration: int | None = None) -> str:
        """Stop the sweep or an iteration; give what that met, as a sentence."""
