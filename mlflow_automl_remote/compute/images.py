"""The image of a container: found, pulled, or built on a base image and found by its hash."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Final

from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from mlflow_automl_remote.compute import engine
from mlflow_automl_remote.compute.helper.processes import chosen_environment
from mlflow_automl_remote.compute.progress import Progress, TransferMeter
from mlflow_automl_remote.errors import EnvironmentSetupFailed

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

    from mlflow_automl_remote.compute.containers import ContainerSpec
    from mlflow_automl_remote.compute.progress import OnProgress
    from mlflow_automl_remote.compute.registries import RegistryLogin

REPOSITORY: Final = "automl-remote"
DOCKERFILE: Final = """FROM {base}
RUN command -v python3 >/dev/null || {{ apt-get update \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
    python3 ca-certificates && rm -rf /var/lib/apt/lists/*; }}
"""
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
LOG_BYTES: Final = 4096


def ensure_image(
    client: DockerClient,
    container: ContainerSpec,
    login: RegistryLogin | None,
    label: str,
    on_progress: OnProgress,
) -> tuple[str, str]:
    """Give name and id of an image, which is pulled or built where it is not there.

    Args:
        client: The engine.
        container: Names it, or what it is built on.
        login: To its registry; None for what `docker login` has left on this client.
        label: The machine, as a person would name it.
        on_progress: Is told what is being done.

    Raises:
        EnvironmentSetupFailed: It can be neither.
    """
    name = _name(container)
    try:
        image = client.images.get(name)
    except ImageNotFound:
        if container.base_image:
            _tell(on_progress, f"Building an image on {container.base_image}")
            image = _built(client, container.base_image, login, label)
        else:
            _tell(on_progress, f"Pulling the image {name}")
            meter = TransferMeter(on_progress, "environment", f"Pulling the image {name}")
            image = _pulled(client, name, login, label, meter)
    return name, str(image.id).rpartition(":")[2][:12]


def _tell(on_progress: OnProgress, text: str) -> None:
    on_progress(Progress(stage="environment", text=text))


def foresee_image(
    client: DockerClient, container: ContainerSpec, login: RegistryLogin | None, label: str
) -> str:
    """Say where the image will come from, without bringing it.

    Raises:
        EnvironmentSetupFailed: From nowhere.
    """
    name, base = _name(container), container.base_image
    if _is_there(client, name):
        return f"there is one on {base} already" if base else f"{name} is there"
    source = base or name
    then = "build one on it" if base else "pull it"
    if _is_there(client, source):
        return f"{source} is there; a sweep will {then}"
    try:
        _sign_in(client, source, login)
        client.images.get_registry_data(source)
    except DockerException as error:
        refused = _cannot_build if base else _cannot_pull
        raise refused(source, label, error) from error
    return f"{source} can be pulled; a sweep will {then}"


def _name(container: ContainerSpec) -> str:
    if not container.base_image:
        return container.image
    return _name_of(_dockerfile(container.base_image))


def _name_of(dockerfile: bytes) -> str:
    return f"{REPOSITORY}:{hashlib.sha256(dockerfile).hexdigest()[:16]}"


def _dockerfile(base: str) -> bytes:
    return DOCKERFILE.format(base=base).encode()


def _is_there(client: DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _sign_in(client: DockerClient, image: str, login: RegistryLogin | None) -> None:
    if login is not None:
        login.sign_in(client, image)


def _pulled(
    client: DockerClient,
    name: str,
    login: RegistryLogin | None,
    label: str,
    meter: TransferMeter,
) -> Image:
    so_far: dict[str, int] = {}  # bytes, by layer
    sizes: dict[str, int] = {}
    try:
        _sign_in(client, name, login)
        for news in client.api.pull(name, stream=True, decode=True):
            if "error" in news:  # the SDK itself takes no notice
                raise DockerException(str(news["error"]))
            if news.get("status") in ("Downloading", "Download complete"):
                layer, detail = news["id"], news.get("progressDetail") or {}
                sizes[layer] = detail.get("total", sizes.get(layer, 0))
                now = detail.get("current", sizes[layer])
                meter.add(now - so_far.get(layer, 0))
                so_far[layer] = now
        image = client.images.get(name)
    except DockerException as error:
        raise _cannot_pull(name, label, error) from error
    meter.finish()
    return image


def _built(client: DockerClient, base: str, login: RegistryLogin | None, label: str) -> Image:
    content = _dockerfile(base)
    variables = chosen_environment(PROXIES, {})
    try:
        _sign_in(client, base, login)
        image, _ = client.images.build(
            fileobj=io.BytesIO(content),
            tag=_name_of(content),
            rm=True,
            network_mode="host",
            buildargs=variables,
        )
    except (BuildError, APIError) as error:
        raise _cannot_build(base, label, error) from error
    return image


def _cannot_pull(name: str, label: str, error: Exception) -> EnvironmentSetupFailed:
    said = engine.words(error)
    remedy = engine.remedy(said) or (
        "Check its name, log in to its registry with docker login on this machine or with "
        "'docker_auth', or bring it there (docker load)."
    )
    return EnvironmentSetupFailed(
        f"The image '{name}' is not on {label}, and its engine cannot pull it: {said}. {remedy}"
    )


def _cannot_build(base: str, label: str, error: Exception) -> EnvironmentSetupFailed:
    said = engine.words(error)
    log = getattr(error, "build_log", ())
    lines = "".join(str(line.get("stream", "")) for line in log)[-LOG_BYTES:].strip()
    remedy = engine.remedy(said) or (
        "Check the name of the 'base_image', which has to be a Debian or Ubuntu, or log in to its "
        "registry as for an 'image'."
    )
    return EnvironmentSetupFailed(
        f"An image cannot be built on '{base}' on {label}: {said}. {remedy}"
        + (f"\n{lines}" if lines else "")
    )
