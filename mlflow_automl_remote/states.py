"""The states that an iteration and a sweep can be in, shared by the engine and the journal."""

from __future__ import annotations

from enum import StrEnum


class IterationState(StrEnum):
    """How far an iteration has come, or how it ended."""

    RUNNING = "RUNNING"
    """Begun, and not known to have ended."""
    COMPLETED = "COMPLETED"
    """Scored, and its model is saved."""
    FAILED = "FAILED"
    """The pipeline raised; the reason is the exception."""
    TIMED_OUT = "TIMED_OUT"
    """Killed at its own time limit or at that of the sweep: not an error of the pipeline."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """It asked for more memory than there was or `mem_in_mb` allows, and was ended for it."""
    CRASHED = "CRASHED"
    """Its process ended without an answer: a signal, or an exit in native code."""
    CANCELLED = "CANCELLED"
    """A person asked for it, or another iteration had reached `experiment_exit_score`."""

    @property
    def is_finished(self) -> bool:
        """Whether the iteration has ended, in whatever way."""
        return self is not IterationState.RUNNING


class SweepStatus(StrEnum):
    """How far a sweep has come, or how it ended."""

    RUNNING = "RUNNING"
    """Begun, and not known to have ended."""
    COMPLETED = "COMPLETED"
    """All iterations ended and at least one of them has a model."""
    FAILED = "FAILED"
    """It ended without a model; the reason says why."""
    CANCELLED = "CANCELLED"
    """A person asked for it; what was finished before is kept."""

    @property
    def is_finished(self) -> bool:
        """Whether the sweep has ended, in whatever way."""
        return self is not SweepStatus.RUNNING
