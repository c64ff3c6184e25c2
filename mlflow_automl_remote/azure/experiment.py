"""Azure's `Workspace` and `Experiment`: the tracking store, and an experiment in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow_automl_remote import api
from mlflow_automl_remote.azure.automl import AutoMLConfig
from mlflow_automl_remote.azure.compute import ComputeTarget, ComputeTargets
from mlflow_automl_remote.azure.run import AutoMLRun
from mlflow_automl_remote.errors import ConfigurationError


class Workspace:
    """The tracking store that MLflow is set to, and the attached machines."""

    def __repr__(self) -> str:
        return f"Workspace({self.name!r})"

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Workspace:
        """Take what MLflow is set to: `MLFLOW_TRACKING_URI` or `mlflow.set_tracking_uri`.

        Args:
            path: Refused: there is no file of that kind.

        Raises:
            ConfigurationError: A path was given.
        """
        if path is not None:
            raise ConfigurationError(
                "A workspace has no file here: it is the tracking store. Call "
                "mlflow.set_tracking_uri(...) and Workspace.from_config() without a path."
            )
        return cls()

    @property
    def name(self) -> str:
        """The address of the tracking store."""
        import mlflow

        return str(mlflow.get_tracking_uri())

    @property
    def compute_targets(self) -> Mapping[str, ComputeTarget]:
        """The attached machines by name."""
        return ComputeTargets(self)


class Experiment:
    """An MLflow experiment, which is made by the first sweep in it.

    Args:
        workspace: The workspace.
        name: Of the experiment.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name

    def __repr__(self) -> str:
        return f"Experiment({self.name!r})"

    def submit(self, config: AutoMLConfig, show_output: bool = False) -> AutoMLRun:
        """Start a sweep; it goes on by itself.

        Args:
            config: The sweep.
            show_output: Wait for its end, with the table of iterations; Ctrl-C stops the waiting
                and not the sweep.

        Raises:
            ConfigurationError: The config or the project is wrong.
            TransportError: The target cannot be used.
        """
        if not isinstance(config, AutoMLConfig):
            raise ConfigurationError(
                "Experiment.submit takes an AutoMLConfig of mlflow_automl_remote.azure. "
                f"Got a {type(config).__name__} instead."
            )
        sweep = api.submit(
            config.settings,
            config.target,
            project=config.project,
            experiment_name=self.name,
            run_name=config.run_name,
        )
        run = AutoMLRun(self, sweep.run_id, sweep=sweep)
        if show_output:
            sweep.wait()
        return run

    def get_runs(self) -> Iterator[AutoMLRun]:
        """Give the sweeps of this experiment, the latest first."""
        from mlflow_automl_remote.publishing import parent_run

        for run_id in parent_run.sweeps_of(self.name):
            yield AutoMLRun(self, run_id)
