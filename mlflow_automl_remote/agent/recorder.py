"""Turns what the engine does into events: artifact first, event after."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote import choosing
from mlflow_automl_remote.agent import disk
from mlflow_automl_remote.agent.conversion import features_engineered
from mlflow_automl_remote.choosing import Scored
from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    Event,
    IterationFinished,
    IterationStarted,
    SearchPlanned,
)
from mlflow_automl_remote.journal.replay import SweepState, replay
from mlflow_automl_remote.states import IterationState

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.outcome import Outcome
    from mlflow_automl_remote.automl.plan import SearchPlan
    from mlflow_automl_remote.automl.proposals import Proposal
    from mlflow_automl_remote.journal.file import JournalWriter

_CHUNK_BYTES: Final = 1 << 20
MAX_LOG_BYTES: Final = 8 << 20
"""Of a log that is kept; of a longer one the beginning and, mostly, the end."""
_LOG_HEAD_BYTES: Final = 1 << 20


class Recorder:
    """Writes a sweep's artifacts and events, and keeps the state that they add up to.

    It is the engine's callback; requests are recorded from another thread.

    Args:
        journal: Where events go.
        artifacts: The folder that artifact paths are relative to.

    Attributes:
        n_models: How many of the best iterations have their model recorded; None for all. The
            others' models stay here for ensembles, are not among the files of their iteration,
            and so never travel.
    """

    def __init__(self, journal: JournalWriter, artifacts: Path) -> None:
        self._journal = journal
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self.state: SweepState = replay(journal.records)
        self.n_models: int | None = None

    def record(self, event: Event) -> None:
        """Append an event; its files must be complete on disk."""
        with self._lock:
            self.state = replay([self._journal.append(event)], self.state)

    def on_plan(self, plan: SearchPlan) -> None:
        """Record what the search will do."""
        self.record(
            SearchPlanned(
                models=plan.models,
                left_out=plan.left_out,
                ensembles=plan.ensembles,
                n_places=plan.n_places,
                n_threads=plan.n_threads,
                device=plan.device,
                validation=plan.validation,
                n_folds=plan.n_folds,
                n_test_rows=plan.n_test_rows,
                n_learn_rows=plan.n_learn_rows,
                notes=plan.notes,
                warm_start=plan.warm_start.summary,
            )
        )

    def on_iteration_start(self, proposal: Proposal) -> None:
        """Record that an iteration has begun."""
        known = self.state.iterations.get(proposal.number)
        self.record(
            IterationStarted(
                iteration=proposal.number,
                scaler=proposal.scaler,
                model=proposal.model,
                params=proposal.params,
                proposed_by=proposal.proposed_by,
                attempt=1 if known is None else known.attempt + 1,
                source_run_id=proposal.source_run_id,
            )
        )

    def on_iteration_end(self, outcome: Outcome) -> None:
        """Record how an iteration ended, after all that it left is in its place.

        Raises:
            DiskFull: There is no room to go on. An iteration that failed by it is not recorded,
                so that it runs again, unless that has been tried before.
        """
        if disk.failed_by_it(outcome.state, outcome.reason):
            self._run_again_if_full(outcome)
        if outcome.state is not IterationState.COMPLETED:
            shutil.rmtree(outcome.output_dir / "model", ignore_errors=True)  # half-written
        name = folder_of(outcome.proposal.number)
        hidden = ("folds",) if self._keeps_model(outcome) else ("folds", "model")
        files = self.keep(outcome.output_dir, name, hidden=hidden)
        has_model = any(file.path == f"{name}/model/MLmodel" for file in files)
        self._record_features(outcome)
        self.record(
            IterationFinished(
                iteration=outcome.proposal.number,
                state=outcome.state,
                started_ms=outcome.started_at_ms,
                ended_ms=outcome.ended_at_ms,
                reason=outcome.reason,
                metrics=_numbers(outcome.metrics),
                fold_metrics={
                    metric: tuple(map(_number, values))
                    for metric, values in outcome.fold_metrics.items()
                },
                hyperparameters=outcome.hyperparameters,
                fit_s=outcome.fit_s,
                predict_s=outcome.predict_s,
                predict_ms_per_row=outcome.predict_ms_per_row,
                n_fits=outcome.n_fits,
                standard_error=_number(outcome.standard_error),
                test_metrics=_numbers(outcome.test_metrics),
                featurization=outcome.featurization,
                files=files,
                model_path=f"{name}/model" if has_model else None,
                node=outcome.node,
            )
        )
        disk.check(self._artifacts.parent)

    def _run_again_if_full(self, outcome: Outcome) -> None:
        begun = self.state.iterations.get(outcome.proposal.number)
        is_first = begun is None or begun.attempt == 1
        if is_first and disk.is_low(self._artifacts.parent):
            what = f"iteration {outcome.proposal.number} failed by it: {outcome.reason}"
            raise disk.DiskFull(what)

    def _record_features(self, outcome: Outcome) -> None:
        """Record what preprocessing makes of the columns, the first time that it is known."""
        mode = outcome.featurization
        if mode and mode not in self.state.featurization:
            self.record(features_engineered(mode, outcome.features))

    def _keeps_model(self, outcome: Outcome) -> bool:
        """Whether an iteration is among the best of those that have ended, itself included.

        An ensemble that is preferred is, whatever its place. For latency an iteration also is if
        no other is as good and as fast: it may become the best later, when the best score has
        another standard error.
        """
        state = self.state
        if self.n_models is None or state.started is None:
            return True
        score = outcome.metrics.get(state.started.primary_metric)
        if score is None or not math.isfinite(score):
            return False
        others = [one.scored for one in state.iterations.values() if one.scored is not None]
        sign = 1 if state.greater_is_better else -1
        if sum(sign * other.score >= sign * score for other in others) < self.n_models:
            return True
        new = Scored(
            number=outcome.proposal.number,
            score=score,
            standard_error=outcome.standard_error,
            predict_ms_per_row=outcome.predict_ms_per_row,
            is_ensemble=outcome.proposal.is_ensemble,
        )
        every, greater = (*others, new), state.greater_is_better
        if state.optimize_for == "latency":
            return new in choosing.front(every, greater_is_better=greater)
        return self.n_models > 0 and choosing.best(every, greater_is_better=greater) is new

    def keep(
        self, folder: Path, name: str, *, hidden: Collection[str] = ()
    ) -> tuple[ArtifactFile, ...]:
        """Make a folder durable, move it to its place among the artifacts, and list its files.

        Args:
            folder: What to move; nothing happens if it is not there.
            name: Its place.
            hidden: Folders directly in it whose files are moved, but neither listed nor synced.
        """
        if not folder.is_dir():
            return ()
        for log in folder.glob("*.log"):
            _shorten(log)
        found = tuple(
            _describe(path, folder, name)
            for path in _files(folder)
            if path.relative_to(folder).parts[0] not in hidden
        )
        place = self._artifacts / name
        if place.exists():  # left by an agent that died between the move and its event
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(place)
        _sync(place.parent)
        return found


def folder_of(iteration: int) -> str:
    """Name the folder of an iteration among the artifacts."""
    return f"iterations/{iteration:03d}"


def _files(folder: Path) -> list[Path]:
    """List regular files below a folder; links and the like are not artifacts."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _shorten(log: Path) -> None:
    """Leave the middle of a log out when it is too long, so that no print fills the store."""
    size = log.lstat().st_size
    if size <= MAX_LOG_BYTES or log.is_symlink():
        return
    with log.open("rb") as file:
        head = file.read(_LOG_HEAD_BYTES)
        file.seek(size - (MAX_LOG_BYTES - _LOG_HEAD_BYTES))
        tail = file.read()
    gap = b"\n[... %d bytes of this log were left out ...]\n" % (size - len(head) - len(tail))
    log.unlink()  # whoever still writes to it keeps its own
    log.write_bytes(head + gap + tail)


def _describe(path: Path, folder: Path, name: str) -> ArtifactFile:
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
        os.fsync(file.fileno())
    return ArtifactFile(
        path=f"{name}/{path.relative_to(folder).as_posix()}",
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
    )


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}
