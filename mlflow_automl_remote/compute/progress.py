"""What a person is told while a target is being made ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["connect", "environment", "upload", "start"]

UPDATE_S: Final = 0.2
"""Between two reports of the same transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One piece of news.

    Attributes:
        stage: What is being done.
        text: One line for a person.
        fraction: How much of this step is done, from 0 to 1; None when that is not known.
        is_detail: Whether it only says how far the step is that was told before.
    """

    stage: Stage
    text: str
    fraction: float | None = None
    is_detail: bool = False


OnProgress = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Tell nobody."""


def megabytes(n_bytes: int) -> str:
    """Write a size as people read it."""
    return f"{n_bytes / 1e6:.1f} MB"


class TransferMeter:
    """Counts the bytes of a transfer and reports them now and then.

    Args:
        on_progress: Gets the reports.
        stage: Of every report.
        what: Begins every text, such as "Sending the project".
        total_bytes: None when it is not known.
    """

    def __init__(
        self, on_progress: OnProgress, stage: Stage, what: str, total_bytes: int | None = None
    ) -> None:
        self._on_progress = on_progress
        self._stage: Stage = stage
        self._what = what
        self._total_bytes = total_bytes
        self._next_s = 0.0
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        """Count bytes that were sent."""
        self.n_bytes += n_bytes
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + UPDATE_S
            self._report(is_detail=True)

    def finish(self) -> None:
        """Report the end."""
        self._total_bytes = self.n_bytes
        self._report(is_detail=False)

    def _report(self, *, is_detail: bool) -> None:
        total, fraction = "", None
        if self._total_bytes:
            total = f" of {megabytes(self._total_bytes)}"
            fraction = min(1.0, self.n_bytes / self._total_bytes)
        text = f"{self._what}: {megabytes(self.n_bytes)}{total}"
        self._on_progress(
            Progress(stage=self._stage, text=text, fraction=fraction, is_detail=is_detail)
        )
