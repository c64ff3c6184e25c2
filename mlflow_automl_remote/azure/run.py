"""Azure's `AutoMLRun` and its child runs, over `SweepRun` and MLflow's runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote import api
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.tables import models_summary

if TYPE_CHECKING:
    from mlflow.entities import Run, RunInfo

    from mlflow_automl_remote.azure.experiment import Experiment

_STATUS: Final[Mapping[str, str]] = {
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


class _AnyRun:
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
        return _STATUS.get(self.run.info.status, self.run.info.status)

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


class ChildRun(_AnyRun):
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


class AutoMLRun(_AnyRun):
    """A sweep under Azure's names; `sweep` is the same under ours.

    Args:
        experiment: The experiment; the run says itself where it is, so it is not asked.
        run_id: The parent run.
        sweep: The sweep, where it is at hand.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep.
    """

    def __init__(
        self, experiment: Experiment | None, run_id: str, *, sweep: api.SweepRun | None = None
    ) -> None:
        self.experiment = experiment
        self.id = run_id
        self.sweep = sweep or api.attach(run_id)

    def __repr__(self) -> str:
        return f"AutoMLRun(id={self.id!r}, status={self.get_status()!r})"

    def get_status(self) -> str:
        """Give Azure's word for where it stands, such as `Running` or `Completed`."""
        return _STATUS.get(self.sweep.status, self.sweep.status)

    def get_output(
        self, iteration: int | None = None, metric: str | None = None
    ) -> tuple[ChildRun, Any]:
        """Give the best run so far and its fitted model, also while the sweep runs.

        Args:
            iteration: Of this iteration instead.
            metric: The best by this metric instead.

        Raises:
            ConfigurationError: Both are given, or no iteration has such a metric.
            IterationNotFound: There is no such iteration, or it has no model.
        """
        from mlflow_automl_remote.publishing import results

        child = self.sweep.child(iteration, metric=metric)
        return ChildRun(child), results.load_model(child)

    def get_best_child(self, metric: str | None = None) -> ChildRun:
        """Give the best run so far; its model is not loaded."""
        return ChildRun(self.sweep.child(metric=metric))

    def get_children(self) -> Iterator[ChildRun]:
        """Give the runs of all iterations that are published so far, by number."""
        return map(ChildRun, self.sweep.children())

    def summary(self) -> list[list[object]]:
        """Give `[model, iterations, best score]` for each model; those that failed last."""
        return models_summary(self.sweep.state)

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False
    ) -> dict[str, object]:
        """Wait until the sweep has ended and is published.

        Args:
            show_output: Print the table of iterations as they end.
            wait_post_processing: Changes nothing: the explanation belongs to the sweep.

        Returns:
            What `get_details` gives.
        """
        self.sweep.wait(show=show_output)
        return self.get_details()

    def cancel(self) -> str:
        """Stop the sweep; what is finished is kept."""
        return self.sweep.cancel()

    def cancel_iteration(self, iteration: int) -> str:
        """Stop one iteration, or see to it that it never runs."""
        return self.sweep.cancel(iteration)

    def pause(self) -> str:
        """Begin no more iterations until `resume`; those that run go on to their end."""
        return self.sweep.pause()

    def resume(self) -> None:
        """Go on after a pause, or after the agent died."""
        self.sweep.resume()

    def retry(self) -> None:
        """Run iterations that failed once more, when the sweep has ended."""
        self.sweep.retry()

    def continue_experiment(
        self,
        *,
        iterations: int | None = None,
        experiment_timeout_hours: float | None = None,
        experiment_timeout_minutes: float | None = None,
        experiment_exit_score: float | None = None,
        show_output: bool = False,
        **data: object,
    ) -> AutoMLRun:
        """Go on with a sweep that has ended: more iterations, or more time.

        Args:
            iterations: How many more.
            experiment_timeout_hours: Time from now on; without it as much as it had before.
            experiment_timeout_minutes: The same in minutes.
            experiment_exit_score: At which it ends; None for none.
            show_output: Wait for its end, with the table of iterations.
            **data: Refused: the data is on the target already.

        Raises:
            ConfigurationError: It still runs, data was given, or a value is not allowed.
        """
        if data:
            raise ConfigurationError(
                f"'{next(iter(data))}' has no meaning here: the data of the sweep is still on its "
                "target. Leave it out."
            )
        minutes = experiment_timeout_minutes
        if experiment_timeout_hours is not None:
            minutes = 60 * experiment_timeout_hours
        self.sweep.extend(iterations or 0, minutes=minutes, exit_score=experiment_exit_score)
        if show_output:
            self.sweep.wait()
        return self

    def get_run_sdk_dependencies(
        self, iteration: int | None = None, check_versions: bool = True
    ) -> dict[str, str]:
        """Give the packages and their versions that the sweep ran with.

        Args:
            iteration: Changes nothing: all iterations run with the same.
            check_versions: Warn of those that are others here.

        Raises:
            ConfigurationError: The sweep has not begun yet.
        """
        started = self.sweep.state.started
        if started is None:
            raise ConfigurationError("The sweep has not begun yet: its versions are not known.")
        versions = dict(started.package_versions)
        versions["mlflow-automl-remote"] = started.package_version
        if check_versions:
            _warn_of_others(versions)
        return versions

    def explain(self, iteration: int | None = None) -> str:
        """Explain the model of an iteration on the target; see `SweepRun.explain`."""
        return self.sweep.explain(iteration)

    def clean_preprocessor_cache(self) -> None:
        """Refuse.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "'clean_preprocessor_cache' has no meaning here: features are made inside each fold "
            "and not kept. Leave it out; 'automl-remote target clean NAME' frees a target's disk."
        )


def _warn_of_others(there: Mapping[str, str]) -> None:
    import warnings
    from importlib import metadata

    here: dict[str, str] = {}
    for name in there:
        try:
            here[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            here[name] = "none"
    others = [
        f"{name} {there[name]} (here {here[name]})" for name in there if there[name] != here[name]
    ]
    if others:
        warnings.warn(
            f"Models were fitted with versions that are not those here: {', '.join(others)}.",
            stacklevel=3,
        )


def _files(client: Any, run_id: str, folder: str | None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _files(client, run_id, entry.path)
        else:
            yield entry.path


def _time(time_ms: int | None) -> str | None:
    return None if not time_ms else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
