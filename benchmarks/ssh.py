"""How long a target over SSH takes, beside OpenSSH doing the same by hand.

    python benchmarks/ssh.py                # loopback
    python benchmarks/ssh.py --delay-ms 25  # through a link of its own with 50 ms round trip

The server is an sshd of its own on a port of this machine; the link is a proxy in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute import Connection, TargetSpec, connect, parse_target
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.journal.codec import Record, decode, encode
from mlflow_automl_remote.journal.events import (
    ArtifactFile,
    IterationFinished,
    IterationStarted,
)
from mlflow_automl_remote.journal.replay import replay
from mlflow_automl_remote.publishing import ParentFacts
from mlflow_automl_remote.states import IterationState
from mlflow_automl_remote.sweep_run import SweepHandle

if TYPE_CHECKING:
    from sshd import SshServer

REPOSITORY = Path(__file__).resolve().parents[1]
N_FILES = 2000
LARGE_BYTES = 200_000_000
N_ITERATIONS = 100
DIGITS = """
from sklearn.datasets import load_digits

def get_data():
    X, y = load_digits(return_X_y=True)
    return {"X": X, "y": y}
"""


class Bench:
    """One machine, one link, and a folder for what is sent over it."""

    def __init__(self, server: SshServer, port: int, folder: Path, repeat: int) -> None:
        self.server = server
        self.port = port
        self.folder = folder
        self.repeat = repeat
        self.root = folder / "root"
        self.n_sweeps = 0

    @property
    def spec(self) -> TargetSpec:
        """The machine, with the interpreter of this process as its environment."""
        return parse_target(
            self.server.config(
                port=self.port, root=str(self.root), python=sys.executable, env_manager="local"
            )
        )

    def ssh(self, command: str) -> list[str]:
        """Give the words that run a command there."""
        return [
            "ssh", "-F", "none", "-p", str(self.port), "-i", str(self.server.key_file),
            "-o", f"UserKnownHostsFile={self.server.known_hosts}", "127.0.0.1", command,
        ]  # fmt: skip

    def by_hand(
        self, command: str, feed: list[str] | None = None, into: Path | None = None
    ) -> None:
        """Run `feed | ssh command`, or `ssh command | tar -x` into a folder."""
        if feed is not None:
            with subprocess.Popen(feed, stdout=subprocess.PIPE) as source:
                subprocess.run(self.ssh(command), stdin=source.stdout, check=True)
        elif into is not None:
            with subprocess.Popen(self.ssh(command), stdout=subprocess.PIPE) as source:
                subprocess.run(["tar", "-x", "-C", str(into)], stdin=source.stdout, check=True)
        else:
            subprocess.run(self.ssh(command), stdin=subprocess.DEVNULL, check=True)

    def time(self, action: Callable[[], object]) -> float:
        """Give the median of several times, in seconds."""
        times = []
        for _ in range(self.repeat):
            begin = time.monotonic()
            action()
            times.append(time.monotonic() - begin)
        return statistics.median(times)

    def compare(self, what: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        """Time the two and print their line."""
        mine, other = self.time(ours), self.time(theirs)
        print(f"{what:<34} {mine:8.2f} s {other:8.2f} s {mine / other:7.2f}", flush=True)

    def alone(self, what: str, seconds: float, bar_s: float | None = None) -> None:
        """Print the line of what OpenSSH cannot do."""
        told = "" if bar_s is None else f"  (bar: {bar_s:.0f} s on loopback)"
        print(f"{what:<34} {seconds:8.2f} s{told}", flush=True)


def connecting(bench: Bench) -> None:
    def ours() -> None:
        with connect(bench.spec):
            pass

    bench.compare("connect, helper ready / ssh true", ours, lambda: bench.by_hand("true"))


def attaching(bench: Bench) -> None:
    """Read a sweep of a hundred iterations from the beginning."""
    workspace = bench.root / "sweeps" / "full"
    workspace.mkdir(parents=True)
    (workspace / "journal.jsonl").write_bytes(b"".join(_journal()))
    facts = ParentFacts(sweep_id="full", target="vm", target_config="{}", workspace="")

    def ours() -> None:
        state, _ = SweepHandle("0" * 32, facts, bench.spec).state()
        assert len(state.finished) == N_ITERATIONS

    ours()  # what it imports is imported by whoever attaches, once
    bench.alone(f"re-attach to {N_ITERATIONS} iterations", bench.time(ours), 1.0)


def _journal() -> Iterator[bytes]:
    metrics = {f"metric_{number}": 0.9 for number in range(20)}
    files = tuple(
        ArtifactFile(path=f"iterations/000/file-{n}", size_bytes=1, sha256="0" * 64)
        for n in range(12)
    )
    for number in range(N_ITERATIONS):
        started = IterationStarted(
            iteration=number, scaler="MaxAbsScaler", model="LightGBM", params={"model__a": 1.0},
            proposed_by="optuna",
        )  # fmt: skip
        finished = IterationFinished(
            iteration=number, state=IterationState.COMPLETED, started_ms=0, ended_ms=1,
            metrics=metrics, fold_metrics={name: (0.9,) * 5 for name in metrics}, files=files,
        )  # fmt: skip
        for event in (started, finished):
            seq = 2 * number + (event is finished)
            yield encode(Record(seq=seq, time_ms=1, event=event))


def submitting(bench: Bench) -> None:
    """From nothing to the first iteration: connect, send, start, load data, begin.

    To when its process said that it had begun, not to the event that it was told to.
    """
    project = bench.folder / "digits"
    project.mkdir()
    (project / "get_data.py").write_text(DIGITS)
    config = AutoMLConfig(task="classification", iterations=2, model_explainability=False)

    def ours() -> float:
        begun = time.time()
        with _connected(bench) as connection:
            bench.n_sweeps += 1
            job = connection.submit(
                f"sweep-{bench.n_sweeps}", project, config.to_json(),
                needed=config.project_files,
            )  # fmt: skip
            job.request({"action": "begin"})
            seen = b""
            while b'"IterationFinished"' not in seen:
                seen += job.read_journal(len(seen), wait_s=10).data
            job.kill(grace_s=1.0)
            ended = replay(decode(line) for line in seen.splitlines() if line.endswith(b"}"))
            return min(one.started_ms for one in ended.iterations.values()) / 1000 - begun

    ours()
    took = statistics.median(ours() for _ in range(bench.repeat))
    bench.alone("warm submit to first iteration", took, 2.0)


@contextlib.contextmanager
def _connected(bench: Bench) -> Iterator[Connection]:
    with connect(bench.spec) as connection:
        command = connection.prepare()
        variables = {**command.variables, "PYTHONPATH": str(REPOSITORY)}
        connection._command = replace(command, variables=variables)
        yield connection


def sending(bench: Bench) -> None:
    """Send many files, and one large one that cannot be compressed."""
    many = bench.folder / "many"
    for number in range(N_FILES):
        path = many / f"part-{number % 20}" / f"module_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"value_{number} = {number}\n" * 300)
    large = bench.folder / "large"
    large.mkdir()
    (large / "data.bin").write_bytes(os.urandom(LARGE_BYTES))
    for what, folder in ((f"upload of {N_FILES} files", many), ("upload of 200 MB", large)):

        def ours(folder: Path = folder) -> None:
            with connect(bench.spec) as connection:
                from mlflow_automl_remote.compute import scan_project

                packed = scan_project(folder, {})
                place = bench.root / "sweeps" / "upload" / "project"
                shutil.rmtree(bench.root / "data", ignore_errors=True)  # or nothing is sent
                with connection.control() as control:
                    store = connection.root.data
                    connection._send(control, packed.files, place, "Sending", store=store)

        def theirs(folder: Path = folder) -> None:
            place = bench.folder / "by-hand"
            shutil.rmtree(place, ignore_errors=True)
            feed = ["tar", "-c", "-C", str(folder), "."]
            bench.by_hand(f"mkdir -p {place} && tar -x -C {place}", feed=feed)

        bench.compare(f"{what} / tar | ssh", ours, theirs)


def fetching(bench: Bench) -> None:
    """Bring a large file, verified."""
    artifacts = bench.root / "sweeps" / "large" / "artifacts"
    artifacts.mkdir(parents=True)
    content = os.urandom(LARGE_BYTES)
    (artifacts / "data.bin").write_bytes(content)
    file = ArtifactFile(
        path="data.bin", size_bytes=LARGE_BYTES, sha256=hashlib.sha256(content).hexdigest()
    )
    here = bench.folder / "here"

    def emptied() -> Path:
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        return here

    def ours() -> None:
        with connect(bench.spec) as connection:
            connection.job("large").fetch([file], emptied())

    bench.compare(
        "download of 200 MB / ssh | tar",
        ours,
        lambda: bench.by_hand(f"tar -c -C {artifacts} .", into=emptied()),
    )


STEPS = (connecting, attaching, submitting, sending, fetching)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="of each direction")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", help="for everything that is written")
    parser.add_argument("--only", nargs="*", choices=[one.__name__ for one in STEPS])
    asked = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from sshd import running_sshd
    from tcp_proxy import running_proxy

    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as name,
        running_sshd(Path(name) / "sshd") as server,
        contextlib.ExitStack() as undo,
    ):
        port = server.port
        if asked.delay_ms:
            proxy = undo.enter_context(running_proxy(port, asked.delay_ms / 1000))
            port = proxy.port
            key = server.known_hosts.read_text().partition(" ")[2]
            server.known_hosts.write_text(f"[127.0.0.1]:{port} {key}")
        bench = Bench(server, port, Path(name), asked.repeat)
        print(f"{'':<34} {'ours':>10} {'by hand':>10} {'ratio':>7}")
        for step in STEPS:
            if not asked.only or step.__name__ in asked.only:
                step(bench)


if __name__ == "__main__":
    main()
