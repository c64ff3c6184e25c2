"""Looks over what a sweep in a container needs: the engine, its image, its disk and its GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.checks import FEW_BYTES, Check, ok, problem, warning
from mlflow_automl_remote.compute.images import foresee_image
from mlflow_automl_remote.errors import EnvironmentSetupFailed

if TYPE_CHECKING:
    from docker import DockerClient

    from mlflow_automl_remote.compute.containers import ContainerSpec
    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.target import Connection
    from mlflow_automl_remote.compute.targets import TargetSpec


def container_checks(
    connection: Connection, container: ContainerSpec, gpus: str
) -> Iterator[Check]:
    """Look over what there is for the containers of a target; brings and changes nothing.

    Args:
        connection: To the target.
        container: In which its sweeps run.
        gpus: Those of the machine, in words.
    """
    with connection.control() as control:
        contained = connection.contained(control)
        try:
            with contained.engine() as (client, _):
                info = client.info()
                version = f"its engine {info.get('ServerVersion')} answers at {contained.socket}"
                yield ok("docker", version)
                yield _image(connection.spec, container, client)
                yield _disk(control, str(info.get("DockerRootDir") or "/var/lib/docker"))
        except EnvironmentSetupFailed as error:  # as a sweep would say it, with the remedy
            yield problem("docker", str(error))
    if container.gpus and not gpus:
        yield warning("gpu", "none found", "Leave out 'gpus', or look at the machine's driver.")
    else:
        yield ok("gpu", gpus or "none; it is not needed")


def _image(spec: TargetSpec, container: ContainerSpec, client: DockerClient) -> Check:
    try:
        return ok("image", foresee_image(client, container, spec.registry_login, spec.label))
    except EnvironmentSetupFailed as error:
        return problem("image", str(error))


def _disk(control: Control, folder: str) -> Check:
    """Say what room there is where the engine keeps images."""
    free_bytes = int(control.request("status", paths=[folder])[0]["disk_free_bytes"])
    text = f"{folder}: {free_bytes / 1e9:.1f} GB free"
    if free_bytes < FEW_BYTES:
        return warning("docker disk", text, "Make room for it there: docker system prune.")
    return ok("docker disk", text)
