"""A disk of the target that fills up: the sweep is interrupted, and goes on when there is room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_scripts import WINE
from small_disk import fill, small_disk

from mlflow_automl_remote.agent.disk import LEAST_BYTES
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.journal.file import read
from mlflow_automl_remote.journal.replay import SweepState, replay
from mlflow_automl_remote.states import IterationState, SweepStatus

N_ITERATIONS = 3
# An agent whose disk fills up at a moment of the second iteration.
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from small_disk import fill
import mlflow.sklearn
from mlflow_automl_remote.agent import main, recorder
from mlflow_automl_remote.journal.events import IterationFinished
workspace = Path(sys.argv[1])
save, record = mlflow.sklearn.save_model, recorder.Recorder.record

def save_when_full(model, path, **rest):
    if Path(path).parent.name == "1":
        fill(workspace.parent)
    save(model, path, **rest)

def record_when_full(self, event):
    if isinstance(event, IterationFinished) and event.iteration == 1:
        fill(workspace.parent)
    record(self, event)

if sys.argv[2] == "model":
    mlflow.sklearn.save_model = save_when_full
else:
    recorder.Recorder.record = record_when_full
sys.exit(main.main(workspace))
"""


class Agent:
    """A workspace on a small disk, and the agents that are started on it."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.path = disk / "sweep"
        (self.path / "project").mkdir(parents=True)
        (self.path / "inbox").mkdir()
        (self.path / "project" / "get_data.py").write_text(WINE)
        config = AutoMLConfig.parse(
            {
                "task": "classification", "iterations": N_ITERATIONS, "n_cross_validations": 3,
                "max_concurrent_iterations": 1, "allowed_models": ["KNN", "LogisticRegression"],
                "model_explainability": False, "charts": "none", "enable_voting_ensemble": False,
            }
        )  # fmt: skip
        (self.path / "settings.json").write_text(config.to_json())
        (self.path / "inbox" / f"{'be' * 8}.json").write_text('{"action": "begin"}')

    def run(self, full_at: str | None = None) -> SweepState:
        """Run an agent to its end, which is not one of its own failures."""
        how = ["-m", "mlflow_automl_remote.agent"] if full_at is None else ["-c", PROGRAM]
        more = [] if full_at is None else [full_at, str(Path(__file__).parents[1])]
        with (self.path / "agent.log").open("ab") as log:
            argv = [sys.executable, *how, str(self.path), *more]
            done = subprocess.run(argv, stdout=log, stderr=log, timeout=120)
        # 120: Python's own end found no room for what was left of the log
        assert done.returncode in (0, 120), (self.path / "agent.log").read_text()
        return replay(read((self.path / "journal.jsonl").read_bytes())[0])


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with small_disk(tmp_path / "small", "64m") as disk:
        yield Agent(disk)


@pytest.mark.parametrize("full_at", ["begin", "model", "journal"])
def test_a_sweep_is_interrupted_by_a_full_disk_and_goes_on_when_there_is_room(
    agent: Agent, full_at: str
) -> None:
    """No iteration is lost, none is failed for it, and the reason is in the journal."""
    if full_at == "begin":
        fill(agent.disk, LEAST_BYTES // 2)
    before = agent.run(None if full_at == "begin" else full_at)
    assert (agent.disk / "filler").exists(), "the disk was not filled"
    assert not before.status.is_finished
    assert before.interrupted.startswith(f"The disk of {agent.path} is full (")
    assert before.finished == (() if full_at == "begin" else (0,))
    if full_at != "begin":
        assert "No space left on device" in before.interrupted
    assert ("iteration 1 failed by it" in before.interrupted) == (full_at == "model")
    assert not (agent.path / "work").exists(), "what is half-written takes no room"

    (agent.disk / "filler").unlink()
    after = agent.run()
    assert after.status is SweepStatus.COMPLETED
    assert after.interrupted == ""
    assert sorted(after.finished) == list(range(N_ITERATIONS))
    assert {one.state for one in after.iterations.values()} == {IterationState.COMPLETED}
    assert all(one.model_path for one in after.iterations.values())
    for number in before.finished:
        assert after.iterations[number] == before.iterations[number]
