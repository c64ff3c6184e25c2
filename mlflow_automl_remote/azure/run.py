"""Azure's `AutoMLRun`: a sweep, over `SweepRun`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlflow_automl_remote import api, promoting
from mlflow_automl_remote.azure.child_run import STATUS, AnyRun, ChildRun
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.tables import models_summary

if TYPE_CHECKING:
    from mlflow_automl_remote.azure.experiment import Experiment
    from mlflow_automl_remote.promotion.registry import Version
    from mlflow_automl_remote.submitted import SweepRun


class AutoMLRun(AnyRun):
    """A sweep under Azure's names; `sweep` is the same under ours.

    Args:
        experiment: The experiment; the run says itself where it is, so it is not asked.
        run_id: The parent run.
        sweep: The sweep, where it is at hand.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep.
    """

    def __init__(
        self, experiment: Experiment | None, run_id: str, *, sweep: SweepRun | None = None
    ) -> None:
        self.experiment = experiment
        self.id = run_id
        self.sweep = sweep or api.attach(run_id)

    def __repr__(self) -> str:
        return f"AutoMLRun(id={self.id!r}, status={self.get_status()!r})"

    def get_status(self) -> str:
        """Give Azure's word for where it stands, such as `Running` or `Completed`."""
        return STATUS.get(self.sweep.status, self.sweep.status)

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

    def register_model(
        self,
        model_name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        iteration: int | None = None,
        metric: str | None = None,
    ) -> Version:
        """Register the best model, or another, with MLflow; see `mlflow_automl_remote.register`.

        Args:
            model_name: Of the registered model; it is made if need be.
            description: Of the version; without it a part of the leaderboard.
            tags: Of the version, beside ours.
            iteration: Register its model.
            metric: Register the best model by this metric.

        Raises:
            ConfigurationError: There is no such model, or none can have this name.
        """
        version = promoting.register(self.id, model_name, iteration=iteration, metric=metric)
        if description is None and not tags:
            return version
        from mlflow import MlflowClient

        client = MlflowClient()
        number = str(version.number)
        if description is not None:
            client.update_model_version(model_name, number, description)
        for key, value in (tags or {}).items():
            client.set_model_version_tag(model_name, number, key, value)
        return version

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
