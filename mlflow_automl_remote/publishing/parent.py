"""Publishes the sweep itself: the parent run, its settings, best so far, note and leaderboard."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing import mapping
from mlflow_automl_remote.publishing.children import (
    Child,
    Files,
    changed,
    lay_out_explanation,
    missing,
)
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.leaderboard import to_csv, to_html
from mlflow_automl_remote.publishing.machine import machine_points
from mlflow_automl_remote.publishing.model_folder import stage
from mlflow_automl_remote.publishing.note import to_markdown
from mlflow_automl_remote.publishing.overview import documents, to_page
from mlflow_automl_remote.publishing.sink import DatasetRef, KnownRun, Sink, metrics_of
from mlflow_automl_remote.publishing.view import View

Journal: TypeAlias = Path | Callable[[], bytes]
"""The journal itself: a local copy of it, or what reads it."""

REFRESH_MS: Final = 5_000  # of journal time between two leaderboards
REFRESH_MS_PER_ITERATION: Final = 20  # so that a long leaderboard is written less often


class ParentPublisher:
    """Brings the run of the sweep up to date.

    Attributes:
        run: The run as the store is known to have it.
    """

    def __init__(
        self, sink: Sink, files: Files, facts: ParentFacts, run: KnownRun, journal: Journal | None
    ) -> None:
        self.run = run
        self._sink = sink
        self._files = files
        self._facts = facts
        self._journal = journal
        self._board_ms: int | None = None

    def begin(self, state: SweepState, dataset: DatasetRef | None) -> None:
        """Record the settings and the data, before any iteration is there.

        Who reads an iteration finds by the settings which is best. Of two runs that name new data
        at the same time MLflow refuses one.
        """
        settings = missing(self.run.params, mapping.parent_params(state))
        if settings:
            self._sink.log(self.run.run_id, params=settings)
            self.run = replace(self.run, params={**self.run.params, **settings})
        if dataset is not None and not self.run.has_dataset:
            self._sink.log_dataset(self.run.run_id, dataset)
            self.run = replace(self.run, has_dataset=True)

    def publish(
        self,
        state: SweepState,
        children: Mapping[int, Child],
        unpublished: Mapping[int, str],
    ) -> None:
        """Make up the difference between the sweep's run and the journal.

        Args:
            state: The sweep.
            children: Its iterations in the store, by number.
            unpublished: Why iterations could not be published, by number.
        """
        stamp = f"{state.n_events}/{len(children)}/{len(unpublished)}"
        is_over = state.status.is_finished
        status = mapping.parent_status(state)
        if is_over and self._has(status, stamp):
            return
        view = View(state=state, facts=self._facts, children=children, unpublished=unpublished)
        tags = self._tags(view)
        if is_over or self._is_due(state):
            self._publish_files(view)
            tags[names.NOTE] = to_markdown(view, self.run.experiment_id)
        if is_over:
            self._link_best(tags.get(names.BEST_MODEL_ID))
            tags[names.PUBLISHED] = stamp
        self._log(state, tags)
        self._set_status(state, status)

    def _has(self, status: str, stamp: str) -> bool:
        return self.run.status == status and self.run.tags.get(names.PUBLISHED) == stamp

    def _tags(self, view: View) -> dict[str, str]:
        state = view.state
        tags = mapping.parent_tags(state, self._facts)
        best = None if state.best_iteration is None else view.children.get(state.best_iteration)
        if best is not None:
            tags[names.BEST_RUN_ID] = best.run.run_id
        if best is not None and best.model is not None:
            tags[names.BEST_MODEL_ID] = best.model.model_id
        if state.explanation is not None:
            tags[names.EXPLANATION] = mapping.explanation_tag(state.explanation)
            tags[names.EXPLAINED_ITERATION] = str(state.explanation.iteration)
        return tags

    def _link_best(self, model_id: str | None) -> None:
        """Make the best model an output too: a run without one is shown as an evaluation."""
        if model_id is not None and model_id not in self.run.model_ids:
            self._sink.link_model(self.run.run_id, model_id)
            self.run = replace(self.run, model_ids=(*self.run.model_ids, model_id))

    def _log(self, state: SweepState, tags: Mapping[str, str]) -> None:
        run = self.run
        points = mapping.parent_points(state, _count(run.tags.get(names.N_FINISHED)))
        points += machine_points(state, _count(run.tags.get(names.N_SAMPLES)))
        self._sink.log(run.run_id, metrics=metrics_of(points), tags=changed(run.tags, tags))
        self.run = replace(run, tags={**run.tags, **tags})

    def _set_status(self, state: SweepState, status: str) -> None:
        if self.run.status == status and not state.status.is_finished:
            return
        if state.status.is_finished:
            # no earlier than its begin, which is by the client's clock
            ended_ms = max(state.ended_ms or 0, self.run.start_time_ms)
            self._sink.terminate(self.run.run_id, status, ended_ms)
        else:
            self._sink.reopen(self.run.run_id)
        self.run = replace(self.run, status=status)

    def _is_due(self, state: SweepState) -> bool:
        """Whether the journal has come far enough since the last leaderboard for another one."""
        if not state.finished:
            return False
        times = [one.ended_ms or one.started_ms for one in state.iterations.values()]
        now_ms = max(times)
        interval_ms = max(REFRESH_MS, REFRESH_MS_PER_ITERATION * len(times))
        if self._board_ms is not None and now_ms - self._board_ms < interval_ms:
            return False
        self._board_ms = now_ms
        return True

    def _publish_files(self, view: View) -> None:
        with tempfile.TemporaryDirectory(prefix="automl-remote-") as temporary:
            folder = Path(temporary, "upload")
            folder.mkdir()
            (folder / "leaderboard.html").write_text(to_html(view), encoding="utf-8")
            (folder / "overview.html").write_text(to_page(view), encoding="utf-8")
            (folder / "leaderboard.csv").write_text(to_csv(view), encoding="utf-8", newline="")
            if view.state.status.is_finished:
                self._lay_out_sweep(view.state, Path(temporary), folder)
            self._sink.log_files(self.run.run_id, folder)

    def _lay_out_sweep(self, state: SweepState, temporary: Path, folder: Path) -> None:
        sweep = folder / "sweep"
        sweep.mkdir()
        for path, text in documents(state).items():
            (folder / path).write_text(text, encoding="utf-8", newline="")
        source = self._files.bring(state.files, temporary / "fetched")
        stage(state.files, source, sweep)
        if self._journal is not None:
            journal = self._journal
            content = journal.read_bytes() if isinstance(journal, Path) else journal()
            (sweep / "journal.jsonl").write_bytes(content)
        if state.explanation is not None:
            fetched = temporary / "fetched-explanation"
            lay_out_explanation(self._files, state.explanation, fetched, folder)
        if state.comparison is not None:
            fetched = temporary / "fetched-comparison"
            lay_out_explanation(self._files, state.comparison, fetched, folder)


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
