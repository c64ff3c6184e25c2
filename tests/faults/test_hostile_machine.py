"""A machine that means harm: what it sends is refused, in one line and little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sshd import SshServer
from user_terminal import BIN

from mlflow_automl_remote.compute import TargetSpec, connect, parse_target
from mlflow_automl_remote.errors import ConnectionLost
from mlflow_automl_remote.publishing import parent_run

MAX_MEMORY_BYTES = 300 * 10**6
CLIENT = """
import sys
import mlflow
from mlflow_automl_remote.compute import TargetSpec
from mlflow_automl_remote.errors import AutoMLRemoteError
from mlflow_automl_remote.publishing import ParentFacts
from mlflow_automl_remote.sweep_run import SweepHandle
facts = ParentFacts(sweep_id="hostile", target="vm", target_config="{}", workspace="")
run = SweepHandle("0" * 32, facts, TargetSpec.from_json(sys.argv[1]))
try:
    run.state()
    print("accepted")
except AutoMLRemoteError as error:
    print(type(error).__name__, error)
# Not getrusage: what that gives begins with the memory of the process that started this one.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(peak.split()[1]) * 1024)
"""


SCRIPT = "</script><script>alert(1)</script>"
DRIVES_TERMINALS = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
IN_MARKDOWN = "<img src=x onerror=alert(1)>|[a](javascript:alert(1))\n\n# b"


def line(number: int) -> bytes:
    """Make a journal line that is as honest as it can look."""
    data = {
        "iteration": number, "scaler": "MaxAbsScaler", "model": "LightGBM", "params": {},
        "proposed_by": "optuna", "attempt": 1,
    }  # fmt: skip
    return checked({"v": 1, "seq": number, "time_ms": 1, "type": "IterationStarted", "data": data})


def checked(content: object) -> bytes:
    """Make a journal line with its checksum."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return body[:-1] + b',"crc32":"%08x"}\n' % zlib.crc32(body)


def look(spec: TargetSpec) -> tuple[str, int]:
    """Read a sweep in a process of its own; give what it says and the memory that it took."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, spec.as_json()],
        check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    said, memory = done.stdout.strip().rsplit("\n", 1)
    return said, int(memory)


@pytest.mark.parametrize("journal", ["millions of lines", "a line of 1 GB", "1 GB of nothing"])
def test_a_journal_without_end_is_refused_in_little_memory(
    sshd: SshServer, tmp_path: Path, journal: str
) -> None:
    """So many events that no sweep has them, a line that never ends, holes: none is read on."""
    workspace = tmp_path / "root" / "sweeps" / "hostile"
    workspace.mkdir(parents=True)
    path = workspace / "journal.jsonl"
    with path.open("wb") as file:
        if journal == "millions of lines":
            file.writelines(map(line, range(60_000)))
            file.truncate(10_000_000 * 200)  # nobody gets that far
        elif journal == "a line of 1 GB":
            file.write(line(0) + b'{"v":1,"seq":1,' + b" " * 5_000_000)
            file.truncate(10**9)
        else:
            file.truncate(10**9)
    said, memory = look(parse_target(sshd.config(root=str(tmp_path / "root"))))
    assert said.startswith("JournalCorrupted The journal is not that of a sweep"), said
    assert memory < MAX_MEMORY_BYTES


def test_a_helper_that_lies_about_lengths_is_not_believed(sshd: SshServer, tmp_path: Path) -> None:
    """Frames of gigabytes, and headers nested without end."""
    for number, frame in enumerate(
        (
            "struct.pack('>II', 2**31, 0)",
            "struct.pack('>II', 2, 2**31) + b'{}'",
            "struct.pack('>II', 2000000, 0) + b'[' * 2000000",
            "b'HTTP/1.1 200 OK\\r\\n\\r\\n'",
        )
    ):
        program = tmp_path / f"python-{number}"
        program.write_text(
            f"#!{sys.executable}\n"
            "import re, struct, sys\n"
            "stdin = sys.stdin.buffer\n"
            "text = stdin.read(int(stdin.readline()))\n"
            "marker = re.search(rb'automl-remote-[0-9a-f]{32}', text)[0]\n"
            f"sys.stdout.buffer.write(marker + b'\\n' + {frame})\n"
            "sys.stdout.buffer.flush()\n"
            "stdin.read()\n"
        )
        program.chmod(0o755)
        with pytest.raises(ConnectionLost, match="sent something else than frames"):
            connect(parse_target(sshd.config(python=str(program))))


def test_names_neither_drive_the_terminal_nor_a_page(
    start, recorded: Path, tmp_path: Path
) -> None:
    """Escape sequences, scripts and Markdown in the names of pipelines are shown as text."""
    playing = start(0, _with_evil_names(recorded, tmp_path / "evil"))
    parent_run.remember(playing.run_id, playing.run.facts)
    playing.play()
    done = subprocess.run(
        [BIN / "automl-remote", "follow", playing.run_id],
        check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=280,
    )  # fmt: skip
    said = done.stdout.decode()
    assert "alert(1)" in said
    client = MlflowClient()
    runs = client.search_runs(["0"])
    assert len(runs) == 4
    texts = [said, done.stderr.decode()]
    pages = []
    for run in runs:
        texts += [run.info.run_name or "", *run.data.metrics, *run.data.tags.values()]
        texts += [word for pair in run.data.params.items() for word in pair]
        pages.append(run.data.tags.get("mlflow.note.content", ""))
        assert "](javascript:" not in pages[-1]
        folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        pages += [path.read_text() for path in folder.rglob("*.html")]
    assert len(pages) > len(runs)
    for text in (*texts, *pages):
        assert not set(text) & set("\x1b\x07\x9b\u202e"), text
    for page in pages:
        assert SCRIPT not in page
        assert "<img" not in page


def _with_evil_names(recorded: Path, played: Path) -> Path:
    """Write a recorded sweep once more, with other names of models and metrics."""
    evil = {"KNN": SCRIPT + DRIVES_TERMINALS, "LogisticRegression": IN_MARKDOWN}
    evil |= {"accuracy": DRIVES_TERMINALS + SCRIPT}
    played.mkdir()
    (played / "artifacts").symlink_to(recorded / "artifacts")
    with (played / "journal.jsonl").open("wb") as file:
        for text in (recorded / "journal.jsonl").read_bytes().splitlines():
            content = json.loads(text)
            del content["crc32"]
            file.write(checked(_renamed(content, evil)))
    return played


def _renamed(content: object, names: dict[str, str]) -> object:
    """Put other names for those that a journal has, wherever they are."""
    if isinstance(content, dict):
        return {names.get(key, key): _renamed(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_renamed(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content
