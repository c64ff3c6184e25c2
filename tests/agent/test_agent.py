"""The agent: carries out a sweep in its workspace, records it, and can be stopped and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_scripts import WINE

from mlflow_automl_remote import choosing
from mlflow_automl_remote.agent.charts import save_charts
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import EarlierPipeline, EarlierSweep, WarmStart
from mlflow_automl_remote.journal.file import read
from mlflow_automl_remote.journal.replay import SweepState, replay
from mlflow_automl_remote.states import IterationState, SweepStatus

SLOW = "import time; time.sleep({seconds})\n"
IMPATIENT = """
import sys
from pathlib import Path
from mlflow_automl_remote.agent import main, runner

runner.BEGIN_LIMIT_S = {seconds}
sys.exit(main.main(Path(sys.argv[1])))
"""


class Workspace:
    """A workspace on this machine, and the agents that are started on it."""

    def __init__(self, path: Path, *, script: str = WINE, **settings: object) -> None:
        self.path = path
        (path / "project").mkdir(parents=True)
        (path / "inbox").mkdir()
        (path / "project" / "get_data.py").write_text(script)
        wanted = {"task": "classification", "iterations": 4, "model_explainability": False}
        config = AutoMLConfig.parse(wanted | settings)
        (path / "settings.json").write_text(config.to_json())
        self.agents: list[subprocess.Popen[bytes]] = []
        self.request("be" * 8, action="begin")

    def start(self, *, begin_limit_s: float | None = None) -> subprocess.Popen[bytes]:
        with (self.path / "agent.log").open("ab") as log:
            argv = [sys.executable, "-m", "mlflow_automl_remote.agent", str(self.path)]
            if begin_limit_s is not None:
                argv[1:3] = ["-c", IMPATIENT.format(seconds=begin_limit_s)]
            self.agents.append(subprocess.Popen(argv, stdout=log, stderr=log))
        return self.agents[-1]

    def state(self) -> SweepState:
        journal = self.path / "journal.jsonl"
        return replay(read(journal.read_bytes())[0]) if journal.exists() else SweepState()

    def wait_for(self, condition: Callable[[SweepState], bool], limit_s: float = 60) -> SweepState:
        deadline = time.monotonic() + limit_s
        while not condition(self.state()):
            assert time.monotonic() < deadline, (self.path / "agent.log").read_text()
            time.sleep(0.05)
        return self.state()

    def request(self, name: str, **content: object) -> None:
        aside = self.path / f"{name}.new"
        aside.write_text(json.dumps(content))
        aside.rename(self.path / "inbox" / f"{name}.json")

    def run(self) -> SweepState:
        assert self.start().wait(120) == 0, (self.path / "agent.log").read_text()
        return self.state()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Workspace]]:
    made: list[Workspace] = []

    def make(**settings: object) -> Workspace:
        made.append(Workspace(tmp_path / f"sweep-{len(made)}", **settings))
        return made[-1]

    yield make
    for workspace in made:
        for agent in workspace.agents:
            agent.kill()
            agent.wait()


def test_a_sweep_is_recorded_whole(make: Callable[..., Workspace]) -> None:
    """Every iteration has scores, times, hyper-parameters and files that match their checksums."""
    workspace = make(model_explainability=True)
    state = workspace.run()
    assert state.status is SweepStatus.COMPLETED
    assert state.data is not None
    assert (state.data.n_rows, state.data.n_columns, state.data.n_classes) == (178, 13, 3)
    counted = [(one.label, one.n_rows) for one in state.data.class_counts]
    assert counted == [("1", 71), ("0", 59), ("2", 48)]
    assert sorted(state.finished) == [0, 1, 2, 3]
    for iteration in state.iterations.values():
        assert iteration.state is IterationState.COMPLETED
        assert iteration.score == iteration.metrics["accuracy"]
        assert len(iteration.fold_metrics["accuracy"]) == 10
        assert iteration.standard_error is not None
        assert 0 <= iteration.standard_error < 0.1
        assert len(iteration.hyperparameters) > 2
        assert iteration.model_path == f"iterations/{iteration.number:03d}/model"
        names = {Path(file.path).name for file in iteration.files}
        assert {"iteration.log", "oof.npy", "charts.png", "charts.html", "charts.json"} <= names
    assert state.explanation is not None
    assert state.explanation.reason == ""
    assert state.explanation.iteration == state.best_iteration
    folder = f"explanations/{state.best_iteration:03d}"
    assert f"{folder}/summary.json" in [file.path for file in state.explanation.files]
    assert len(state.explanation.findings) == 5
    assert [file.path for file in state.files] == ["sweep/agent.log"]
    for file in [*state.explanation.files, *state.files]:
        assert (workspace.path / "artifacts" / file.path).stat().st_size == file.size_bytes


def test_a_scorer_of_scikit_learn_can_be_what_is_optimised(
    make: Callable[..., Workspace],
) -> None:
    """Its value is recorded beside all other metrics; one that does not fit the data ends it."""
    state = make(primary_metric="neg_log_loss", iterations=3, ensemble_iterations=2).run()
    assert state.status is SweepStatus.COMPLETED
    for iteration in state.iterations.values():
        assert iteration.score == iteration.metrics["neg_log_loss"]
        assert iteration.score == pytest.approx(-iteration.metrics["log_loss"])
    assert state.best is not None
    assert state.best.score == max(one.score or -9 for one in state.iterations.values())
    refused = make(primary_metric="roc_auc").run()
    assert refused.status is SweepStatus.FAILED
    assert "The scorer 'roc_auc' of scikit-learn" in refused.reason


def test_a_sweep_for_latency_explains_the_fastest_near_the_best_score(
    make: Callable[..., Workspace],
) -> None:
    """It has its model, though it was not among the best by score; the last event names it."""
    state = make(
        optimize_for="latency",
        models="best:1",
        charts="none",
        model_explainability=True,
        n_cross_validations=3,
        allowed_models=["KNN", "LogisticRegression", "ExtremeRandomTrees"],
    ).run()
    assert state.status is SweepStatus.COMPLETED
    ended = [one for one in state.iterations.values() if one.scored is not None]
    assert all(one.predict_ms_per_row for one in ended)
    floor = choosing.least(
        [one.scored for one in ended if one.scored is not None], greater_is_better=True
    )
    good = [one for one in ended if (one.score or 0.0) >= floor]
    assert state.best is min(good, key=lambda one: one.predict_ms_per_row or 9e9)
    assert all(state.iterations[number].model_path for number in state.front)
    assert state.explanation is not None
    assert state.explanation.reason == ""
    assert list(state.explanations) == [state.best_iteration]


def test_models_and_charts_can_be_bounded_to_the_best(make: Callable[..., Workspace]) -> None:
    """Others' models are not recorded, so never travel; an ensemble has them nevertheless."""
    workspace = make(
        iterations=6,
        n_cross_validations=3,
        models="best:1",
        charts="best",
        enable_voting_ensemble=True,
        allowed_models=["KNN", "LogisticRegression", "DecisionTree"],
    )
    state = workspace.run()
    assert state.status is SweepStatus.COMPLETED
    assert state.best is not None
    assert state.best.model_path is not None
    with_charts = [
        one.number
        for one in state.iterations.values()
        if any(file.path.endswith("charts/charts.html") for file in one.files)
    ]
    assert with_charts == [state.best_iteration]
    scores = [state.iterations[number].score or 0.0 for number in state.finished]
    for place, number in enumerate(state.finished):
        was_best = state.iterations[number].best == scores[place]
        assert (state.iterations[number].model_path is not None) == was_best
        listed = [file.path for file in state.iterations[number].files]
        assert any("/model/" in path for path in listed) == was_best
    ensemble = state.iterations[max(state.finished)]
    assert (ensemble.model, ensemble.state) == ("VotingEnsemble", IterationState.COMPLETED)


def test_charts_that_cannot_be_drawn_are_a_line_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The iteration goes on."""
    save_charts(None, None, tmp_path, "x")
    assert "No charts were drawn" in capsys.readouterr().out


def test_a_model_loads_and_predicts_the_users_labels(make: Callable[..., Workspace]) -> None:
    """The folder is a whole MLflow model, with signature, input example and requirements."""
    import mlflow.pyfunc
    from sklearn.datasets import load_wine

    workspace = make(
        iterations=1,
        script=WINE.replace("return {", "y = load_wine().target_names[y]\n    return {"),
    )
    state = workspace.run()
    folder = workspace.path / "artifacts" / str(state.iterations[0].model_path)
    model = mlflow.pyfunc.load_model(str(folder))
    assert set(load_wine().target_names) == set(model.predict(load_wine().data))
    assert model.metadata.signature is not None
    assert model.input_example.shape == (5, 13)
    requirements = (folder / "requirements.txt").read_text().split()
    assert any(line.startswith("scikit-learn==") for line in requirements)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("def get_data():\n    raise OSError('no disk')\n", "OSError at"),
        ("def get_data():\n    return {'X': [[1], [2]], 'y': [0]}\n", "2 rows and y has 1"),
        ("def get_dota():\n    pass\n", "no function get_data()"),
    ],
)
def test_bad_data_ends_the_sweep_with_its_reason(
    make: Callable[..., Workspace], script: str, expected: str
) -> None:
    """The last event says what is wrong with get_data; no iteration was run."""
    state = make(script=script).run()
    assert state.status is SweepStatus.FAILED
    assert expected in state.reason
    assert state.iterations == {}


BOMB = """
import os, time

def get_data():
    for _ in range(9):  # should it not be killed, it stops by itself
        os.fork()
        time.sleep(0.01)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("script", "settings", "expected"),
    [
        (BOMB, {}, "The data could not be loaded: Killed because it had started more than"),
        (
            "import time\n\ndef get_data():\n    time.sleep(600)\n",
            {"experiment_timeout_minutes": "2s"},
            "The data could not be loaded: it was not there when the time of the sweep "
            "(experiment_timeout_minutes, 2 s) was up.",
        ),
        (
            "import os\n\ndef get_data():\n    os._exit(9)\n",
            {},
            "The data could not be loaded: Ended without an answer, with exit code 9.",
        ),
    ],
    ids=["fork bomb", "hangs", "exits"],
)
def test_data_that_never_comes_ends_the_sweep_with_its_reason(
    make: Callable[..., Workspace], script: str, settings: dict[str, object], expected: str
) -> None:
    """Soon, and with everything that get_data() had started."""
    workspace = make(script=script, **settings)
    begun = time.monotonic()
    state = workspace.run()
    assert time.monotonic() - begun < 40
    assert state.status is SweepStatus.FAILED
    assert expected in state.reason
    assert state.iterations == {}
    mine = str(workspace.path).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            assert mine not in (process / "cmdline").read_bytes()


def test_a_sweep_goes_on_where_a_killed_agent_left_it(make: Callable[..., Workspace]) -> None:
    """What was finished is kept, what was in flight runs again, and nothing is there twice."""
    workspace = make(iterations=6, max_concurrent_iterations=1)
    agent = workspace.start()
    before = workspace.wait_for(lambda state: len(state.finished) >= 2)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    after = workspace.run()
    assert after.status is SweepStatus.COMPLETED
    assert after.attempt == 2
    assert sorted(after.finished) == list(range(6))
    for number in before.finished:
        assert before.iterations[number] == after.iterations[number]
    assert {one.attempt for one in after.iterations.values()} <= {1, 2}


def test_a_finished_sweep_is_left_as_it_is(make: Callable[..., Workspace]) -> None:
    """Starting an agent once more changes no byte of the journal."""
    workspace = make(iterations=1)
    workspace.run()
    journal = (workspace.path / "journal.jsonl").read_bytes()
    workspace.run()
    assert journal == (workspace.path / "journal.jsonl").read_bytes()


def test_a_second_agent_does_not_start(make: Callable[..., Workspace]) -> None:
    """One agent at a time works in a workspace; the other one says so and goes."""
    workspace = make(script=SLOW.format(seconds=60) + WINE)
    workspace.start()
    workspace.wait_for(lambda state: state.started is not None)
    assert workspace.start().wait(60) == 3
    assert "Another agent works in" in (workspace.path / "agent.log").read_text()


@pytest.mark.parametrize("when", ["loading", "searching"])
def test_a_cancelled_sweep_ends_at_once(make: Callable[..., Workspace], when: str) -> None:
    """Whether data are loaded or iterations run: the last event comes soon and says CANCELLED."""
    script = WINE if when == "searching" else SLOW.format(seconds=600) + WINE
    workspace = make(script=script, iterations=500)
    agent = workspace.start()
    workspace.wait_for(lambda state: state.started is not None)
    if when == "searching":
        workspace.wait_for(lambda state: len(state.finished) >= 1)
    workspace.request("aa" * 8, action="cancel")
    assert agent.wait(30) == 0
    state = workspace.state()
    assert state.status is SweepStatus.CANCELLED
    assert {("begin", "running"), ("cancel", "running")} == {
        (one.action, one.outcome) for one in state.requests
    }
    assert not any((workspace.path / "inbox").iterdir())


def test_one_iteration_is_cancelled_before_it_begins(make: Callable[..., Workspace]) -> None:
    """It is recorded as CANCELLED, the others run; a request seen twice is recorded once."""
    workspace = make(iterations=4)
    workspace.request("bb" * 8, action="cancel_iteration", iteration=2)
    workspace.request("cc" * 8, action="cancel_iteration", iteration=77)
    workspace.request("dd" * 8, action="fly")
    (workspace.path / "inbox" / "ee.json").write_text("{")
    state = workspace.run()
    assert state.iterations[2].state is IterationState.CANCELLED
    assert state.status is SweepStatus.COMPLETED
    assert ("cancel_iteration", 2, "queued") in [
        (one.action, one.iteration, one.outcome) for one in state.requests
    ]
    assert len({one.request_id for one in state.requests}) == len(state.requests)


@pytest.mark.parametrize("when", ["loading", "searching"])
def test_a_sweep_that_no_client_knows_of_ends(make: Callable[..., Workspace], when: str) -> None:
    """Iterations run while the client makes the run; if it dies first, they do not for long."""
    script = WINE if when == "searching" else SLOW.format(seconds=600) + WINE
    workspace = make(script=script, iterations=500)
    (workspace.path / "inbox" / f"{'be' * 8}.json").unlink()
    agent = workspace.start(begin_limit_s=6.0)
    assert agent.wait(60) == 0
    state = workspace.state()
    assert state.status is SweepStatus.FAILED
    assert state.reason == "The client was lost before it had made the parent run."
    assert (len(state.finished) > 0) is (when == "searching")


def test_a_sweep_goes_on_once_its_client_has_said_so(make: Callable[..., Workspace]) -> None:
    """The word may come when the search has begun long ago."""
    workspace = make(iterations=6)
    (workspace.path / "inbox" / f"{'be' * 8}.json").unlink()
    agent = workspace.start(begin_limit_s=60.0)
    workspace.wait_for(lambda state: len(state.finished) >= 1)
    workspace.request("be" * 8, action="begin")
    assert agent.wait(60) == 0
    assert workspace.state().status is SweepStatus.COMPLETED


def test_the_agent_proves_that_it_lives(make: Callable[..., Workspace]) -> None:
    """agent.json names this very process, and the heartbeat is there."""
    workspace = make(script=SLOW.format(seconds=60) + WINE)
    agent = workspace.start()
    workspace.wait_for(lambda state: state.started is not None)
    identity = json.loads((workspace.path / "agent.json").read_bytes())
    stat = Path(f"/proc/{agent.pid}/stat").read_text()
    assert identity["pid"] == agent.pid
    assert identity["starttime"] == int(stat.rpartition(")")[2].split()[19])
    assert (workspace.path / "heartbeat").exists()
    assert os.access(workspace.path / "agent.lock", os.R_OK)


def test_ensembles_are_iterations_whose_models_load_and_are_explained(
    make: Callable[..., Workspace],
) -> None:
    """The journal says who their members are; one model folder holds all that they need."""
    import mlflow.pyfunc
    from sklearn.datasets import load_wine

    workspace = make(
        iterations=6,
        n_cross_validations=3,
        test_size=0.3,
        enable_voting_ensemble=True,
        enable_stack_ensemble=True,
        primary_metric="log_loss",
        allowed_models=["LightGBM", "XGBoost", "LogisticRegression", "KNN"],
        debug_log="everything.log",
        model_explainability=True,
    )
    state = workspace.run()
    assert state.status is SweepStatus.COMPLETED
    assert state.plan is not None
    assert state.plan.ensembles == ("VotingEnsemble", "StackEnsemble")
    assert state.plan.validation == "3-fold cross-validation"
    assert state.plan.n_test_rows == 53
    assert state.explanation is not None
    assert state.explanation.reason == ""
    for number, name in ((4, "VotingEnsemble"), (5, "StackEnsemble")):
        iteration = state.iterations[number]
        assert (iteration.pipeline, iteration.proposed_by) == (name, "ensemble")
        assert iteration.state is IterationState.COMPLETED, iteration.reason
        assert set(iteration.test_metrics) == set(iteration.metrics)
        assert "model__members" in iteration.hyperparameters
        folder = workspace.path / "artifacts" / str(iteration.model_path)
        X, y = load_wine(return_X_y=True)
        predicted = mlflow.pyfunc.load_model(str(folder)).predict(X)
        assert (predicted == y).mean() > 0.9
    assert "sweep/everything.log" in [file.path for file in state.files]
    assert "is left out" not in (workspace.path / "agent.log").read_text()


def test_why_a_search_ended_early_is_in_the_journal(make: Callable[..., Workspace]) -> None:
    """And its log holds no more than it was asked for."""
    workspace = make(iterations=8, experiment_exit_score=0.5, verbosity="ERROR")
    state = workspace.run()
    assert state.status is SweepStatus.COMPLETED
    assert "reached experiment_exit_score" in state.ended_by
    assert (workspace.path / "agent.log").read_text() == ""


def test_what_earlier_sweeps_found_comes_first_also_after_a_death(
    make: Callable[..., Workspace],
) -> None:
    """An agent that goes on neither forgets it nor where it came from."""
    params = {"model__n_neighbors": 9, "model__weights": "uniform", "model__p": 1}
    found = [
        EarlierPipeline(
            run_id=f"run-{n}",
            scaler="MinMaxScaler",
            model="KNN",
            params={**params, "model__n_neighbors": n},
        )
        for n in (9, 7)
    ]
    sweep = EarlierSweep(run_id="x", meta_features={"n_rows": 100.0}, pipelines=tuple(found))
    workspace = make(
        iterations=4,
        allowed_models=["KNN"],
        enable_voting_ensemble=False,
        max_concurrent_iterations=1,
        warm_start_from="x",
    )
    given = WarmStart(is_named=True, sweeps=(sweep,))
    (workspace.path / "warm_start.json").write_text(given.to_json())
    agent = workspace.start()
    workspace.wait_for(lambda state: bool(state.iterations))
    agent.kill()
    agent.wait()
    iterations = workspace.run().iterations
    assert ["run-9", "run-7", "", ""] == [iterations[n].source_run_id for n in range(4)]
    assert ["warm_start", "warm_start"] == [iterations[n].proposed_by for n in range(2)]
    assert found[0].params == iterations[0].params
    assert 1 < iterations[0].n_fits
