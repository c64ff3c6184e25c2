"""A connection to a compute target: makes it ready, starts jobs there and finds them again."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mlflow_automl_remote.compute.helper_pool import HelperPool
from mlflow_automl_remote.compute.housekeeping import (
    Cleaned,
    Inventory,
    clean,
    take_inventory,
)
from mlflow_automl_remote.compute.job import Job, Liveness
from mlflow_automl_remote.compute.launching import KEPT_VARIABLES, AgentCommand, start_at_boot
from mlflow_automl_remote.compute.local import LocalTransport
from mlflow_automl_remote.compute.machine import Machine
from mlflow_automl_remote.compute.own_uv import uv_digest
from mlflow_automl_remote.compute.package import package_digest, package_files
from mlflow_automl_remote.compute.preparation import BUILDERS, Preparation
from mlflow_automl_remote.compute.program import run_program
from mlflow_automl_remote.compute.progress import (
    OnProgress,
    Progress,
    TransferMeter,
    ignore,
    megabytes,
)
from mlflow_automl_remote.compute.project import PackedFile, Project, scan_project
from mlflow_automl_remote.compute.recipe import NOTHING, agent_recipe
from mlflow_automl_remote.compute.sending import send_files
from mlflow_automl_remote.compute.wanted import Wanted, read_wanted
from mlflow_automl_remote.compute.workspace import Root, Workspace
from mlflow_automl_remote.errors import ConnectionLost, TransportError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import PurePosixPath
    from types import TracebackType

    from mlflow_automl_remote.compute.contained import Contained
    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.credentials import Credentials
    from mlflow_automl_remote.compute.helper.wire import Header
    from mlflow_automl_remote.compute.targets import TargetSpec
    from mlflow_automl_remote.compute.transport import Transport

AGENT_MODULE: Final = "mlflow_automl_remote.agent"
CHECK_MODULE: Final = f"{AGENT_MODULE}.check"


def connect(
    spec: TargetSpec, on_progress: OnProgress = ignore, credentials: Credentials | None = None
) -> Connection:
    """Connect to a target; the same work follows on every kind of it.

    Args:
        spec: The target.
        on_progress: Is told what is being done.
        credentials: Secrets of the login; None takes those of the target.

    Raises:
        ConnectFailed: The machine cannot be reached.
        HostKeyNotVerifiable: Its host key is unknown, changed or revoked.
        AuthenticationFailed: It does not let us in.
        EnvironmentSetupFailed: It has no Python that could run the control helper.
        ConnectionLost: The connection broke at once.
    """
    on_progress(Progress(stage="connect", text=f"Connecting to {spec.label}"))
    transport = _transport(spec, credentials)
    try:
        connection = Connection(transport, spec, on_progress)
    except BaseException:
        transport.close()
        raise
    machine = connection.machine
    cores = f"{machine.n_cores} core{'s' if machine.n_cores != 1 else ''}"
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB of memory"
    text = f"Connected to {spec.label}: {cores}, {memory}"
    on_progress(Progress(stage="connect", text=text, fraction=1.0))
    return connection


def _transport(spec: TargetSpec, credentials: Credentials | None) -> Transport:
    if spec.is_local:
        return LocalTransport()
    from mlflow_automl_remote.compute import ssh  # paramiko takes 0.1 s to import

    return ssh.connect(spec, spec.credentials() if credentials is None else credentials)


class Connection:
    """An open connection to a target. May be used by several threads.

    Attributes:
        spec: The target.
        machine: What it said of itself.
        root: Our folder on it.
        fingerprint: Of the host key that it showed; empty for this machine.
    """

    def __init__(self, transport: Transport, spec: TargetSpec, on_progress: OnProgress) -> None:
        self._transport = transport
        self._on_progress = on_progress
        self._helpers = HelperPool(transport, sys.executable if spec.is_local else spec.python)
        self._command: AgentCommand | None = None
        self.spec = spec
        self.fingerprint = transport.fingerprint
        with self.control() as control:
            self.machine = Machine.ask(control, transport.label)
        if spec.container is not None:
            self.machine = self.machine.within(spec.container.memory_gib, spec.container.cores)
        self.root = Root.resolve(spec.root, self.machine.home)

    def control(self) -> AbstractContextManager[Control]:
        """Lend a helper for one request after the other; a second thread gets a second helper."""
        return self._helpers.lend()

    def prepare(self, wanted: Wanted = NOTHING) -> AgentCommand:
        """Make sure that an agent can be started; what is there already is used again.

        Args:
            wanted: By the project, of the environment that it runs in.

        Raises:
            EnvironmentSetupFailed: The environment could not be built.
        """
        if self._command is None:
            if self.spec.container is not None:
                with self.where_programs_run() as (control, machine):
                    preparation = Preparation(self.spec, machine, self.root, self._on_progress)
                    self._command = preparation.run(control, wanted)
            elif self.spec.is_local:
                kept = (*KEPT_VARIABLES, "PYTHONPATH")
                self._command = AgentCommand(python=sys.executable, variables={}, kept=kept)
            else:
                preparation = Preparation(self.spec, self.machine, self.root, self._on_progress)
                with self.control() as control:
                    self._command = preparation.run(control, wanted)
        return self._command

    @contextlib.contextmanager
    def where_programs_run(self) -> Iterator[tuple[Control, Machine]]:
        """Lend a helper that sees what an agent sees, in a container where that has one."""
        with self.control() as control:
            if self.spec.container is None:
                yield control, self.machine
            else:
                with self.contained(control).inside() as inside:
                    yield inside

    def contained(self, control: Control) -> Contained:
        """Give the containers of a target that has one."""
        from mlflow_automl_remote.compute.contained import Contained  # docker takes 0.1 s

        return Contained(self.spec, self._transport, control, self.root, self._on_progress)

    def _wanted(self, project: Path) -> Wanted:
        """Read what a project wants, if that has a say in anything."""
        is_own = self.spec.is_local and self.spec.container is None
        builds = not is_own and self.spec.env_manager in BUILDERS
        return read_wanted(project) if builds else NOTHING

    def _send(
        self,
        control: Control,
        files: tuple[PackedFile, ...],
        place: PurePosixPath,
        what: str,
        **options: Any,
    ) -> int:
        """Send files, and tell how far that is; see `sending.send_files`."""
        meter = TransferMeter(self._on_progress, "upload", what)
        return send_files(control, files, place, meter, **options)

    def submit(
        self,
        sweep_id: str,
        project: Path,
        settings_json: str,
        *,
        needed: Mapping[str, str],
        warm_start_json: str | None = None,
        module: str = AGENT_MODULE,
    ) -> Job:
        """Start a sweep, and return once its agent has said that it runs.

        Submitting the same sweep again while it runs gives the same job.

        Args:
            sweep_id: 1 to 64 lower-case letters, digits and hyphens.
            project: The user's project folder.
            settings_json: The settings of the sweep, for the agent.
            needed: Files of the project that have to be sent, relative to it, by their setting.
            warm_start_json: What earlier sweeps found, for the agent; None for nothing.
            module: The agent.

        Raises:
            ConfigurationError: The project lacks a file that is needed.
            EnvironmentSetupFailed: The environment could not be built.
            CommandFailed: The target could not take the files, or the agent did not start.
        """
        packed, wanted = scan_project(project, needed), self._wanted(project)
        command = self.prepare(wanted)
        job = self.job(sweep_id)
        if job.liveness() is Liveness.ALIVE:
            return job
        self._send_project(job.workspace, packed, settings_json)
        with self.control() as control:
            content = wanted.as_json().encode()
            control.request("put", content, path=str(job.workspace.wanted), mode=0o600)
            if warm_start_json is not None:
                content = warm_start_json.encode()
                control.request("put", content, path=str(job.workspace.warm_start), mode=0o600)
            if self.spec.ray is not None:
                content = json.dumps({"address": self.spec.ray}).encode()
                control.request("put", content, path=str(job.workspace.ray), mode=0o600)
            if self.spec.container is not None:
                content = self.spec.container.as_json().encode()
                control.request("put", content, path=str(job.workspace.container_spec), mode=0o600)
            elif self.spec.resume_on_boot:
                start_at_boot(control, job.workspace, command, module)
        self.bring_hosts(job, needs_all=True)
        self.start(job, command, module)
        return job

    def bring_hosts(self, job: Job, *, needs_all: bool = False) -> None:
        """Let the other hosts of the target take part in a sweep that has been sent; see `hosts`.

        Args:
            job: The sweep.
            needs_all: Whether one that cannot be reached is an error.

        Raises:
            ConnectFailed: One cannot be reached from here, or by the others.
            EnvironmentSetupFailed: The environment of one could not be built.
        """
        if self.spec.others:
            from mlflow_automl_remote.compute import hosts  # which connects as this module does

            hosts.bring_up(
                self,
                job.workspace.sweep_id,
                Wanted.from_json(job.wanted()),
                self._on_progress,
                needs_all=needs_all,
            )

    def join(self, spec: TargetSpec, job: Job) -> None:
        """Let one more host take part in a sweep; see `hosts.join`."""
        from mlflow_automl_remote.compute import hosts  # as above

        wanted = Wanted.from_json(job.wanted())
        hosts.join(self, spec, job.workspace.sweep_id, wanted, self._on_progress)

    def abandon(self, job: Job) -> None:
        """End a sweep that did not begin, and remove what there is of it."""
        job.kill()
        job.remove()
        if self.spec.others:
            from mlflow_automl_remote.compute import hosts  # as above

            hosts.abandon(self.spec.others, job.workspace.sweep_id)

    def _send_project(self, workspace: Workspace, packed: Project, settings_json: str) -> None:
        n_files = f"{len(packed.files)} file{'s' if len(packed.files) != 1 else ''}"
        what = f"Sending the project ({n_files}, {megabytes(packed.n_bytes)} before compression)"
        with self.control() as control:
            store = self.root.data
            self._send(control, packed.files, workspace.project, what, store=store)
            settings = settings_json.encode()
            control.request("put", settings, path=str(workspace.settings), mode=0o600)

    def check_data(
        self, check_id: str, project: Path, settings_json: str, *, needed: Mapping[str, str]
    ) -> bytes:
        """Look the data of a project over on the target, and leave nothing of it there.

        Args:
            check_id: Names its workspace, as the id of a sweep does.
            project: The user's project folder.
            settings_json: The settings of a sweep.
            needed: Files of the project that have to be sent, as for `submit`.

        Returns:
            What the check wrote: JSON with a "summary" or an "error".

        Raises:
            CommandFailed: It came to no end; the message has the last lines of its output.
        """
        packed = scan_project(project, needed)
        command = self.prepare(self._wanted(project))
        workspace = self.root.workspace(check_id)
        try:
            self._send_project(workspace, packed, settings_json)
            self._on_progress(Progress(stage="start", text="Looking the data over"))
            with self.where_programs_run() as (control, _):
                return run_program(control, command, CHECK_MODULE, workspace.path, "check.json")
        finally:
            with contextlib.suppress(TransportError), self.control() as control:
                control.request("remove", paths=[str(workspace.path)])

    def start(
        self, job: Job, command: AgentCommand | None = None, module: str = AGENT_MODULE
    ) -> None:
        """Start the agent of a workspace that has been sent before.

        Raises:
            CommandFailed: The agent did not start.
        """
        self._on_progress(Progress(stage="start", text="Starting the agent"))
        command = command or self.prepare(Wanted.from_json(job.wanted()))
        if self.spec.container is None:
            agent = job.start(command, module)
        else:
            with self.control() as control:
                agent = self.contained(control).launch(
                    job, command, module, is_published=job.is_published()
                )
        text = f"The agent runs on {self.spec.label} as process {agent.pid}"
        self._on_progress(Progress(stage="start", text=text, fraction=1.0))

    def probe(self, index: str) -> tuple[Header, float]:
        """Ask what a doctor wants to know, and how far the target's clock is ahead, in s."""
        with self.control() as control:
            asked_s = time.time()
            reply = control.request("probe", root=str(self.root.path), index=index)[0]
            took_s = time.time() - asked_s
        # the clock is the first thing that the helper looks at
        ahead_s = float(reply["time_s"]) - asked_s
        return reply, ahead_s if ahead_s < 0 else max(0.0, ahead_s - took_s)

    def noise(self) -> bytes:
        """Give what start-up files printed before the helper spoke."""
        with self.control() as control:
            return control.noise

    def n_sessions(self, at_most: int) -> int:
        """Count how many sessions the target allows at a time, trying up to so many."""
        with contextlib.ExitStack() as undo:
            n_open = self._helpers.n_idle
            while n_open < at_most:
                try:
                    undo.callback(self._transport.open(["cat"]).close)
                except ConnectionLost:
                    break
                n_open += 1
            return n_open

    def inventory(self) -> Inventory:
        """List the sweeps on the target, and what takes up room there."""
        with self.control() as control:
            return take_inventory(control, self.root)

    def clean(self, *, discard: bool) -> Cleaned:
        """Remove what is not needed any more; see `housekeeping.clean`."""
        recipe = agent_recipe(self.machine)
        current = {recipe.digest, package_digest(package_files()), uv_digest()}
        with self.control() as control:
            return clean(control, self.root, current, discard=discard)

    def job(self, sweep_id: str) -> Job:
        """Return the handle of a sweep, whether or not there is one of that name."""
        return Job(self.control, self.root.workspace(sweep_id), self.spec.label)

    def close(self) -> None:
        """Close the connection; jobs go on."""
        self._helpers.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
