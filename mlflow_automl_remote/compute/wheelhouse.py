"""Wheels for a target that reaches no package index: found and downloaded by the client."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.own_uv import find_uv
from mlflow_automl_remote.compute.recipe import Recipe
from mlflow_automl_remote.errors import EnvironmentSetupFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_automl_remote.compute.machine import Machine

LAST_LINES: Final = 15
DOWNLOAD_S: Final = 1800.0
OLDEST_GLIBC: Final = 5
"""Minor version; wheels for older ones than 2.5 are not made."""
OLD_NAMES: Final = ("manylinux2014", "manylinux2010", "manylinux1")


@contextmanager
def downloaded(recipe: Recipe, machine: Machine, tell: Callable[[str], None]) -> Iterator[Path]:
    """Give a folder with all wheels of a recipe, which goes afterwards.

    Raises:
        EnvironmentSetupFailed: There is no uv here, something has no wheel for the machine, or
            the machine is of a kind that no wheels are made for.
    """
    uv = find_uv()
    libc, _, version = machine.libc.partition("-")
    if uv is None or machine.system != "Linux" or libc != "glibc":
        raise EnvironmentSetupFailed(
            "A wheelhouse needs uv here and a Linux with glibc there; "
            f"{machine.label} has {machine.system} with {machine.libc or 'another C library'}."
        )
    minor = int(version.partition(".")[2].partition(".")[0] or OLDEST_GLIBC)
    with tempfile.TemporaryDirectory(prefix="automl-remote-wheels-") as name:
        folder = Path(name)
        asked, pinned, wheels = (folder / each for each in ("asked", "pinned.txt", "wheels"))
        asked.write_text("".join(f"{line}\n" for line in recipe.requirements))
        (folder / "overrides").write_text("".join(f"{line}\n" for line in recipe.overrides))
        tell("Finding wheels for the target")
        _run(
            [
                str(uv), "pip", "compile", str(asked), "--quiet", "--no-header",
                "--overrides", str(folder / "overrides"), "--only-binary", ":all:",
                "--python-version", recipe.python, "--output-file", str(pinned),
                "--python-platform", f"{machine.machine}-manylinux_2_{min(minor, 40)}",
            ]
        )  # fmt: skip
        tell("Downloading wheels for the target")
        platforms = [f"manylinux_2_{each}" for each in range(minor, OLDEST_GLIBC - 1, -1)]
        _run(
            [
                str(uv), "run", "--quiet", "--no-project", "--with", "pip", "--",
                "python", "-m", "pip", "download", "--quiet", "--no-deps",
                "--only-binary", ":all:", "--requirement", str(pinned), "--dest", str(wheels),
                "--python-version", recipe.python, "--implementation", "cp",
                *_platforms([*platforms, *OLD_NAMES], machine.machine),
            ]
        )  # fmt: skip
        yield wheels


def _platforms(names: Sequence[str], architecture: str) -> list[str]:
    return [word for name in names for word in ("--platform", f"{name}_{architecture}")]


def _run(argv: list[str]) -> None:
    environment = dict(os.environ)
    index = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL")
    if index:
        environment.setdefault("PIP_INDEX_URL", index)
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=DOWNLOAD_S, check=False, env=environment,
    )  # fmt: skip
    if done.returncode != 0:
        words = "\n".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        raise EnvironmentSetupFailed(
            f"The wheels for the target could not be brought together. Last words:\n{words}"
        )
