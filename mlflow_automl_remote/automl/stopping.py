"""When a search ends before its last iteration: its score is reached, or nothing gets better."""

from __future__ import annotations

from typing import Final

from mlflow_automl_remote.config import AutoMLConfig

LANDMARKS: Final = 20
"""Iterations that never count as being without progress: the portfolio."""


class Stopping:
    """Looks at scores as they come, and says why the search is over.

    Progress is counted in the order of numbers, up to the first iteration that has not ended, so
    that it does not depend on which of two iterations ends first.

    Args:
        config: The settings.
    """

    def __init__(self, config: AutoMLConfig) -> None:
        self._config = config
        self._sign = 1.0 if config.greater_is_better else -1.0
        self._scores: dict[int, float | None] = {}
        self.exit_reason = ""
        """Why no iteration is needed any more, those that run included; empty while they are."""

    def see(self, number: int, label: str, score: float | None) -> None:
        """Take notice of an iteration that has ended; None if it has no score."""
        self._scores[number] = score
        goal = self._config.experiment_exit_score
        if goal is None or score is None or self.exit_reason:
            return
        if self._sign * score >= self._sign * goal:
            self.exit_reason = (
                f"Iteration {number} ({label}) reached experiment_exit_score: "
                f"{self._config.primary_metric} is {score:g}, and {goal:g} was asked for."
            )

    def reason(self) -> str:
        """Say why no more iterations begin; empty while they do."""
        if self.exit_reason or not self._config.enable_early_stopping:
            return self.exit_reason
        best: float | None = None
        best_at = number = 0
        while number in self._scores:
            score = self._scores[number]
            if score is not None and (best is None or self._sign * score > self._sign * best):
                best, best_at = score, number
            number += 1
        patience = self._config.early_stopping_n_iters
        if number < LANDMARKS + patience or number - 1 - best_at < patience:
            return ""
        return (
            f"No progress for {number - 1 - best_at} iterations: the best score is that of "
            f"iteration {best_at}."
        )
