"""Every path on a target: nobody else joins them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from mlflow_automl_remote.errors import ConfigurationError

DEFAULT_ROOT: Final = "~/.automl-remote"
_SWEEP_ID: Final = re.compile(r"[a-z0-9-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Root:
    """The folder on a target that holds everything of ours."""

    path: PurePosixPath

    @classmethod
    def resolve(cls, root: str | None, home: str) -> Root:
        """Expand `~`, which is the home of the account on the target.

        Raises:
            ConfigurationError: The result is not an absolute path.
        """
        wanted = root or DEFAULT_ROOT
        path = (
            PurePosixPath(home, wanted[2:]) if wanted.startswith("~/") else PurePosixPath(wanted)
        )
        if not path.is_absolute() or ".." in path.parts:
            raise ConfigurationError(
                f"The 'root' of the backend config must be an absolute path. Got '{wanted}'."
            )
        return cls(path)

    def workspace(self, sweep_id: str) -> Workspace:
        """Return the workspace of a sweep."""
        return Workspace(self.path, sweep_id)

    @property
    def sweeps(self) -> PurePosixPath:
        """The folder of all workspaces."""
        return self.path / "sweeps"

    def environment(self, digest: str) -> PurePosixPath:
        """Return the folder of an environment, by the hash of what is in it."""
        return self.path / "environments" / _checked(digest)

    def package(self, digest: str) -> PurePosixPath:
        """Return the folder of one version of this package, by the hash of its files."""
        return self.path / "packages" / _checked(digest)

    @property
    def data(self) -> PurePosixPath:
        """The folder of larger files of projects, each of which is sent once."""
        return self.path / "data"

    @property
    def container_home(self) -> PurePosixPath:
        """The HOME of processes in containers: caches of theirs."""
        return self.path / "container-home"

    def uv(self, digest: str) -> PurePosixPath:
        """Return the uv program, by its hash."""
        return self.path / "uv" / _checked(digest) / "uv"


def ray_folder(workspace: PurePosixPath) -> PurePosixPath:
    """Give where the Ray of a sweep has its sockets, as `agent.ray_node` does."""
    name = hashlib.sha256(str(workspace).encode()).hexdigest()[:8]
    return PurePosixPath("/tmp", f"automl-remote-ray-{name}")  # noqa: S108 - only removed from here


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"'{digest}' is not a digest")
    return digest


@dataclass(frozen=True, slots=True)
class Place:
    """The files of a process of a sweep: who it is, the lock that it holds, what it prints."""

    name: str
    folder: PurePosixPath

    @property
    def lock(self) -> PurePosixPath:
        """The lock that it holds while it lives."""
        return self.folder / f"{self.name}.lock"

    @property
    def identity(self) -> PurePosixPath:
        """Which process it is; written by it once it has the lock."""
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> PurePosixPath:
        """All its output."""
        return self.folder / f"{self.name}.log"


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of one sweep.

    Args:
        root: Folder on the target that holds everything of ours.
        sweep_id: 1 to 64 lower-case letters, digits and hyphens.

    Raises:
        ConfigurationError: The id has another form.
    """

    root: PurePosixPath
    sweep_id: str

    def __post_init__(self) -> None:
        if not _SWEEP_ID.fullmatch(self.sweep_id):
            raise ConfigurationError(
                "A sweep id has 1 to 64 lower-case letters, digits and hyphens. "
                f"Got {self.sweep_id!r} instead."
            )

    @property
    def path(self) -> PurePosixPath:
        """The folder itself."""
        return self.root / "sweeps" / self.sweep_id

    @property
    def settings(self) -> PurePosixPath:
        """The settings of the sweep, as JSON."""
        return self.path / "settings.json"

    @property
    def wanted(self) -> PurePosixPath:
        """What the project wants of its environment, as JSON."""
        return self.path / "wanted.json"

    @property
    def warm_start(self) -> PurePosixPath:
        """What earlier sweeps found, as JSON, if this one begins with it."""
        return self.path / "warm_start.json"

    @property
    def project(self) -> PurePosixPath:
        """The user's project folder."""
        return self.path / "project"

    @property
    def journal(self) -> PurePosixPath:
        """The journal, appended to by the agent alone."""
        return self.path / "journal.jsonl"

    @property
    def artifacts(self) -> PurePosixPath:
        """The files that events of the journal name."""
        return self.path / "artifacts"

    @property
    def agent(self) -> Place:
        """The files of the agent."""
        return Place("agent", self.path)

    @property
    def target_publisher(self) -> Place:
        """The files of what publishes the sweep from the target, where that is asked for."""
        return Place("target-publisher", self.path)

    @property
    def agent_log(self) -> PurePosixPath:
        """All output of the agent."""
        return self.agent.log

    @property
    def agent_identity(self) -> PurePosixPath:
        """Which process the agent is; written by it once it has the lock."""
        return self.agent.identity

    @property
    def agent_lock(self) -> PurePosixPath:
        """The lock that the agent holds while it lives."""
        return self.agent.lock

    @property
    def container(self) -> PurePosixPath:
        """Which container the agent was started in, and behind which engine, if in one."""
        return self.path / "container.json"

    @property
    def container_spec(self) -> PurePosixPath:
        """What the sweep was submitted with, if it is for a container."""
        return self.path / "container-spec.json"

    @property
    def ray(self) -> PurePosixPath:
        """Where the Ray cluster of the sweep is, if it has one."""
        return self.path / "ray.json"

    @property
    def ray_token(self) -> PurePosixPath:
        """The word that all hosts of the sweep's own Ray cluster know."""
        return self.path / "ray-token"

    @property
    def client(self) -> PurePosixPath:
        """What the client that submitted the sweep wrote down: the parent run."""
        return self.path / "client.json"

    @property
    def publisher_lock(self) -> PurePosixPath:
        """Held for the one client that publishes the sweep."""
        return self.path / "publisher.lock"

    @property
    def published(self) -> PurePosixPath:
        """There once the finished sweep is in MLflow, whole."""
        return self.path / "published"

    @property
    def heartbeat(self) -> PurePosixPath:
        """Touched by the agent every few seconds."""
        return self.path / "heartbeat"

    @property
    def inbox(self) -> PurePosixPath:
        """Requests to the agent, a file each."""
        return self.path / "inbox"

    @property
    def data(self) -> PurePosixPath:
        """What `get_data()` returned."""
        return self.path / "data"

    def request(self, request_id: str) -> PurePosixPath:
        """Return the file of a request."""
        return self.inbox / f"{_checked(request_id)}.json"

    def comparison(self, comparison_id: str) -> PurePosixPath:
        """Return the folder of a comparison of models, which is removed after it."""
        return self.path / "comparisons" / _checked(comparison_id)

    def iteration_logs(self, iteration: int) -> tuple[PurePosixPath, ...]:
        """Return where the log of an iteration may be: while it runs, and once it is kept."""
        return (
            self.path / "work" / str(iteration) / "iteration.log",
            self.artifacts / "iterations" / f"{iteration:03d}" / "iteration.log",
        )
