"""The words after `automl-remote sweep`, understood alike by the command line and the backend."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import ConfigurationError

DEFAULT_SETTINGS: Final = "automl.yaml"
_OWN_OPTIONS: Final = ("settings", "project", "backend_config", "experiment_name", "run_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepArguments:
    """What a person asked for.

    Attributes:
        settings: The settings file.
        project: The project folder; None for the folder of the settings file.
        overrides: Settings that win over the file, as text.
        backend_config: Where to run: a JSON object or the path of a file with one; None for here.
        experiment_name: The MLflow experiment; None for the current one.
        run_name: Name of the parent run; None for one that MLflow makes up.
        follow: Whether to stay until the sweep has ended.
    """

    settings: Path = Path(DEFAULT_SETTINGS)
    project: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    backend_config: str | None = None
    experiment_name: str | None = None
    run_name: str | None = None
    follow: bool = True

    @property
    def project_dir(self) -> Path:
        """The folder that is sent to the target."""
        return (self.project or self.settings.parent).resolve()

    def below(self, folder: Path) -> SweepArguments:
        """Take relative paths to be relative to a folder."""
        project = None if self.project is None else folder / self.project
        return replace(self, settings=folder / self.settings, project=project)

    def config(self) -> AutoMLConfig:
        """Read and check the settings."""
        return AutoMLConfig.from_file(self.settings, self.overrides)


def parse_arguments(words: Sequence[str]) -> SweepArguments:
    """Read `--name value` and `--name=value` words.

    Names that are not options of the command are settings; `-` and `_` are the same in them.

    Raises:
        ConfigurationError: A word is not an option, or its value is missing.
    """
    values: dict[str, str] = {}
    follow = True
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--no-follow":
            follow = False
            continue
        name, given = _option(word)
        if given is None:
            if not rest:
                raise ConfigurationError(f"The option '{word}' needs a value: {word} VALUE.")
            given = rest.pop(0)
        values[name] = given
    own = {name: values.pop(name) for name in _OWN_OPTIONS if name in values}
    return SweepArguments(
        settings=Path(own.get("settings", DEFAULT_SETTINGS)),
        project=Path(own["project"]) if "project" in own else None,
        overrides=values,
        backend_config=own.get("backend_config"),
        experiment_name=own.get("experiment_name"),
        run_name=own.get("run_name"),
        follow=follow,
    )


def parse_command(command: str, entry_point: str) -> SweepArguments:
    """Read the command of a project's entry point, parameters filled in.

    Raises:
        ConfigurationError: It is not an `automl-remote sweep` command.
    """
    words = shlex.split(command)
    if words[:2] != ["automl-remote", "sweep"]:
        raise ConfigurationError(
            f"The entry point '{entry_point}' cannot run on the automl-remote backend: its "
            f"command must begin with 'automl-remote sweep'. Got '{command}' instead."
        )
    return parse_arguments(words[2:])


def read_backend_config(text: str | None) -> dict[str, object]:
    """Read a backend config given as a JSON object or as the path of a `.json` file.

    Raises:
        ConfigurationError: The file is missing, or it is not a JSON object.
    """
    if text is None:
        return {}
    where = "The backend config"
    if not text.lstrip().startswith(("{", "[", '"')):
        where = f"The backend config '{text}'"
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigurationError(f"{where} cannot be read: {reason}.") from error
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ConfigurationError(
            f'{where} must be a JSON object such as {{"host": "vm.example.org"}}. '
            f"Got a {type(config).__name__} instead."
        )
    return config


def _option(word: str) -> tuple[str, str | None]:
    if not word.startswith("--") or len(word) == len("--"):
        raise ConfigurationError(
            f"'{word}' is not an option; settings are given as --name value. "
            "See: automl-remote sweep --help"
        )
    name, equals, value = word[2:].partition("=")
    return name.replace("-", "_"), value if equals else None


def take_follow(config: dict[str, object]) -> bool | None:
    """Take what a backend config says about staying; None where it says nothing.

    Raises:
        ConfigurationError: It is neither true nor false.
    """
    value = config.pop("follow", None)
    if value is None or isinstance(value, bool):
        return value
    raise ConfigurationError(
        f"The 'follow' of the backend config must be true or false. Got {value!r} instead."
    )
