"""The door of MLflow Projects, `mlflow run --backend automl-remote`: translates, no more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from mlflow import MlflowClient
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects import utils
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun

from mlflow_automl_remote.arguments import (
    SweepArguments,
    parse_command,
    read_backend_config,
    take_follow,
)
from mlflow_automl_remote.errors import AutoMLRemoteError, ConfigurationError

if TYPE_CHECKING:
    from mlflow_automl_remote.sweep_run import SweepHandle

DOCKER_AUTH: Final = "docker_auth"
MLFLOW_KEYS: Final = frozenset(
    ("ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", DOCKER_AUTH)
)
"""What MLflow puts into every backend config."""


class AutoMLRemoteBackend(AbstractBackend):
    """Runs a project's `automl-remote sweep` entry point on a compute target."""

    def run(  # noqa: PLR0913 - the signature is MLflow's
        self,
        project_uri: str,
        entry_point: str,
        params: dict[str, Any],
        version: str | None,
        backend_config: dict[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedSweep:
        """Submit the sweep and, under `mlflow run`, follow it to its end.

        MLflow's command line never waits for a plug-in, so this does, unless the backend config
        has `"follow": false`. From Python, MLflow calls `wait` where it is to be waited for.

        Raises:
            ExecutionException: Anything went wrong, or the sweep ended without a model. It is the
                one exception that `mlflow run` prints as a line.
        """
        from mlflow_automl_remote import compute, sweep_run, terminal

        with execution_errors():
            config = {
                key: value for key, value in backend_config.items() if key not in MLFLOW_KEYS
            }
            auth = backend_config.get(DOCKER_AUTH) or _written_auth()
            if auth is not None:
                config[DOCKER_AUTH] = auth
            follow = take_follow(config)
            if follow is None:  # under `mlflow run` nobody else waits
                follow = click.get_current_context(silent=True) is not None
            project = _Project.fetch(project_uri, version, entry_point, params)
            target = compute.parse_target(config, project.docker_env)
            settings = project.arguments.config()
            with terminal.view() as view:
                submitted = sweep_run.submit(
                    settings,
                    target,
                    project.folder,
                    open_run=lambda: project.create_run(experiment_id),
                    listener=terminal.listener(view),
                )
                if follow:
                    terminal.follow(submitted, view)
                    _refuse_deleted(submitted.run_id)
            return SubmittedSweep(submitted)


def _written_auth() -> object:
    """Read an account of a registry from the backend config that `mlflow run` was given.

    Its command line puts nothing in place of what the file says.
    """
    context = click.get_current_context(silent=True)
    given = context.params.get("backend_config") if context is not None else None
    return read_backend_config(given).get(DOCKER_AUTH) if isinstance(given, str) else None


class SubmittedSweep(SubmittedRun):
    """What MLflow holds of a submitted sweep."""

    def __init__(self, sweep: SweepHandle) -> None:
        super().__init__()
        self._sweep = sweep

    @property
    def run_id(self) -> str:
        """The parent run."""
        return self._sweep.run_id

    def wait(self) -> bool:
        """Follow the sweep to its end; True when it has a model.

        Raises:
            ExecutionException: It could not be followed, or a person stopped following: MLflow
                would take a KeyboardInterrupt for a wish to cancel.
        """
        from mlflow_automl_remote import terminal

        with execution_errors(), terminal.view() as view:
            terminal.follow(self._sweep, view)
        return True

    def get_status(self) -> str:
        """Give MLflow's word for where the sweep stands: RUNNING, FINISHED, FAILED or KILLED."""
        from mlflow_automl_remote.publishing import parent_run

        with execution_errors():
            return parent_run.find_parent(self.run_id).status

    def cancel(self) -> None:
        """Ask the sweep to stop, and publish what it came to."""
        with execution_errors():
            self._sweep.cancel()
            self._sweep.follow()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Project:
    """A fetched MLflow project, and what its entry point asks for."""

    uri: str
    version: str | None
    entry_point: str
    params: dict[str, Any]
    folder: Path
    arguments: SweepArguments
    docker_env: dict[str, Any] | None

    @classmethod
    def fetch(
        cls, uri: str, version: str | None, entry_point: str, params: dict[str, Any]
    ) -> _Project:
        """Bring the project here and read its MLproject file."""
        folder = _fetch(uri, version, entry_point, params)
        spec = utils.load_project(folder)  # type: ignore[no-untyped-call]  # MLflow's
        command = spec.get_entry_point(entry_point).compute_command(params, None)
        return cls(
            uri=uri,
            version=version,
            entry_point=entry_point,
            params=params,
            folder=folder,
            arguments=parse_command(command, entry_point).below(folder),
            docker_env=spec.docker_env,
        )

    def create_run(self, experiment_id: str) -> str:
        """Create the parent run as MLflow does for its own backends, and name it at once."""
        run = utils.get_or_create_run(  # type: ignore[no-untyped-call]  # MLflow's
            None,
            self.uri,
            experiment_id,
            str(self.folder),
            self.version,
            self.entry_point,
            self.params,
        )
        run_id = str(run.info.run_id)
        context = click.get_current_context(silent=True)
        name = context.params.get("run_name") if context is not None else None
        if name:
            MlflowClient().set_tag(run_id, "mlflow.runName", name)
        return run_id


def _fetch(uri: str, version: str | None, entry_point: str, params: dict[str, Any]) -> Path:
    """Bring a project here; a version of a local repository is checked out in a clone of it.

    Left to itself, MLflow checks it out in the user's own working tree.
    """
    try:
        source = uri if version is None else _clone_if_local(uri)
        fetched = utils.fetch_and_validate_project(  # type: ignore[no-untyped-call]  # MLflow's
            source, version, entry_point, params
        )
        return Path(fetched)
    except MlflowException:
        raise
    except Exception as error:  # git, a download, an archive: each has its own types
        raise ConfigurationError(f"The project '{uri}' cannot be fetched: {error}") from error


def _clone_if_local(uri: str) -> str:
    path, hash_mark, subfolder = uri.partition("#")
    local = Path(path.removeprefix("file://")).expanduser().resolve()
    if not (local / ".git").exists():
        return uri
    import git  # needs the program, so only where it is used

    clone = tempfile.mkdtemp(prefix="automl-remote-project-")
    git.Repo.clone_from(str(local), clone)
    return f"{clone}{hash_mark}{subfolder}"


def _refuse_deleted(run_id: str) -> None:
    """Raise where MLflow, which goes on to write to the run, would fail with a stack trace."""
    from mlflow_automl_remote.publishing import parent_run

    if parent_run.is_deleted(run_id):
        raise ExecutionException(
            f"The sweep has ended, but its run {run_id} was deleted in MLflow meanwhile."
        )


@contextmanager
def execution_errors() -> Iterator[None]:
    """Turn every failure that we can explain into the one exception that MLflow prints cleanly."""
    try:
        yield
    except ExecutionException:
        raise
    except (AutoMLRemoteError, MlflowException) as error:
        raise ExecutionException(" ".join(str(error).split())) from error
