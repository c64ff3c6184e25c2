"""What the helper does with containers: says who we are to the engine, removes what is ours."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH118

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import urllib.parse
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper import files, probe, processes

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.helper.wire import Header

ANSWER_S = 30.0
NOTE = "container.json"  # in a workspace: the container that its agent was started in


def account(request: Header) -> Header:
    """Say who we are, whether the engine lets us in, and what containers get from us."""
    files.make_folder(request["folder"])
    return {
        "uid": os.getuid(),
        "gid": os.getgid(),
        "docker": probe.docker(request["socket"]),
        "variables": processes.chosen_environment(request["keep"], {}),
    }


def remove(workspaces: list[str]) -> None:
    """End and remove the containers of workspaces; most have none, and one may be gone already."""
    for path in workspaces:
        try:
            note = json.loads(processes.read_text(os.path.join(path, NOTE)))
            place, name = str(note["socket"]), str(note["name"])
        except (ValueError, KeyError, TypeError):
            continue
        with contextlib.suppress(OSError, http.client.HTTPException), _Engine(place) as engine:
            engine.request("DELETE", f"/containers/{urllib.parse.quote(name, safe='')}?force=1")
            engine.getresponse().read()


class _Engine(http.client.HTTPConnection):
    """A connection to the Docker engine behind a socket."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self._path)

    def __enter__(self) -> _Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
