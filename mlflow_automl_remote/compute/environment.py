"""The Python environment of an agent, built once on a target and found again by its hash."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute import openmp
from mlflow_automl_remote.compute.progress import OnProgress, Progress, TransferMeter
from mlflow_automl_remote.compute.project import COPY_BYTES
from mlflow_automl_remote.compute.requirements import (
    CHECK_IMPORTS,
    agent_requirements,
    overrides,
)
from mlflow_automl_remote.errors import CommandFailed, EnvironmentSetupFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.machine import Machine
    from mlflow_automl_remote.compute.workspace import Root

FORMAT: Final = 1
"""Part of the hash: raised when environments are built another way."""
MIN_AGENT_PYTHON: Final = (3, 11)
LOCK_WAIT_S: Final = 1800.0
BUILD_S: Final = 1800.0
"""For one step of the build; a slow package index is the usual reason for minutes."""
HELP_S: Final = 10.0
LAST_LINES: Final = 15
DIGEST_LENGTH: Final = 32
MARKER: Final = "automl-remote.ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an environment is made of.

    Attributes:
        python: Version of its interpreter, such as "3.11".
        interpreter: What uv is told to use: a path on the target, or a version that it downloads.
        requirements: Lines of a requirements file.
        overrides: Lines of uv's overrides.
        platform: Of the target: system, architecture and C library.
        imports: Modules that have to be importable.
    """

    python: str
    interpreter: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...]
    platform: str
    imports: tuple[str, ...] = CHECK_IMPORTS

    @property
    def digest(self) -> str:
        """Name the environment by everything that decides what is in it."""
        lines = (str(FORMAT), self.python, self.platform, *self.requirements, *self.overrides)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]


def agent_recipe(machine: Machine) -> Recipe:
    """Describe the agent's environment for a machine.

    Its own Python is taken when it is new enough; otherwise uv gets the client's version.
    """
    suits = machine.python >= MIN_AGENT_PYTHON
    python = ".".join(map(str, machine.python[:2])) if suits else _own_python()
    return Recipe(
        python=python,
        interpreter=machine.executable if suits else python,
        requirements=agent_requirements(),
        overrides=overrides(),
        platform=f"{machine.system}-{machine.machine}-{machine.libc}",
    )


def _own_python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


class UvEnvironment:
    """Builds environments on a target with uv.

    Args:
        control: The helper on the target.
        machine: What the helper said of it.
        root: Our folder there.
        on_progress: Is told what is being done.
    """

    def __init__(
        self, control: Control, machine: Machine, root: Root, on_progress: OnProgress
    ) -> None:
        self._control = control
        self._machine = machine
        self._root = root
        self._on_progress = on_progress

    def ensure(self, recipe: Recipe) -> PurePosixPath:
        """Return the interpreter of an environment, building it when it is not there yet.

        Raises:
            EnvironmentSetupFailed: It could not be built; the message ends with uv's own words.
        """
        place = self._root.environment(recipe.digest)
        python = place / "bin" / "python"
        if self._exists(place / MARKER):
            self._tell("The environment is ready", 1.0)
            return python
        lock = place.with_name(f"{place.name}.lock")
        self._take_lock(lock)
        try:
            if not self._exists(place / MARKER):
                self._build(recipe, place)
        finally:
            if not self._control.is_broken:
                self._control.request("unlock", path=str(lock))
        self._tell("The environment is ready", 1.0)
        return python

    def variables(self, python: PurePosixPath) -> Mapping[str, str]:
        """Return what processes of an environment need in theirs, given its interpreter."""
        place = python.parents[1]
        return openmp.variables(place) if self._exists(openmp.library(place)) else {}

    def _take_lock(self, lock: PurePosixPath) -> None:
        try:
            self._control.request("lock", path=str(lock), wait_s=0)
        except CommandFailed:
            self._tell("Waiting for another build of the same environment to end")
            self._control.request("lock", path=str(lock), wait_s=LOCK_WAIT_S)

    def _build(self, recipe: Recipe, place: PurePosixPath) -> None:
        """Make everything aside and rename it, so that a half-built one is never found."""
        self._remove_left_overs(place)
        uv = self._ensure_uv()
        aside = place.with_name(f"{place.name}.tmp")
        lists = {"requirements.txt": recipe.requirements, "overrides.txt": recipe.overrides}
        self._tell(f"Making an environment with Python {recipe.python}")
        try:
            self._uv(
                uv, "venv", "--quiet", "--relocatable", "--python", recipe.interpreter, str(aside)
            )
            for name, lines in lists.items():
                content = "".join(f"{line}\n" for line in lines).encode()
                self._put(aside / name, content)
            self._tell(f"Installing {len(recipe.requirements)} packages and what they need")
            self._uv(
                uv, "pip", "install", "--python", str(aside / "bin" / "python"),
                "--requirements", str(aside / "requirements.txt"),
                "--overrides", str(aside / "overrides.txt"),
            )  # fmt: skip
            self._tell("Checking that everything can be imported")
            self._check(aside / "bin" / "python", recipe.imports)
            self._put(aside / MARKER, recipe.digest.encode())
            self._control.request("rename", source=str(aside), target=str(place))
        except EnvironmentSetupFailed:
            self._control.request("remove", paths=[str(aside)])
            raise

    def _remove_left_overs(self, place: PurePosixPath) -> None:
        """Remove what a build that was cut off has left; we hold its lock."""
        names = self._control.request("list", path=str(place.parent))[0]["names"]
        old = [name for name in names if name == place.name or name == f"{place.name}.tmp"]
        self._control.request("remove", paths=[str(place.parent / name) for name in old])

    def _check(self, python: PurePosixPath, imports: Sequence[str]) -> None:
        """Import everything, with the system's OpenMP library or the link to another one."""
        for program in (openmp.LINK_PROGRAM, "import " + ", ".join(imports)):
            argv = [str(python), "-I", "-c", program]
            self._run(argv, "does not work", lambda line: None, self.variables(python))

    def _uv(self, uv: PurePosixPath, *arguments: str) -> None:
        argv = [str(uv), *arguments, "--no-progress", "--color", "never"]
        self._run(argv, "could not be built", lambda line: self._tell(line, is_detail=True))

    def _run(
        self,
        argv: Sequence[str],
        what: str,
        on_line: Callable[[str], None],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        last: deque[str] = deque(maxlen=LAST_LINES)

        def on_frame(frame: dict[str, object]) -> None:
            line = str(frame.get("line", ""))
            last.append(line)
            if line.strip():
                on_line(line.strip())

        env = dict(variables or {})
        reply = self._control.request(
            "run", on_frame=on_frame, argv=list(argv), env=env, timeout_s=BUILD_S
        )[0]
        if reply["status"] != 0:
            words = "\n".join(last)
            raise EnvironmentSetupFailed(
                f"The Python environment on {self._machine.label} {what} "
                f"(status {reply['status']}). Its last words:\n{words}"
            )

    def _ensure_uv(self) -> PurePosixPath:
        """Return uv on the target, sending the client's own when it is not there.

        Raises:
            EnvironmentSetupFailed: The client's uv does not run there, and there is none.
        """
        program = find_uv()
        if program is None or not self._machine.runs_our_binaries:
            return self._uv_of_the_target()
        sha256 = hashlib.sha256(program.read_bytes()).hexdigest()
        place = self._root.uv(sha256[:DIGEST_LENGTH])
        if not self._exists(place):
            size = program.stat().st_size
            meter = TransferMeter(self._on_progress, "environment", "Sending uv", size)

            def produce(write: Callable[[bytes], None]) -> None:
                with program.open("rb") as file:
                    while chunk := file.read(COPY_BYTES):
                        write(chunk)
                        meter.add(len(chunk))

            self._control.send_stream(
                "receive_file", produce, path=str(place), sha256=sha256, mode=0o700
            )
            meter.finish()
        return place

    def _uv_of_the_target(self) -> PurePosixPath:
        try:
            self._run(["uv", "--version"], "could not be built", lambda line: None)
        except (CommandFailed, EnvironmentSetupFailed) as error:
            raise EnvironmentSetupFailed(
                f"uv is needed on {self._machine.label}, and the one of this machine does not run "
                f"on {self._machine.system} {self._machine.machine}. Install it there: "
                "https://docs.astral.sh/uv/getting-started/installation"
            ) from error
        return PurePosixPath("uv")

    def _put(self, path: PurePosixPath, content: bytes) -> None:
        self._control.request("put", content, path=str(path), mode=0o600)

    def _exists(self, path: PurePosixPath) -> bool:
        reply = self._control.request("status", paths=[str(path)])[0]
        return bool(reply["exist"][0])

    def _tell(self, text: str, fraction: float | None = None, *, is_detail: bool = False) -> None:
        self._on_progress(
            Progress(stage="environment", text=text, fraction=fraction, is_detail=is_detail)
        )


def uv_digest() -> str:
    """Name the client's own uv by what it is; empty where there is none."""
    program = find_uv()
    if program is None:
        return ""
    return hashlib.sha256(program.read_bytes()).hexdigest()[:DIGEST_LENGTH]


def default_index() -> str:
    """Give the address of the package index that uv uses where none is chosen, as its help says.

    Empty where there is no uv, or where its help says it no longer.
    """
    program = find_uv()
    if program is None:
        return ""
    done = subprocess.run(
        [str(program), "pip", "install", "--help", "--color", "never"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HELP_S,
        check=False,
    )
    found = re.search(
        r"--default-index.*?by default:\s*<(https?://[^>\s]+)>", done.stdout, re.DOTALL
    )
    return "" if found is None else found[1]


def find_uv() -> Path | None:
    """Find the uv program that was installed with this package."""
    try:
        from uv import find_uv_bin
    except ImportError:
        return None
    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        return None
