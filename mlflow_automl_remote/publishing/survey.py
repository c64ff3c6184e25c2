"""Asks the store what it has of a sweep, and leaves of what is there twice only the earliest."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_automl_remote.journal.replay import Iteration
from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing import mapping
from mlflow_automl_remote.publishing.calls import RunDeleted
from mlflow_automl_remote.publishing.children import Child
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.sink import KnownModel, KnownRun, Sink

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the store has of the iterations of a sweep.

    Attributes:
        children: By key.
        deleted: Runs that a person has deleted, by key; they are not created again.
    """

    children: dict[str, Child]
    deleted: dict[str, str]


def survey(sink: Sink, facts: ParentFacts, experiment_id: str, key: str | None = None) -> Survey:
    """Read all iterations of a sweep from the store, or the one with a key.

    Of runs with the same key the earliest stays, of models the first that is ready; the others are
    deleted.
    """
    runs = sink.children(experiment_id, key)
    runs = [run for run in runs if run.tags.get(names.KEY, "").startswith(f"{facts.sweep_id}/")]
    kept: dict[str, KnownRun] = {}
    for run in runs:
        if run.is_deleted:
            continue
        if run.tags[names.KEY] in kept:
            _LOGGER.warning("Run %s is there twice; the later one is deleted.", run.run_id)
            sink.delete_run(run.run_id)
        else:
            kept[run.tags[names.KEY]] = run
    models = _models(sink, kept, sink.models(experiment_id, key) if runs else ())
    children = {key: Child(run=run, model=models.get(key)) for key, run in kept.items()}
    deleted = {run.tags[names.KEY]: run.run_id for run in runs if run.is_deleted}
    return Survey(
        children=children,
        deleted={key: run_id for key, run_id in deleted.items() if key not in kept},
    )


def find(sink: Sink, facts: ParentFacts, experiment_id: str, key: str) -> Child | None:
    """Look for the run of a key once more; None when it has to be created.

    Raises:
        RunDeleted: A person has deleted it.
    """
    found = survey(sink, facts, experiment_id, key)
    if key in found.deleted:
        raise RunDeleted(f"Its run {found.deleted[key]} was deleted, and is not created again.")
    return found.children.get(key)


def as_published(child: Child, iteration: Iteration) -> Child:
    """Note what of an iteration the store is known to have: all of it, or nothing for sure.

    The status is what is written last, so a run that has it has everything.
    """
    run = child.run
    is_whole = (
        run.status == mapping.child_status(iteration)
        and run.tags.get(names.STATE) == iteration.state.value
        and run.tags.get(names.ATTEMPT) == str(iteration.attempt)
        and run.tags.get(names.CHARTS) == mapping.charts_tag(iteration)
        and (not iteration.state.is_finished or run.end_time_ms == iteration.ended_ms)
    )
    return Child(run=run, model=child.model, iteration=iteration if is_whole else None)


def _models(
    sink: Sink, runs: dict[str, KnownRun], models: Iterable[KnownModel]
) -> dict[str, KnownModel]:
    kept: dict[str, KnownModel] = {}
    for model in models:
        key = model.tags.get(names.KEY, "")
        run = runs.get(key)
        if run is None:
            continue
        if key in kept or model.source_run_id != run.run_id:
            _LOGGER.warning("Model %s is there twice; the later one is deleted.", model.model_id)
            sink.delete_model(model.model_id)
        else:
            kept[key] = model
    return kept
