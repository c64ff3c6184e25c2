"""A container that stands for a machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker_engine import Engine, Vm, engine, ensure_image, private_network, running_vm


@pytest.fixture(scope="session")
def docker_engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """An engine; the root file system of its image is kept in pytest's cache."""
    folder = pytestconfig.cache.mkdir("automl-remote-test-vm")
    with engine() as (client, url):
        yield Engine(client, url, ensure_image(client, folder))


@pytest.fixture(scope="session")
def container_vm(docker_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A bare machine."""
    folder = tmp_path_factory.mktemp("vm")
    client = docker_engine.client
    with (
        private_network(client) as network,
        running_vm(client, docker_engine.image, folder, network) as vm,
    ):
        yield vm
