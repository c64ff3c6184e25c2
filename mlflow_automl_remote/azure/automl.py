"""Azure's `AutoMLConfig`: our settings, and beside them the project and where it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mlflow_automl_remote import config
from mlflow_automl_remote.azure.compute import ComputeTarget
from mlflow_automl_remote.errors import ConfigurationError

_LOCAL: Final = "local"


class AutoMLConfig:
    """A sweep as Azure's code describes it.

    Args:
        task: `classification` or `regression`.
        path: The project folder.
        compute_target: An attached machine or its name; `local` or None is this machine.
        data_script: The file with `get_data()`; inside the project folder, also with its path.
        debug_log: Name of one more log among the artifacts.
        name: Name of the parent run.
        **automl_settings: All other settings; see the settings page. Names of all generations
            are accepted.

    Raises:
        ConfigurationError: A setting is unknown, has no meaning here or has a wrong value.
    """

    def __init__(
        self,
        task: str,
        path: str | Path = ".",
        compute_target: ComputeTarget | str | None = None,
        data_script: str | Path | None = None,
        debug_log: str | Path | None = None,
        name: str | None = None,
        **automl_settings: object,
    ) -> None:
        self.project = Path(path).resolve()
        self.run_name = name
        self.target = _target_name(compute_target)
        settings: dict[str, object] = {"task": task, **automl_settings}
        if data_script is not None:
            settings["data_script"] = _inside(self.project, Path(data_script))
        if debug_log is not None:
            settings["debug_log"] = Path(debug_log).name
        self.settings = config.AutoMLConfig.parse(settings)

    def __repr__(self) -> str:
        return f"AutoMLConfig(task={self.settings.task!r}, path={str(self.project)!r})"


def _target_name(target: ComputeTarget | str | None) -> str | None:
    if isinstance(target, ComputeTarget):
        return target.name
    if target is None or target == _LOCAL:
        return None
    if isinstance(target, str):
        return target
    raise ConfigurationError(
        "'compute_target' must be an attached machine, its name, or 'local'. "
        f"Got a {type(target).__name__} instead."
    )


def _inside(project: Path, script: Path) -> str:
    """Give the script's path inside the project; the article gives it with the project's."""
    if not script.is_absolute() and (project / script).is_file():
        return script.as_posix()
    absolute = script.resolve()
    if absolute.is_relative_to(project):
        return absolute.relative_to(project).as_posix()
    raise ConfigurationError(
        f"The 'data_script' must be a file in the project folder '{project}'. "
        f"Got '{script}' instead."
    )
