"""The image of a container: found, pulled, or built on a base image and found by its hash."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Final

from docker.errors import APIError, BuildError, ImageNotFound, NotFound

from mlflow_automl_remote.compute import engine
from mlflow_automl_remote.compute.helper.processes import chosen_environment
from mlflow_automl_remote.errors import EnvironmentSetupFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

    from mlflow_automl_remote.compute.containers import ContainerSpec

REPOSITORY: Final = "automl-remote"
DOCKERFILE: Final = """FROM {base}
RUN command -v python3 >/dev/null || {{ apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
    python3 ca-certificates && rm -rf /var/lib/apt/lists/*; }}
"""
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
LOG_BYTES: Final = 4096


def ensure_image(
    client: DockerClient, container: ContainerSpec, label: str, tell: Callable[[str], None]
) -> tuple[str, str]:
    """Give name and id of an image, which is pulled or built where it is not there.

    Args:
        client: The engine.
        container: Names it, or what it is built on.
        label: The machine, as a person would name it.
        tell: Is told what is being done.

    Raises:
        EnvironmentSetupFailed: It can be neither.
    """
    if container.base_image:
        return _built(client, container.base_image, tell)
    try:
        image = client.images.get(container.image)
    except ImageNotFound:
        tell(f"Pulling the image {container.image}")
        repository, tag = _split_tag(container.image)
        try:
            image = client.images.pull(repository, tag=tag)
        except (NotFound, APIError) as error:
            raise EnvironmentSetupFailed(
                f"The image '{container.image}' is not on {label}, and its engine "
                f"cannot pull it: {engine.words(error)}. Check its name, log in to its registry "
                "with docker login on this machine, or bring it there (docker load)."
            ) from error
    return container.image, str(image.id).rpartition(":")[2][:12]


def _built(client: DockerClient, base: str, tell: Callable[[str], None]) -> tuple[str, str]:
    content = DOCKERFILE.format(base=base).encode()
    name = f"{REPOSITORY}:{hashlib.sha256(content).hexdigest()[:16]}"
    try:
        image = client.images.get(name)
    except ImageNotFound:
        tell(f"Building an image on {base}")
        variables = chosen_environment(PROXIES, {})
        try:
            image, _ = client.images.build(
                fileobj=io.BytesIO(content), tag=name, rm=True, network_mode="host",
                buildargs=variables,
            )  # fmt: skip
        except BuildError as error:
            lines = [str(line.get("stream", "")) for line in error.build_log]
            words = "".join(lines)[-LOG_BYTES:].strip()
            raise EnvironmentSetupFailed(
                f"An image cannot be built on '{base}' ('base_image'): {engine.words(error)}.\n"
                f"{words}"
            ) from error
    return name, str(image.id).rpartition(":")[2][:12]


def _split_tag(image: str) -> tuple[str, str | None]:
    if "@" in image:
        return image, None
    head, _, last = image.rpartition("/")
    name, sign, tag = last.partition(":")
    return (f"{head}/{name}" if head else name), tag if sign else "latest"
