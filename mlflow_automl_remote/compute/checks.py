"""What a look at a target comes to: a line each, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FEW_BYTES: Final = 2 * 1024**3
"""Free disk below which an environment, an image or a sweep hardly fits."""


class Verdict(StrEnum):
    """What a check came to."""

    OK = "ok"
    """Nothing to do."""
    WARNING = "warning"
    """A sweep runs, but something is missing or may get in its way."""
    PROBLEM = "problem"
    """A sweep does not run until this is remedied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's table.

    Attributes:
        name: What was looked at.
        verdict: What it came to.
        text: What was found.
        remedy: What to do about it; empty for nothing.
    """

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def _maker(verdict: Verdict) -> Callable[..., Check]:
    def make(name: str, text: str, remedy: str = "") -> Check:
        return Check(name=name, verdict=verdict, text=text, remedy=remedy)

    return make


ok = _maker(Verdict.OK)
warning = _maker(Verdict.WARNING)
problem = _maker(Verdict.PROBLEM)
