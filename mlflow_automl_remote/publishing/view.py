"""A sweep as note and leaderboard show it: the journal, and the runs and models it became."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.publishing.children import Child
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.mapping import settled


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One iteration in its place.

    Attributes:
        rank: From 1 for the best; None without a score.
        run_id: Its run in MLflow; empty when it has none.
        model_id: Its model in MLflow; empty when it has none.
    """

    rank: int | None
    iteration: Iteration
    run_id: str
    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A sweep and what became of it in MLflow.

    Attributes:
        children: The iterations in the store, by number.
        unpublished: Why iterations could not be published, by number.
    """

    state: SweepState
    facts: ParentFacts
    children: Mapping[int, Child]
    unpublished: Mapping[int, str]

    @property
    def primary_metric(self) -> str:
        """The name of the primary metric; `score` before it is known."""
        return "score" if self.state.started is None else self.state.started.primary_metric

    def rows(self) -> Iterator[Row]:
        """Give all iterations, the best first, those without a score last."""
        by_number = {one.number: one for one in settled(self.state)}
        for position, one in enumerate(self.state.ranked):
            child = self.children.get(one.number)
            yield Row(
                rank=position + 1 if one.score is not None else None,
                iteration=by_number[one.number],
                run_id=child.run.run_id if child else "",
                model_id=child.model.model_id if child and child.model else "",
            )
