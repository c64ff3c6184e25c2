"""Makes a machine over SSH ready for an agent: its environment, and our package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.compute import wheelhouse
from mlflow_automl_remote.compute.environment import EnvironmentBuilder
from mlflow_automl_remote.compute.launching import AgentCommand
from mlflow_automl_remote.compute.package import package_digest, package_files
from mlflow_automl_remote.compute.progress import OnProgress, Progress, TransferMeter
from mlflow_automl_remote.compute.project import PackedFile
from mlflow_automl_remote.compute.ray_cluster import requirement
from mlflow_automl_remote.compute.recipe import Recipe, agent_recipe
from mlflow_automl_remote.compute.sending import send_files

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.machine import Machine
    from mlflow_automl_remote.compute.targets import TargetSpec
    from mlflow_automl_remote.compute.wanted import Wanted
    from mlflow_automl_remote.compute.workspace import Root

BUILDERS: Final = ("uv", "conda")
"""Values of `env_manager` with which there is an environment to build."""


class Preparation:
    """What is done for an agent before it can be started; what is there already is used again.

    Args:
        spec: The target.
        machine: What its helper said of it.
        root: Our folder there.
        on_progress: Is told what is being done.
    """

    def __init__(
        self, spec: TargetSpec, machine: Machine, root: Root, on_progress: OnProgress
    ) -> None:
        self._spec = spec
        self._machine = machine
        self._root = root
        self._on_progress = on_progress

    def run(self, control: Control, wanted: Wanted) -> AgentCommand:
        """Give the command that starts an agent.

        Raises:
            EnvironmentSetupFailed: The environment could not be built.
        """
        python, variables = self._machine.executable, {}
        if self._spec.env_manager in BUILDERS:
            builder = self.builder(control)
            conda = self._spec.env_manager == "conda"
            if self._spec.is_cluster:
                wanted = replace(wanted, requirements=(*wanted.requirements, requirement()))
            interpreter = builder.ensure(agent_recipe(self._machine, wanted, conda=conda))
            python = str(interpreter)
            variables = dict(builder.variables(interpreter))
        package = self._send_package(control)
        return AgentCommand(python=python, variables={**variables, "PYTHONPATH": str(package)})

    def builder(self, control: Control) -> EnvironmentBuilder:
        """Give what builds environments there."""
        wheels = self._send_wheels if self._spec.wheelhouse else None
        return EnvironmentBuilder(
            control, self._machine, self._root, self._on_progress, send_wheels=wheels
        )

    def _send_package(self, control: Control) -> PurePosixPath:
        """Put this version of our package on the target unless it is there."""
        files = package_files()
        place = self._root.package(package_digest(files))
        if not control.request("status", paths=[str(place)])[0]["exist"][0]:
            meter = TransferMeter(self._on_progress, "upload", "Sending the agent's program")
            send_files(control, files, place, meter, keep=True)
        return place

    def _send_wheels(self, recipe: Recipe, control: Control, place: PurePosixPath) -> None:
        def tell(text: str) -> None:
            self._on_progress(Progress(stage="environment", text=text))

        with wheelhouse.downloaded(recipe, self._machine, tell) as folder:
            wheels = tuple(
                PackedFile(
                    name=path.name,
                    path=path,
                    size_bytes=path.stat().st_size,
                    is_executable=False,
                )
                for path in sorted(folder.iterdir())
            )
            meter = TransferMeter(
                self._on_progress, "environment", f"Sending {len(wheels)} wheels"
            )
            send_files(control, wheels, place, meter)
