"""A real sweep, recorded once, that plays again on a machine over SSH behind a link that fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from data_scripts import WINE
from mlflow import MlflowClient
from sshd import SshServer
from tcp_proxy import Proxy, running_proxy
from user_terminal import BIN, with_store
from waiting import LIMIT_S

from mlflow_automl_remote import following, sweep_run
from mlflow_automl_remote.compute import Connection, Job, TargetSpec, connect, parse_target
from mlflow_automl_remote.compute import control as compute_control
from mlflow_automl_remote.following import Listener
from mlflow_automl_remote.journal.replay import SweepState
from mlflow_automl_remote.publishing import ParentFacts
from mlflow_automl_remote.sweep_run import SweepHandle

SETTINGS = """
task: classification
iterations: 3
max_concurrent_iterations: 1
allowed_models: [KNN, LogisticRegression]
n_cross_validations: 3
model_explainability: false
enable_voting_ensemble: false
"""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The workspace of a sweep of three iterations that a real agent has carried out."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "get_data.py").write_text(WINE)
    (folder / "automl.yaml").write_text(SETTINGS)
    environment = {
        **os.environ,
        "AUTOML_REMOTE_HOME": str(folder / "root"),
        "MLFLOW_TRACKING_URI": with_store(folder, empty_database),
        "HOME": str(folder),
    }
    subprocess.run(
        [BIN / "automl-remote", "sweep"],
        cwd=folder, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    (workspace,) = (folder / "root" / "sweeps").iterdir()
    return workspace


@dataclass
class Follow:
    """A client that follows a sweep, in a thread.

    Attributes:
        notices: What it has told.
        states: What it has seen.
    """

    run: SweepHandle
    take_over: bool = False
    notices: list[str] = field(default_factory=list)
    states: list[SweepState] = field(default_factory=list)
    error: BaseException | None = None
    _thread: threading.Thread | None = None

    def start(self) -> Follow:
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def _follow(self) -> None:
        listener = Listener(on_state=self.states.append, on_notice=self.notices.append)
        try:
            self.run.follow(listener, take_over=self.take_over)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def result(self) -> SweepState:
        """Wait for the end."""
        assert self._thread is not None
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), self.notices
        if self.error is not None:
            raise self.error
        return self.states[-1]

    def told(self, words: str) -> bool:
        """Whether it has told something."""
        return any(words in notice for notice in self.notices)

    @property
    def n_seen(self) -> int:
        """How many events it has seen.

        Raises:
            BaseException: It has ended by that.
        """
        if self.error is not None:
            raise self.error
        return self.states[-1].n_events if self.states else 0


@dataclass
class Playing:
    """A recorded sweep that plays on a machine.

    Attributes:
        job: The handle of its agent, not through the link.
        n_lines: Of the recorded journal.
    """

    job: Job
    spec: TargetSpec
    n_lines: int
    database: Path
    run_id: str
    proxy: Proxy

    def play(self, n_events: int | None = None) -> None:
        """Let the agent write so many events; all by default."""
        pace = Path(self.job.workspace.path) / "pace"
        pace.with_name("pace.new").write_text(str(self.n_lines if n_events is None else n_events))
        pace.with_name("pace.new").replace(pace)

    @property
    def run(self) -> SweepHandle:
        facts = ParentFacts(
            sweep_id=self.job.workspace.sweep_id,
            target=self.spec.label,
            target_config=self.spec.as_json(),
            workspace=str(self.job.workspace.path),
        )
        return SweepHandle(self.run_id, facts, self.spec)

    def has_publisher(self) -> bool:
        """Whether some client has the right to publish."""
        lock = Path(self.job.workspace.path) / "publisher.lock"
        return lock.exists() and lock.stat().st_size > 0

    def follow(self, **options: Any) -> Follow:
        return Follow(self.run, **options).start()

    def store(self) -> dict[str, object]:
        """Give all that MLflow shows of the sweep, without ids and where it is."""
        client = MlflowClient(f"sqlite:///{self.database}")
        runs = client.search_runs(["0"])
        shown: dict[str, object] = {"n_runs": len(runs)}
        for run in runs:
            name = run.data.tags.get("automl_remote.iteration", "parent")
            assert name not in shown, f"iteration {name} is there twice"
            shown[name] = {
                "status": run.info.status,
                "params": run.data.params,
                "metrics": {
                    key: sorted(
                        (m.step, m.value, m.timestamp)
                        for m in client.get_metric_history(run.info.run_id, key)
                    )
                    for key in run.data.metrics
                },
                "artifacts": sorted(_paths(client, run.info.run_id)),
                "n_models": len(run.outputs.model_outputs) if run.outputs else 0,
                "state": run.data.tags.get("automl_remote.state"),
            }
        return shown


def _paths(client: MlflowClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _paths(client, run_id, entry.path)
        else:
            yield entry.path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is waited for: silence 3 s for 20, retries 0.1 s for 1, news 1 s for 10."""
    source = compute_control.helper_source().replace("BEAT_S = 4.0", "BEAT_S = 0.2")
    monkeypatch.setattr(compute_control, "helper_source", lambda: source)
    monkeypatch.setattr(compute_control, "SILENCE_S", 3.0)
    monkeypatch.setattr("mlflow_automl_remote.compute.ssh.CONNECT_S", 3.0)
    monkeypatch.setattr("mlflow_automl_remote.compute.sockets.CONNECT_S", 3.0)
    for module in (following, sweep_run):
        monkeypatch.setattr(module, "FIRST_RETRY_S", 0.1)
        monkeypatch.setattr(module, "LONGEST_RETRY_S", 0.5)
    monkeypatch.setattr(following, "POLL_S", 1.0)


Start = Callable[..., Playing]


@pytest.fixture
def start(
    own_sshd: SshServer,
    tmp_path: Path,
    recorded: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
) -> Iterator[Start]:
    """Begin to play a recorded sweep on a machine; a number tells several apart."""
    with contextlib.ExitStack() as undo:
        proxy = undo.enter_context(running_proxy(own_sshd.port))
        name = f"[127.0.0.1]:{proxy.port}"
        body = own_sshd.known_hosts.read_text().partition(" ")[2]
        with own_sshd.known_hosts.open("a") as file:
            file.write(f"{name} {body}")

        def begin(number: int = 0, recorded: Path = recorded) -> Playing:
            root = tmp_path / "root"
            project = tmp_path / "project"
            project.mkdir(exist_ok=True)
            (project / "get_data.py").write_text(WINE)
            options = {"root": str(root), "env_manager": "local"}
            direct = undo.enter_context(connect(TargetSpec(root=str(root))))
            job = _start_agent(direct, f"sweep-{number}", project, recorded)
            undo.callback(job.kill, grace_s=0.1)
            database = tmp_path / f"mlflow-{number}.db"
            shutil.copyfile(empty_database, database)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
            monkeypatch.chdir(tmp_path)
            run = MlflowClient(f"sqlite:///{database}").create_run("0")
            return Playing(
                job=job,
                spec=parse_target(own_sshd.config(port=proxy.port, **options)),
                n_lines=len((recorded / "journal.jsonl").read_bytes().splitlines()),
                database=database,
                run_id=run.info.run_id,
                proxy=proxy,
            )

        yield begin


def _start_agent(connection: Connection, sweep_id: str, project: Path, recorded: Path) -> Job:
    command = connection.prepare()
    variables = {"PYTHONPATH": str(Path(__file__).parent)}
    connection._command = replace(command, python=sys.executable, variables=variables)
    workspace = Path(connection.root.workspace(sweep_id).path)
    workspace.mkdir(parents=True)
    (workspace / "pace").write_text("0")
    return connection.submit(
        sweep_id,
        project,
        f'{{"recorded": "{recorded}"}}',
        needed={"data_script": "get_data.py"},
        module="scripted_agent",
    )


@pytest.fixture
def undisturbed(start: Start) -> dict[str, object]:
    """What the store has after nothing went wrong."""
    playing = start(99)
    playing.play()
    playing.follow().result()
    return playing.store()
