"""What a project wants of the environment it runs in: its conda.yaml or python_env.yaml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mlflow_automl_remote.errors import ConfigurationError

DEFAULT_FILES: Final = ("python_env.yaml", "conda.yaml")
"""The first that exists counts, unless MLproject names one."""
_OTHER_NAMES: Final = {
    "pytorch": "torch", "py-xgboost": "xgboost", "matplotlib-base": "matplotlib",
    "pytables": "tables", "py-opencv": "opencv-python",
}  # fmt: skip
"""conda's names of packages that have another one in Python's index."""
_CONDA: Final = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9_.-]+)\s*(.*)")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a project wants.

    Attributes:
        python: Version of its Python, such as "3.11"; None for any.
        requirements: Lines of a requirements file.
        conda: Packages of conda's, as it takes them.
        channels: Where conda gets them.
    """

    python: str | None = None
    requirements: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def as_json(self) -> str:
        """Write it down beside a sweep."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Wanted:
        """Read what `as_json` wrote; nothing is wanted where that makes no sense."""
        try:
            content = json.loads(text)
            python = content["python"]
            return cls(
                python=None if python is None else str(python),
                requirements=tuple(map(str, content["requirements"])),
                conda=tuple(map(str, content["conda"])),
                channels=tuple(map(str, content["channels"])),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls()

    @property
    def all_requirements(self) -> tuple[str, ...]:
        """The requirements, and conda's packages in the words of Python's index."""
        return (*self.requirements, *map(_translated, self.conda))


def read_wanted(project: Path) -> Wanted:
    """Read what a project wants; nothing where it has no such file.

    Raises:
        ConfigurationError: The file cannot be read, or is none.
    """
    name = _named_by_mlproject(project)
    names = DEFAULT_FILES if name is None else (name,)
    path = next((project / each for each in names if (project / each).is_file()), None)
    if path is None:
        if name is not None:
            raise ConfigurationError(f"The MLproject file names '{name}', which is not there.")
        return Wanted()
    content = _mapping(path)
    try:
        lines = [*content.get("build_dependencies", ()), *content.get("dependencies", ())]
        if "python" in content or "build_dependencies" in content:
            return Wanted(
                python=_python(str(content.get("python", "")), path),
                requirements=tuple(_lines(lines, path.parent)),
            )
        return _from_conda(lines, content.get("channels", ()), path)
    except (TypeError, AttributeError) as error:
        raise ConfigurationError(f"'{path}' is not an environment: {error}.") from error


def _named_by_mlproject(project: Path) -> str | None:
    path = project / "MLproject"
    content = _mapping(path) if path.is_file() else {}
    name = content.get("python_env") or content.get("conda_env")
    return None if name is None else str(name)


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"'{path}' cannot be read: {' '.join(str(error).split())}."
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"'{path}' is not an environment: it has no keys.")
    return content


def _from_conda(dependencies: Sequence[object], channels: Sequence[object], path: Path) -> Wanted:
    python, conda, requirements = None, [], []
    for each in dependencies:
        if isinstance(each, dict):
            requirements += [str(line) for line in each.get("pip", ())]
            continue
        found = _CONDA.fullmatch(str(each).strip())
        name = found[1].lower() if found else ""
        if name == "python":
            python = _python(str(each), path)
        elif name != "pip":
            conda.append(str(each).strip())
    return Wanted(
        python=python,
        requirements=tuple(_lines(requirements, path.parent)),
        conda=tuple(conda),
        channels=tuple(map(str, channels)),
    )


def _python(text: str, path: Path) -> str | None:
    """Give major and minor version of what a line says of Python."""
    found = _VERSION.search(text)
    if found is None:
        return None
    if (int(found[1]), int(found[2])) < (3, 11):
        raise ConfigurationError(
            f"'{path}' wants Python {found[0]}, and the agent needs 3.11 or newer. "
            "Name a newer one there."
        )
    return found[0]


def _lines(lines: Sequence[object], folder: Path) -> Iterator[str]:
    """Give requirements, those of files among them, without paths.

    What a path leads to is the project itself, where everything runs, or not on the target.
    """
    for each in lines:
        line = str(each).split(" #")[0].strip()
        if line.startswith(("-r ", "--requirement ", "-r", "--requirement=")):
            name = re.split(r"[ =]|(?<=^-r)", line, maxsplit=1)[1].strip()
            try:
                more = (folder / name).read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise ConfigurationError(
                    f"'{folder / name}' cannot be read: {error.strerror}."
                ) from error
            yield from _lines(more, (folder / name).parent)
        elif line and not line.startswith((".", "/", "-e", "--editable", "file:", "#")):
            yield line


def _translated(package: str) -> str:
    """Put a package of conda's into the words of Python's index: `numpy=1.26` is `==1.26.*`."""
    found = _CONDA.fullmatch(package)
    if found is None:
        return package
    name, version = _OTHER_NAMES.get(found[1].lower(), found[1]), found[2].strip()
    if not version:
        return name
    if version.startswith("=") and not version.startswith("=="):
        version = version[1:].partition("=")[0].removesuffix("*").removesuffix(".")
        return f"{name}=={version}.*" if version.count(".") < 2 else f"{name}=={version}"
    return f"{name}{version if version[0] in '=<>!~' else '==' + version}"
