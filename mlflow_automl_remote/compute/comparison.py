"""Has two models compared on a target, where the data of a sweep is; leaves nothing there."""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute.preparation import BUILDERS, Preparation
from mlflow_automl_remote.compute.program import run_program
from mlflow_automl_remote.compute.progress import OnProgress, Progress, TransferMeter, ignore
from mlflow_automl_remote.compute.project import PackedFile
from mlflow_automl_remote.compute.recipe import Recipe, agent_recipe
from mlflow_automl_remote.compute.requirements import has_all, overrides
from mlflow_automl_remote.compute.sending import send_files
from mlflow_automl_remote.compute.wanted import Wanted
from mlflow_automl_remote.errors import SweepNotFound, TransportError

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.machine import Machine
    from mlflow_automl_remote.compute.target import Connection
    from mlflow_automl_remote.compute.workspace import Workspace

MODULE: Final = "mlflow_automl_remote.agent.comparing"
_CHECK_IMPORTS: Final = ("mlflow.pyfunc",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModel:
    """A model that the target does not have.

    Attributes:
        folder: On this machine, with its MLmodel; it is sent as bytes.
        requirements: Lines of a requirements file. It gets an environment of its own unless that
            of the agent fulfils them.
        python: Version of its interpreter, such as "3.11"; empty for any.
    """

    folder: Path
    requirements: tuple[str, ...]
    python: str = ""


def compare(
    connection: Connection,
    sweep_id: str,
    request: Mapping[str, object],
    incumbent: ForeignModel | None = None,
    on_progress: OnProgress = ignore,
) -> bytes:
    """Compare a model of a sweep with another one, on the rows of the sweep.

    Args:
        connection: To the target of the sweep.
        sweep_id: The sweep.
        request: What `agent.comparing` reads; it names the incumbent if that is of this sweep.
        incumbent: A model of elsewhere.
        on_progress: Is told what is being done.

    Returns:
        What the target wrote: JSON with an "evidence" or an "error".

    Raises:
        SweepNotFound: The workspace is gone.
        EnvironmentSetupFailed: The environment of the agent could not be built.
        CommandFailed: The comparison came to no end; the message has its last lines.
    """
    workspace, label = connection.root.workspace(sweep_id), connection.spec.label
    wanted = Wanted.from_json(connection.job(sweep_id).wanted())
    command = connection.prepare(wanted)
    place = workspace.comparison(uuid.uuid4().hex)
    with connection.where_programs_run() as (control, machine):
        _refuse_gone(control, workspace, label)
        try:
            if incumbent is not None:
                told = _send_model(
                    connection, control, machine, incumbent, wanted, place, on_progress
                )
                request = {**request, "incumbent": told}
            content = json.dumps(request).encode()
            control.request("put", content, path=str(place / "request.json"), mode=0o600)
            on_progress(Progress(stage="start", text=f"Comparing on {label}"))
            return run_program(control, command, MODULE, place, "evidence.json")
        finally:
            with contextlib.suppress(TransportError):
                control.request("remove", paths=[str(place)])


def _refuse_gone(control: Control, workspace: Workspace, label: str) -> None:
    needed = (workspace.settings, workspace.data)
    found = control.request("status", paths=[str(path) for path in needed])[0]["exist"]
    if not all(found):
        raise SweepNotFound(
            f"The data of the sweep '{workspace.sweep_id}' is gone from {label}: there is no "
            f"{needed[found.index(False)]}. Without it no model can be compared."
        )


def _send_model(  # noqa: PLR0913 - where, what, and whom to tell
    connection: Connection,
    control: Control,
    machine: Machine,
    model: ForeignModel,
    wanted: Wanted,
    place: PurePosixPath,
    on_progress: OnProgress,
) -> dict[str, object]:
    """Send a model and make its environment; say how it is to be loaded."""
    meter = TransferMeter(on_progress, "upload", "Sending the incumbent's model")
    send_files(control, _packed(model.folder), place / "incumbent", meter)
    agents = agent_recipe(machine, wanted, conda=connection.spec.env_manager == "conda")
    if _suits(connection, model, agents):
        return {}
    preparation = Preparation(connection.spec, machine, connection.root, on_progress)
    builder = preparation.builder(control)
    python = builder.ensure(_recipe(model, agents))
    return {"python": str(python), "variables": dict(builder.variables(python))}


def _suits(connection: Connection, model: ForeignModel, agents: Recipe) -> bool:
    """Whether the agent's environment loads a model as its own would."""
    spec = connection.spec
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    has_no_environment = spec.is_local and spec.container is None
    if model.python and model.python != (here if has_no_environment else agents.python):
        return False
    if has_no_environment:
        return has_all(model.requirements, made_of=None)
    # Where there is no recipe, nobody knows what the environment has.
    return spec.env_manager in BUILDERS and has_all(model.requirements, agents.requirements)


def _recipe(model: ForeignModel, agents: Recipe) -> Recipe:
    """Describe an environment; its Python is the agent's unless a model wants another one."""
    same = model.python in ("", agents.python)
    return Recipe(
        python=agents.python if same else model.python,
        interpreter=agents.interpreter if same else model.python,
        requirements=tuple(sorted(model.requirements)),
        overrides=overrides(),
        platform=agents.platform,
        imports=_CHECK_IMPORTS,
    )


def _packed(folder: Path) -> tuple[PackedFile, ...]:
    return tuple(
        PackedFile(
            name=path.relative_to(folder).as_posix(),
            path=path,
            size_bytes=path.stat().st_size,
            is_executable=False,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    )
