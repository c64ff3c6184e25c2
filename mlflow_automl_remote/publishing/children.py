"""Publishes iterations: for each of them one run, with its model, and never a second one."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    ExplanationFinished,
    ExplanationsCompared,
)
from mlflow_automl_remote.journal.replay import Iteration
from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing import mapping
from mlflow_automl_remote.publishing.explained import paragraph
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.model_folder import adopt, stage
from mlflow_automl_remote.publishing.sink import (
    DatasetRef,
    KnownModel,
    KnownRun,
    Sink,
    metrics_of,
)
from mlflow_automl_remote.publishing.text import one_line
from mlflow_automl_remote.states import IterationState

Fetch: TypeAlias = Callable[[Sequence[ArtifactFile], Path], Path]
"""Brings files, verified, into a folder under their paths, and gives the folder they are in."""


class Files:
    """The files of a sweep, one request at a time: what brings them need not be thread-safe."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()

    def bring(self, files: Sequence[ArtifactFile], folder: Path) -> Path:
        """Bring files into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            return self._fetch(files, folder) if files else folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An iteration as the store has it.

    Attributes:
        iteration: What of the iteration is published; None when nothing is known to be.
    """

    run: KnownRun
    model: KnownModel | None = None
    iteration: Iteration | None = None


def remembered(child: Child) -> Child:
    """Leave out what is not asked for again of a whole, completed child: of thousands it adds up.

    Params of the others are kept: if they run again, they must not get other values.
    """
    one = child.iteration
    if one is None or one.state is not IterationState.COMPLETED:
        return child
    explained = child.run.tags.get(names.EXPLANATION)
    tags = {names.EXPLANATION: explained} if explained else {}
    model = replace(child.model, tags={}) if child.model else None
    return replace(child, run=replace(child.run, params={}, tags=tags), model=model)


class ChildPublisher:
    """Brings the run of one iteration up to date; one call at a time for one iteration."""

    def __init__(self, sink: Sink, files: Files, facts: ParentFacts, parent: KnownRun) -> None:
        self._sink = sink
        self._files = files
        self._facts = facts
        self._parent = parent

    def create(self, iteration: Iteration) -> Child:
        """Create the run of an iteration that has none."""
        tags = mapping.child_tags(iteration, self._facts) | self._inherited()
        run = self._sink.create_run(
            self._parent.experiment_id,
            mapping.child_name(iteration),
            iteration.started_ms,
            tags | {names.PARENT_RUN_ID: self._parent.run_id},
        )
        return Child(run=run)

    def update(self, child: Child, iteration: Iteration, dataset: DatasetRef | None) -> Child:
        """Make up the difference between an iteration's run and the journal.

        Raises:
            ArtifactRefused: A file of the iteration is not what the journal says.
        """
        if iteration.state.is_finished:
            return self._finish(child, iteration, dataset)
        run = child.run
        tags = mapping.child_tags(iteration, self._facts)
        self._sink.log(run.run_id, tags=changed(run.tags, tags))
        if run.status != mapping.child_status(iteration):
            self._sink.reopen(run.run_id)
        run = replace(run, tags={**run.tags, **tags}, status=mapping.child_status(iteration))
        return replace(child, run=run, iteration=iteration)

    def explain(self, child: Child, explanation: ExplanationFinished) -> Child:
        """Add an explanation, or why there is none, to the run of the explained iteration."""
        run = child.run
        with tempfile.TemporaryDirectory(prefix="automl-remote-") as temporary:
            folder = Path(temporary, "upload")
            folder.mkdir()
            lay_out_explanation(self._files, explanation, Path(temporary, "fetched"), folder)
            self._sink.log_files(run.run_id, folder)
        tags = {
            names.NOTE: paragraph(explanation),
            names.EXPLANATION: mapping.explanation_tag(explanation),
        }
        self._sink.log(run.run_id, tags=tags)
        return replace(child, run=replace(run, tags={**run.tags, **tags}))

    def _finish(self, child: Child, iteration: Iteration, dataset: DatasetRef | None) -> Child:
        """Publish an ended iteration; its status comes last and says that the rest is there."""
        run = child.run
        params = mapping.child_params(iteration)
        with tempfile.TemporaryDirectory(prefix="automl-remote-") as temporary:
            model = self._publish_model(child, iteration, mapping.shown(params), Path(temporary))
            self._publish_files(run, iteration, mapping.too_long(params), Path(temporary))
        if dataset is not None and not run.has_dataset:
            self._sink.log_dataset(run.run_id, dataset)
        tags = mapping.child_tags(iteration, self._facts)
        model_id = model.model_id if model else None
        points = mapping.child_points(iteration)
        self._sink.log(
            run.run_id,
            metrics=metrics_of(points, model_id=model_id, dataset=dataset),
            params=missing(run.params, mapping.shown(params)),
            tags=changed(run.tags, tags),
        )
        self._sink.terminate(run.run_id, mapping.child_status(iteration), iteration.ended_ms)
        run = replace(run, tags={**run.tags, **tags}, status=mapping.child_status(iteration))
        return Child(run=run, model=model, iteration=iteration)

    def _publish_model(
        self, child: Child, iteration: Iteration, params: Mapping[str, str], temporary: Path
    ) -> KnownModel | None:
        files, model = mapping.model_files(iteration), child.model
        if not files or (model and model.is_ready and model.model_id in child.run.model_ids):
            return model
        source = self._files.bring(files, temporary / "fetched-model")
        if model is None:
            model = self._sink.create_model(
                child.run,
                tags=mapping.child_tags(iteration, self._facts) | self._inherited(),
                params=params,
                kind=one_line(iteration.model),
            )
        if model.model_id not in child.run.model_ids:
            self._sink.link_model(child.run.run_id, model.model_id)
        folder = temporary / "model"
        stage(files, source, folder, iteration.model_path or "")
        adopt(folder, model_id=model.model_id, run_id=child.run.run_id, location=model.location)
        self._sink.log_model_files(model.model_id, folder)
        self._sink.finalize_model(model.model_id)
        return replace(model, is_ready=True)

    def _publish_files(
        self, run: KnownRun, iteration: Iteration, long: Mapping[str, str], temporary: Path
    ) -> None:
        files = mapping.child_files(iteration)
        source = self._files.bring(files, temporary / "fetched")
        folder = temporary / "upload"
        folder.mkdir()
        stage(files, source, folder, f"iterations/{iteration.number:03d}")
        for name, value in long.items():
            path = folder / mapping.param_artifact(name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(value, encoding="utf-8")
        self._sink.log_files(run.run_id, folder)

    def _inherited(self) -> dict[str, str]:
        """Give who and what started the sweep, for its runs and models to say so too."""
        return {
            name: value
            for name, value in self._parent.tags.items()
            if name == names.USER or name.startswith(names.SOURCE_PREFIX)
        }


def lay_out_explanation(
    files: Files,
    explanation: ExplanationFinished | ExplanationsCompared,
    temporary: Path,
    folder: Path,
) -> None:
    """Fetch the files of an explanation and lay them out below `explanation/`."""
    if explanation.files:
        source = files.bring(explanation.files, temporary)
        prefix = explanation.files[0].path.rpartition("/")[0]
        stage(explanation.files, source, folder / "explanation", prefix)


def missing(known: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Leave out what is there: MLflow refuses a batch with a param that has another value."""
    return {name: value for name, value in wanted.items() if name not in known}


def changed(known: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Leave out what is there already with the same value."""
    return {name: value for name, value in wanted.items() if known.get(name) != value}
