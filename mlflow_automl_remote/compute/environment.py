"""The Python environment of an agent, built once on a target and found again by its hash."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute import openmp
from mlflow_automl_remote.compute.own_uv import find_uv
from mlflow_automl_remote.compute.progress import OnProgress, Progress, TransferMeter
from mlflow_automl_remote.compute.project import COPY_BYTES
from mlflow_automl_remote.compute.recipe import DIGEST_LENGTH, Recipe
from mlflow_automl_remote.errors import CommandFailed, EnvironmentSetupFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.machine import Machine
    from mlflow_automl_remote.compute.workspace import Root

    SendWheels = Callable[[Recipe, Control, PurePosixPath], None]

LOCK_WAIT_S: Final = 1800.0
BUILD_S: Final = 1800.0
"""For one step of the build; a slow package index is the usual reason for minutes."""
LAST_LINES: Final = 15
MARKER: Final = "automl-remote.ok"
MAX_LOG_LINES: Final = 10_000
CONDA: Final = (
    "conda", "mamba", "micromamba", "~/miniforge3/bin/conda", "~/miniconda3/bin/conda",
    "~/anaconda3/bin/conda", "/opt/conda/bin/conda",
)  # fmt: skip
"""Where conda is looked for on a target."""


class EnvironmentBuilder:
    """Builds environments on a target with uv, or with conda and then uv.

    Args:
        control: The helper on the target.
        machine: What the helper said of it.
        root: Our folder there.
        on_progress: Is told what is being done.
        send_wheels: Brings all wheels of a recipe there, for a target without an index.
    """

    def __init__(
        self,
        control: Control,
        machine: Machine,
        root: Root,
        on_progress: OnProgress,
        send_wheels: SendWheels | None = None,
    ) -> None:
        self._send_wheels = send_wheels
        self._log: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self._control = control
        self._machine = machine
        self._root = root
        self._on_progress = on_progress

    def ensure(self, recipe: Recipe) -> PurePosixPath:
        """Return the interpreter of an environment, building it when it is not there yet.

        Raises:
            EnvironmentSetupFailed: It could not be built; the message ends with uv's own words,
                and all of them are in a log beside its place.
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
        """Make everything aside and rename it, so that a half-built one is never found.

        What conda makes cannot be renamed: there it is the marker alone that tells.
        """
        self._remove_left_overs(place)
        self._log.clear()
        aside = place.with_name(f"{place.name}.tmp") if recipe.conda is None else place
        try:
            self._make(recipe, aside)
            if aside != place:
                self._control.request("rename", source=str(aside), target=str(place))
        except EnvironmentSetupFailed as error:
            self._control.request("remove", paths=[str(aside), f"{aside}-wheels"])
            log = place.with_name(f"{place.name}.log")
            self._put(log, "".join(f"{line}\n" for line in self._log).encode())
            raise EnvironmentSetupFailed(f"{error}\nAll of it is in {log} there.") from error

    def _make(self, recipe: Recipe, place: PurePosixPath) -> None:
        uv = self._ensure_uv()
        wheels = place.with_name(f"{place.name}-wheels")
        index: tuple[str, ...] = ()
        if self._send_wheels is not None:
            self._send_wheels(recipe, self._control, wheels)
            index = ("--no-index", "--find-links", str(wheels))
        python = place / "bin" / "python"
        self._tell(f"Making an environment with Python {recipe.python}")
        if recipe.conda is None:
            version = ("--python", recipe.interpreter)
            self._uv(uv, "venv", "--quiet", "--relocatable", *version, str(place))
        else:
            self._conda(recipe, place)
        lists = {"requirements.txt": recipe.requirements, "overrides.txt": recipe.overrides}
        for name, lines in lists.items():
            self._put(place / name, "".join(f"{line}\n" for line in lines).encode())
        self._tell(f"Installing {len(recipe.requirements)} packages and what they need")
        self._uv(
            uv, "pip", "install", "--python", str(python), *index,
            "--requirements", str(place / "requirements.txt"),
            "--overrides", str(place / "overrides.txt"),
        )  # fmt: skip
        self._tell("Checking that everything can be imported")
        self._check(python, recipe.imports)
        self._put(place / MARKER, recipe.digest.encode())
        if self._send_wheels is not None:
            self._control.request("remove", paths=[str(wheels)])

    def _conda(self, recipe: Recipe, place: PurePosixPath) -> None:
        """Let conda make an environment.

        Raises:
            EnvironmentSetupFailed: It is not there, or could not.
        """
        program = self._find_conda()
        channels = [word for channel in recipe.channels for word in ("--channel", channel)]
        packages = [f"python={recipe.python}", *(recipe.conda or ())]
        argv = [program, "create", "--yes", "--quiet", "--prefix", str(place), *channels]
        self._run([*argv, *packages], "could not be built", self._detail)

    def _find_conda(self) -> str:
        for name in CONDA:
            program = name.replace("~", self._machine.home, 1)
            argv = [program, "--version"]
            with contextlib.suppress(CommandFailed):
                done = self._control.request("run", argv=argv, env={}, timeout_s=BUILD_S)[0]
                if done["status"] == 0:
                    return program
        raise EnvironmentSetupFailed(
            f"'env_manager' is conda, but {self._machine.label} has none of {', '.join(CONDA)}. "
            "Install it there, or take 'uv', which needs nothing."
        )

    def _remove_left_overs(self, place: PurePosixPath) -> None:
        """Remove what a build that was cut off has left; we hold its lock."""
        names = self._control.request("list", path=str(place.parent))[0]["names"]
        endings = ("", ".tmp", ".log", "-wheels", ".tmp-wheels")
        left = {f"{place.name}{ending}" for ending in endings}
        old = [name for name in names if name in left]
        self._control.request("remove", paths=[str(place.parent / name) for name in old])

    def _check(self, python: PurePosixPath, imports: Sequence[str]) -> None:
        """Import everything, with the system's OpenMP library or the link to another one."""
        for program in (openmp.LINK_PROGRAM, "import " + ", ".join(imports)):
            argv = [str(python), "-I", "-c", program]
            self._run(argv, "does not work", lambda line: None, self.variables(python))

    def _uv(self, uv: PurePosixPath, *arguments: str) -> None:
        argv = [str(uv), *arguments, "--no-progress", "--color", "never"]
        self._run(argv, "could not be built", self._detail)

    def _detail(self, line: str) -> None:
        self._tell(line, is_detail=True)

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
            self._log.append(line)
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
