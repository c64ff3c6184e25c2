"""A user's terminal for tests: commands in a folder of their own, and a store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LIMIT_S = 240


@contextlib.contextmanager
def open_terminal(folder: Path, empty_database: Path) -> Iterator[Terminal]:
    """Give a terminal in a new folder with an empty store; end what runs in it at the end."""
    folder.mkdir()
    with_store(folder, empty_database)
    terminal = Terminal(folder)
    try:
        yield terminal
    finally:
        for process in terminal.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def with_store(folder: Path, empty_database: Path) -> str:
    """Put an empty store into a folder, as MLflow makes it there; give its address."""
    database = folder / "mlflow.db"
    shutil.copyfile(empty_database, database)
    with contextlib.closing(sqlite3.connect(database)) as store, store:
        where = f"{folder}/mlruns/0"
        store.execute("UPDATE experiments SET artifact_location = ?", (where,))
    return f"sqlite:///{database}"


@dataclass
class Terminal:
    """Runs commands as a user would, with a tracking store of its own."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri)

    def start(self, *argv: str | Path, stdin: str | None = None) -> subprocess.Popen[str]:
        """Start a command whose output can be read while it runs.

        Args:
            argv: The command.
            stdin: A line for its standard input.
        """
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "COLUMNS": "200",
        }
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        if process.stdin is not None:
            process.stdin.write(f"{stdin}\n")
            process.stdin.flush()
        return process

    def run(self, *argv: str | Path) -> tuple[int, str]:
        """Run a command to its end; give its exit status and all that it printed."""
        process = self.start(*argv)
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output

    def mlflow_run(
        self,
        project: Path = REPOSITORY,
        config: Mapping[str, object] | None = None,
        **params: object,
    ) -> tuple[int, str]:
        """Run `mlflow run PROJECT --backend automl-remote`."""
        return self.run(*self.mlflow_run_argv(project, config, **params))

    def mlflow_run_argv(
        self,
        project: Path = REPOSITORY,
        config: Mapping[str, object] | None = None,
        **params: object,
    ) -> list[str | Path]:
        argv: list[str | Path] = [BIN / "mlflow", "run", project, "--backend", "automl-remote"]
        if config is not None:
            (self.folder / "vm.json").write_text(json.dumps(config))
            argv += ["-c", "vm.json"]
        for name, value in params.items():
            argv += ["-P", f"{name}={value}"]
        return argv

    def automl_remote(self, *words: str) -> tuple[int, str]:
        """Run `automl-remote WORDS`."""
        return self.run(BIN / "automl-remote", *words)

    def runs(self, experiment_id: str = "0") -> list[Run]:
        """Give all runs of the store."""
        return list(self.client.search_runs([experiment_id], max_results=1000))

    def parent(self) -> Run:
        """Give the one parent run of the store."""
        (parent,) = (run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags)
        return parent

    def children(self, parent_run_id: str) -> list[Run]:
        """Give the nested runs of a parent, by iteration."""
        children = [
            run for run in self.runs() if run.data.tags.get("mlflow.parentRunId") == parent_run_id
        ]
        return sorted(children, key=lambda run: int(run.data.tags["automl_remote.iteration"]))
