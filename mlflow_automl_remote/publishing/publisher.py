"""Reconciles MLflow with a journal: compares the two, and makes up the difference."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from mlflow import MlflowClient

from mlflow_automl_remote.errors import ArtifactRefused, PublishFailed
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing import mapping
from mlflow_automl_remote.publishing.calls import RunDeleted, StoreRefused, quiet
from mlflow_automl_remote.publishing.children import (
    Child,
    ChildPublisher,
    Fetch,
    Files,
    remembered,
)
from mlflow_automl_remote.publishing.facts import ParentFacts
from mlflow_automl_remote.publishing.parent import Journal, ParentPublisher
from mlflow_automl_remote.publishing.sink import DatasetRef, KnownRun, Sink
from mlflow_automl_remote.publishing.survey import as_published, find, survey

_LOGGER = logging.getLogger(__name__)

N_WRITERS: Final = (
    4  # runs written at a time to a server, which answers slowly; sqlite gains nothing
)


_DELETED: Final = "its run was deleted there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An iteration that could not be published, which does not keep the others from it.

    Attributes:
        iteration: As it was then; once it has changed it is tried again.
        run_id: Its run, if it has one.
    """

    iteration: Iteration
    run_id: str | None
    reason: str


@dataclass(slots=True, kw_only=True)
class _Store:
    """What this process knows the store to have."""

    parent: ParentPublisher
    writer: ChildPublisher
    children: dict[int, Child]
    to_search: set[int]
    """Iterations without a child that have to be looked for before one is created."""
    is_fresh: bool = True
    """Whether nothing but this process can have written since the store was asked."""
    n_created: int = 0


class Publisher:
    """Publishes a sweep; the only writer of its runs, models and artifacts.

    `publish` may be called at any time with any later state, also after it failed, by another
    process, or with a state that is published already: nothing is written a second time.

    Args:
        client: The store.
        parent_run_id: The run of the sweep.
        fetch: Brings files of the target, verified, into a folder, and gives the folder.
        facts: What is known of the sweep beside its journal.
        journal: The journal itself, to be kept with the run; a path, or what reads it.
    """

    def __init__(
        self,
        client: MlflowClient,
        parent_run_id: str,
        *,
        fetch: Fetch,
        facts: ParentFacts,
        journal: Journal | None = None,
    ) -> None:
        self._sink = Sink(client, parent_run_id, facts.sweep_id)
        self._files = Files(fetch)
        self._facts = facts
        self._journal = journal
        self._store: _Store | None = None
        self._published: SweepState | None = None
        self._quarantined: dict[int, Quarantined] = {}
        self._deleted: set[int] = set()
        self._is_deleted = False

    @property
    def is_deleted(self) -> bool:
        """Whether a person has deleted the sweep's run; nothing is published until it is back."""
        return self._is_deleted

    def publish(self, state: SweepState) -> None:
        """Make MLflow show a state of the sweep; nothing, as long as its run is deleted.

        Raises:
            PublishFailed: The store cannot be reached; publishing again goes on from there.
            TransportError: The target cannot be reached; publishing again goes on.
        """
        if state is self._published:
            return
        with quiet():
            try:
                self._publish(state)
                self._is_deleted = False
            except BaseException as error:
                self._store = None  # which of the calls were carried out is unknown: ask again
                self._is_deleted = self._was_deleted(error)
                if not self._is_deleted:
                    raise
                self._deleted.clear()  # deleted with it, they come back with it
        self._published = None if self._is_deleted else state

    def _was_deleted(self, error: BaseException) -> bool:
        """Whether the store refused a call because a person has deleted the sweep's run."""
        return isinstance(error, RunDeleted) or (
            isinstance(error, StoreRefused) and self._sink.parent().is_deleted
        )

    def close(self) -> None:
        """Say what could not be published.

        Raises:
            PublishFailed: Iterations were left out; the message names them and their runs.
        """
        if self._is_deleted or not self._quarantined:
            return
        left_out = "; ".join(
            f"iteration {number} (run {one.run_id or 'none'}): {one.reason}"
            for number, one in sorted(self._quarantined.items())
        )
        raise PublishFailed(
            f"{len(self._quarantined)} iterations could not be published: {left_out} "
            "All others are in MLflow; following the sweep again tries these once more."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()

    def _publish(self, state: SweepState) -> None:
        iterations = mapping.settled(state)
        if self._store is None:
            self._store = self._ask(iterations)
        store = self._store
        dataset = self._dataset(state)
        store.parent.begin(state, dataset)
        self._publish_children(store, iterations, dataset)
        if state.status.is_finished and store.n_created:
            self._store = store = self._ask(
                iterations
            )  # another process may have created some too
            self._publish_children(store, iterations, dataset)
        self._publish_explanations(store, state)
        store.is_fresh = False
        unpublished = {number: one.reason for number, one in self._quarantined.items()}
        unpublished |= dict.fromkeys(self._deleted, _DELETED)
        store.parent.publish(state, store.children, unpublished)

    def _ask(self, iterations: Sequence[Iteration]) -> _Store:
        run = self._parent()
        self._sink.show_as_training(run.experiment_id)
        found = survey(self._sink, self._facts, run.experiment_id)
        keys = {one.number: self._facts.key(one.number) for one in iterations}
        return _Store(
            parent=ParentPublisher(self._sink, self._files, self._facts, run, self._journal),
            writer=ChildPublisher(self._sink, self._files, self._facts, run),
            children={
                one.number: remembered(as_published(found.children[keys[one.number]], one))
                for one in iterations
                if keys[one.number] in found.children
            },
            to_search={number for number, key in keys.items() if key in found.deleted},
        )

    def _parent(self) -> KnownRun:
        run = self._sink.parent()
        if run.is_deleted:
            raise RunDeleted(f"The sweep's run {run.run_id} was deleted.")
        return run

    def _publish_children(
        self, store: _Store, iterations: Sequence[Iteration], dataset: DatasetRef | None
    ) -> None:
        todo = [one for one in iterations if self._is_behind(store, one)]
        if not store.is_fresh and any(one.number not in store.children for one in todo):
            self._parent()  # a child of a deleted run is a run that nobody sees under its sweep
        if not (self._sink.is_remote and len(todo) > 1):
            for one in todo:
                self._publish_child(store, one, dataset)
            return
        stop = threading.Event()

        def publish(one: Iteration) -> None:
            if not stop.is_set():
                self._publish_child(store, one, dataset)

        with ThreadPoolExecutor(N_WRITERS, thread_name_prefix="publish") as pool:
            try:
                list(pool.map(publish, todo))
            except BaseException:
                stop.set()
                raise

    def _is_behind(self, store: _Store, iteration: Iteration) -> bool:
        if iteration.number in self._deleted:
            return False
        held = self._quarantined.get(iteration.number)
        if held is not None:
            return held.iteration != iteration
        child = store.children.get(iteration.number)
        if child is None:
            return True
        return child.iteration is not iteration and child.iteration != iteration

    def _publish_child(
        self, store: _Store, iteration: Iteration, dataset: DatasetRef | None
    ) -> None:
        number = iteration.number
        child: Child | None = None
        try:
            child = store.children.get(number) or self._find_or_create(store, iteration)
            child = store.writer.update(child, iteration, dataset)
            store.children[number] = remembered(child)
            self._quarantined.pop(number, None)
        except (StoreRefused, ArtifactRefused) as error:
            self._leave_out(store, iteration, child, error)

    def _find_or_create(self, store: _Store, iteration: Iteration) -> Child:
        number = iteration.number
        if not store.is_fresh or number in store.to_search:
            experiment_id = store.parent.run.experiment_id
            key = self._facts.key(number)
            found = find(self._sink, self._facts, experiment_id, key)
            if found is not None:
                return as_published(found, iteration)
        store.n_created += 1
        store.children[number] = store.writer.create(iteration)
        return store.children[number]

    def _leave_out(
        self,
        store: _Store,
        iteration: Iteration,
        child: Child | None,
        error: PublishFailed | ArtifactRefused,
    ) -> None:
        """Go on without an iteration: because a person wants it so, or until it has changed."""
        is_deleted = isinstance(error, RunDeleted) or (
            isinstance(error, StoreRefused)
            and child is not None
            and self._sink.is_deleted(child.run.run_id)
        )
        if not is_deleted:
            self._quarantine(store, iteration, child, error)
            return
        _LOGGER.info("Iteration %s was deleted in MLflow and stays so.", iteration.number)
        store.children.pop(iteration.number, None)
        self._quarantined.pop(iteration.number, None)
        self._deleted.add(iteration.number)

    def _quarantine(
        self,
        store: _Store,
        iteration: Iteration,
        child: Child | None,
        error: PublishFailed | ArtifactRefused,
    ) -> None:
        run_id = child.run.run_id if child else None
        number = iteration.number
        _LOGGER.warning("Iteration %s (run %s) is not published: %s", number, run_id, error)
        store.children.pop(number, None)
        store.to_search.add(number)
        self._quarantined[number] = Quarantined(
            iteration=iteration, run_id=run_id, reason=str(error)
        )

    def _publish_explanations(self, store: _Store, state: SweepState) -> None:
        for number, explanation in state.explanations.items():
            child = store.children.get(number)
            tag = mapping.explanation_tag(explanation)
            if child is None or child.run.tags.get(names.EXPLANATION) == tag:
                continue
            try:
                store.children[number] = store.writer.explain(child, explanation)
            except (StoreRefused, ArtifactRefused) as error:
                self._leave_out(store, state.iterations[number], child, error)

    def _dataset(self, state: SweepState) -> DatasetRef | None:
        data = state.data
        if data is None:
            return None
        return DatasetRef(
            name=mapping.DATASET_NAME,
            digest=mapping.dataset_digest(data),
            profile=mapping.dataset_profile(data),
            source=mapping.dataset_source(state),
        )
