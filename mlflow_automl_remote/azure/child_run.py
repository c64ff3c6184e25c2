"""Runs as MLflow has them, under Azure's names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mlflow.entities import Run, RunInfo

STATUS: Final[Mapping[str, str]] = {
    "RUNNING": "Running",
    "SCHEDULED": "NotStarted",
    "COMPLETED": "Completed",
    "FINISHED": "Completed",
    "FAILED": "Failed",
    "CANCELLED": "Canceled",
    "KILLED": "Canceled",
    "LOST": "NotResponding",
    "PAUSED": "Paused",
}
"""Azure's words for the states of sweeps and of MLflow's runs."""


class AnyRun:
    """What runs of sweeps and of iterations have in common: they are runs of MLflow."""

    id: str

    @property
    def run(self) -> Run:
        """The run as MLflow has it now."""
        from mlflow import MlflowClient

        return MlflowClient().get_run(self.id)

    @property
    def info(self) -> RunInfo:
        """What MLflow calls `run.info`: so this stands wherever a run of MLflow may."""
        return self.run.info

    @property
    def run_id(self) -> str:
        """The run in MLflow."""
        return self.id

    def get_metrics(self) -> dict[str, float]:
        """Give the last value of each metric."""
        return dict(self.run.data.metrics)

    def get_properties(self) -> dict[str, str]:
        """Give params and tags as one; `iteration`, `score` and the like without a prefix."""
        data = self.run.data
        plain = {name.removeprefix("automl_remote."): value for name, value in data.tags.items()}
        return {**data.params, **data.tags, **plain}

    def get_tags(self) -> dict[str, str]:
        """Give the tags."""
        return dict(self.run.data.tags)

    def tag(self, key: str, value: str | None = None) -> None:
        """Set a tag."""
        from mlflow import MlflowClient

        MlflowClient().set_tag(self.id, key, "" if value is None else value)

    def get_status(self) -> str:
        """Give Azure's word for where it stands, such as `Running` or `Completed`."""
        return STATUS.get(self.run.info.status, self.run.info.status)

    def get_details(self) -> dict[str, object]:
        """Give id, status, times and properties."""
        info = self.run.info
        return {
            "runId": self.id,
            "status": self.get_status(),
            "startTimeUtc": _time(info.start_time),
            "endTimeUtc": _time(info.end_time),
            "properties": self.get_properties(),
            "url": self.get_portal_url(),
        }

    def get_file_names(self) -> list[str]:
        """List the artifacts."""
        from mlflow import MlflowClient

        return list(_files(MlflowClient(), self.id, None))

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> str:
        """Bring an artifact here; give its path."""
        import mlflow

        fetched = mlflow.artifacts.download_artifacts(run_id=self.id, artifact_path=name)
        if output_file_path is None:
            return str(fetched)
        return str(Path(fetched).replace(Path(output_file_path)))

    def get_portal_url(self) -> str:
        """Give where the run is in MLflow's UI."""
        from mlflow_automl_remote.publishing import parent_run

        return parent_run.where_to_look(self.id)


class ChildRun(AnyRun):
    """The run of an iteration.

    Args:
        run: As MLflow has it.
    """

    def __init__(self, run: Run) -> None:
        self.id = run.info.run_id
        self.name = run.info.run_name
        self.iteration = int(run.data.tags["automl_remote.iteration"])

    def __repr__(self) -> str:
        return f"ChildRun(id={self.id!r}, name={self.name!r})"


def _files(client: Any, run_id: str, folder: str | None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        else:
            yield entry.path


def _time(time_ms: int | None) -> str | None:
    return None if not time_ms else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
