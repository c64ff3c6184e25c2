"""Larger files of a project go over the link once, whatever they are called and wherever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sshd import SshServer

from mlflow_automl_remote.compute import Connection, Progress, connect, parse_target, scan_project
from mlflow_automl_remote.compute.project import Project

LARGE = 300_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "get_data.py").write_text("def get_data(): ...\n")
    (folder / "data" / "table.bin").write_bytes(os.urandom(LARGE))
    return folder


class Sender:
    """Sends projects, and counts what goes over the link."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.told: list[Progress] = []

    def send(self, packed: Project, name: str) -> tuple[int, Path]:
        """Give the bytes that were sent, and where they are."""
        connection = self._connection
        place = connection.root.workspace(name).project
        with connection.control() as control:
            n_bytes = connection._send(
                control, packed.files, place, "Sending", store=connection.root.data
            )
        return n_bytes, Path(place)


@pytest.fixture
def sender(sshd: SshServer, tmp_path: Path):
    with connect(parse_target(sshd.config(root=str(tmp_path / "root")))) as connection:
        yield Sender(connection)


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_only_what_changed_is_sent(sender: Sender, project: Path) -> None:
    """The same table, moved and beside a script that changed, is not sent again."""
    first, _ = sender.send(scan_project(project, {}), "first")
    assert first > LARGE
    (project / "data" / "table.bin").rename(project / "moved.bin")
    (project / "get_data.py").write_text("def get_data(): return {}\n")
    second, place = sender.send(scan_project(project, {}), "second")
    assert second < 30_000
    assert _content(place) == _content(project)
    (project / "moved.bin").write_bytes(os.urandom(LARGE))
    third, place = sender.send(scan_project(project, {}), "third")
    assert third > LARGE
    assert _content(place) == _content(project)


def test_a_file_that_was_changed_on_the_target_is_sent_again(
    sender: Sender, project: Path
) -> None:
    """Nobody can write to it, but for root; and what is there is read before it counts."""
    _, place = sender.send(scan_project(project, {}), "first")
    there = place / "data" / "table.bin"
    assert there.stat().st_mode & 0o777 == 0o400
    there.chmod(0o600)
    there.write_bytes(os.urandom(LARGE))
    second, place = sender.send(scan_project(project, {}), "second")
    assert second > LARGE
    assert _content(place) == _content(project)
