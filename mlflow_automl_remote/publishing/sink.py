"""The calls to MLflow, and nothing else: what a store knows of a sweep, and how it is changed.

Calls to a server are tried once by MLflow's own client, which would otherwise repeat a POST whose
answer was lost and so create a run twice; what may safely be repeated is repeated here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.store.entities import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from mlflow_automl_remote.publishing import facts as names
from mlflow_automl_remote.publishing.calls import StoreConflict, StoreUnreachable, translated
from mlflow_automl_remote.publishing.mapping import Point

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

RETRY_DELAY_S: Final = 0.5  # before the one repetition of a call that may be repeated
_PAGE_SIZE: Final = 1000
_MODEL_PAGE_SIZE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run as the store has it."""

    run_id: str
    experiment_id: str
    status: str
    start_time_ms: int
    end_time_ms: int | None
    is_deleted: bool = False
    has_dataset: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    model_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A logged model as the store has it."""

    model_id: str
    location: str
    is_ready: bool
    created_ms: int
    source_run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRef:
    """The data of a sweep, as metrics refer to it."""

    name: str
    digest: str
    profile: str
    source: str


class Sink:
    """The MLflow store, seen from one sweep.

    Every method raises `StoreUnreachable` or `StoreRefused`, and nothing else of MLflow's.
    """

    def __init__(self, client: MlflowClient, parent_run_id: str, sweep_id: str) -> None:
        self._client = client
        self._parent_run_id = parent_run_id
        self._sweep_id = sweep_id
        self.is_remote = client.tracking_uri.startswith(("http://", "https://"))

    def parent(self) -> KnownRun:
        """Read the sweep's run."""
        return _known_run(self._repeatable(lambda: self._client.get_run(self._parent_run_id)))

    def is_deleted(self, run_id: str) -> bool:
        """Whether a person has deleted a run."""
        return _known_run(self._repeatable(lambda: self._client.get_run(run_id))).is_deleted

    def show_as_training(self, experiment_id: str) -> None:
        """Let the UI list the runs of an experiment as training runs, unless it says what it is.

        Without the tag the UI guesses, and takes a run without a model for an evaluation.
        """
        tags = self._repeatable(lambda: self._client.get_experiment(experiment_id)).tags
        if names.EXPERIMENT_KIND not in tags:
            self._repeatable(
                lambda: self._client.set_experiment_tag(
                    experiment_id, names.EXPERIMENT_KIND, "custom_model_development"
                )
            )

    def children(self, experiment_id: str, key: str | None = None) -> list[KnownRun]:
        """Read the runs of the iterations, or of one; deleted ones too, the earliest first."""
        condition = f"tags.`{names.PARENT_RUN_ID}` = '{self._parent_run_id}'"
        if key is not None:  # a second condition on tags would take the store as long again
            condition = f"tags.`{names.KEY}` = '{key}'"
        runs = self._pages(
            lambda token: self._client.search_runs(
                [experiment_id],
                condition,
                run_view_type=ViewType.ALL,
                max_results=_PAGE_SIZE,
                page_token=token,
            )
        )
        parent = self._parent_run_id
        known = [_known_run(run) for run in runs]
        known = [run for run in known if run.tags.get(names.PARENT_RUN_ID) == parent]
        return sorted(known, key=lambda run: (run.start_time_ms, run.run_id))

    def models(self, experiment_id: str, key: str | None = None) -> list[KnownModel]:
        """Read the models of the sweep, or of one iteration: ready ones first, then by age."""
        condition = f"tags.`{names.SWEEP_ID}` = '{self._sweep_id}'" + _and_key(key)
        models = self._pages(
            lambda token: self._client.search_logged_models(
                [experiment_id], condition, max_results=_MODEL_PAGE_SIZE, page_token=token
            )
        )
        known = [_known_model(model) for model in models]
        return sorted(known, key=lambda one: (not one.is_ready, one.created_ms, one.model_id))

    def create_run(
        self, experiment_id: str, name: str, start_time_ms: int, tags: Mapping[str, str]
    ) -> KnownRun:
        """Create a run. Not repeatable: look for its key before, and after a doubtful failure."""
        with translated():
            run = self._client.create_run(
                experiment_id, start_time=start_time_ms, tags=dict(tags), run_name=name
            )
        return _known_run(run)

    def delete_run(self, run_id: str) -> None:
        """Delete a run that is there twice."""
        self._repeatable(lambda: self._client.delete_run(run_id))

    def reopen(self, run_id: str) -> None:
        """Set an ended run back to running."""
        self._repeatable(lambda: self._client.update_run(run_id, status="RUNNING"))

    def terminate(self, run_id: str, status: str, end_time_ms: int | None) -> None:
        """Set the final status of a run and when it ended."""
        self._repeatable(lambda: self._client.set_terminated(run_id, status, end_time_ms))

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log everything at once; nothing to log is no call."""
        new_params = [Param(name, value) for name, value in (params or {}).items()]
        new_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        if metrics or new_params or new_tags:
            self._repeatable(
                lambda: self._client.log_batch(
                    run_id, metrics=metrics, params=new_params, tags=new_tags, synchronous=True
                )
            )

    def log_dataset(self, run_id: str, dataset: DatasetRef) -> None:
        """Record the data as an input of a run."""
        entry = DatasetInput(
            Dataset(
                name=dataset.name,
                digest=dataset.digest,
                source_type="code",
                source=dataset.source,
                profile=dataset.profile,
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, "training")],
        )
        self._repeatable(lambda: self._client.log_inputs(run_id, [entry]))

    def log_files(self, run_id: str, folder: Path) -> None:
        """Log the contents of a folder as artifacts of a run."""
        if any(folder.iterdir()):
            self._repeatable(lambda: self._client.log_artifacts(run_id, str(folder)))

    def create_model(
        self, run: KnownRun, *, tags: Mapping[str, str], params: Mapping[str, str], kind: str
    ) -> KnownModel:
        """Create a logged model. Not repeatable, as with `create_run`."""
        with translated():
            model = self._client.create_logged_model(
                run.experiment_id,
                name="model",
                source_run_id=run.run_id,
                tags=dict(tags),
                params=dict(params),
                model_type=kind,
            )
        return _known_model(model)

    def link_model(self, run_id: str, model_id: str) -> None:
        """Make a model an output of its run. Not repeatable: look at the run's models before."""
        with translated():
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])

    def log_model_files(self, model_id: str, folder: Path) -> None:
        """Upload the folder of a model."""
        self._repeatable(lambda: self._client.log_model_artifacts(model_id, str(folder)))

    def finalize_model(self, model_id: str) -> None:
        """Make a model, whose files are all there, ready."""
        ready = LoggedModelStatus.READY
        self._repeatable(lambda: self._client.finalize_logged_model(model_id, ready))

    def delete_model(self, model_id: str) -> None:
        """Delete a model that is there twice."""
        self._repeatable(lambda: self._client.delete_logged_model(model_id))

    def _pages(self, search: Callable[[str | None], PagedList[_T]]) -> list[_T]:
        """Read all pages of a search."""
        found: list[_T] = []
        token: str | None = None
        while True:
            page = self._repeatable(partial(search, token))
            found += page
            token = page.token
            if not token:
                return found

    def _repeatable(self, call: Callable[[], _T]) -> _T:
        """Make a call that does no harm when it is made twice, a second time if it has to be."""
        try:
            with translated():
                return call()
        except (StoreUnreachable, StoreConflict) as error:
            _LOGGER.debug("Once more after %s", error)
        if self.is_remote:
            time.sleep(RETRY_DELAY_S)
        with translated():
            return call()


def metrics_of(
    points: Sequence[Point], *, model_id: str | None = None, dataset: DatasetRef | None = None
) -> list[Metric]:
    """Write metrics as MLflow's, those of the model linked to it and to the data."""
    return [
        Metric(
            point.key,
            point.value,
            point.timestamp_ms,
            point.step,
            model_id=model_id if point.of_model else None,
            dataset_name=dataset.name if dataset and point.of_model else None,
            dataset_digest=dataset.digest if dataset and point.of_model else None,
        )
        for point in points
    ]


def _and_key(key: str | None) -> str:
    return "" if key is None else f" and tags.`{names.KEY}` = '{key}'"


def _known_run(run: Run) -> KnownRun:
    return KnownRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        status=run.info.status,
        start_time_ms=run.info.start_time or 0,
        end_time_ms=run.info.end_time,
        is_deleted=run.info.lifecycle_stage == "deleted",
        has_dataset=bool(run.inputs and run.inputs.dataset_inputs),
        params=dict(run.data.params),
        tags=dict(run.data.tags),
        model_ids=tuple(one.model_id for one in run.outputs.model_outputs) if run.outputs else (),
    )


def _known_model(model: LoggedModel) -> KnownModel:
    return KnownModel(
        model_id=model.model_id,
        location=model.artifact_location,
        is_ready=model.status == LoggedModelStatus.READY,
        created_ms=model.creation_timestamp,
        source_run_id=model.source_run_id or "",
        tags=dict(model.tags),
    )
