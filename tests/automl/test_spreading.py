"""Folds of an iteration that are scored side by side, where there are more cores than calls."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from calls import double, linger, poll, raise_value_error
from sklearn.datasets import load_digits

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.executor import Call, Capacity, Finished, Ticket
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.spreading import Spreading
from mlflow_automl_remote.automl.sweep import Outcome, Sweep
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState

cloudpickle.register_pickle_by_value(sys.modules["calls"])
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Roomy(LocalExecutor):
    """This machine, which says that it is a cluster with more cores than it has."""

    most_at_once = 0
    running: set[Ticket]

    def __init__(self) -> None:
        super().__init__()
        self.running = set()

    def capacity(self) -> Capacity:
        return Capacity(n_cores=12, n_cores_of_one=1, is_reserved=True)

    def submit(self, call: Call) -> Ticket:
        ticket = super().submit(call)
        self.running.add(ticket)
        self.most_at_once = max(self.most_at_once, len(self.running))
        return ticket

    def wait_any(
        self, timeout_s: float | None = None, *, tickets: Collection[Ticket] | None = None
    ) -> list[Finished]:
        ends = super().wait_any(timeout_s, tickets=tickets)
        self.running -= {end.ticket for end in ends}
        return ends


@pytest.fixture(scope="module")
def roomy() -> Iterator[Roomy]:
    with Roomy() as made:
        yield made


def read_all(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.glob("parts/*/left"))


def leave(place: tuple[Path, str]) -> None:
    folder, text = place
    (folder / "left").write_text(text)


def _parts(folder: Path, *texts: str) -> list[Call]:
    folders = [folder / "parts" / text for text in texts]
    return [
        Call(leave, (place, text), output_dir=place)
        for place, text in zip(folders, texts, strict=True)
    ]


def test_a_call_reads_what_its_parts_left_and_then_it_is_gone(
    roomy: Roomy, tmp_path: Path
) -> None:
    """All parts run at once; the call is one, with one ticket and one end."""
    spreading = Spreading(roomy)
    roomy.most_at_once = 0
    call = Call(read_all, tmp_path, output_dir=tmp_path)
    ticket = spreading.submit(call, _parts(tmp_path, "a", "b", "c"))
    plain = spreading.submit(Call(double, 21, output_dir=tmp_path / "plain"))
    ends: dict[Ticket, Finished] = {}
    while len(ends) < 2:
        waiting = {ticket, plain} - ends.keys()
        ends |= {end.ticket: end for end in spreading.wait_any(tickets=waiting)}
    assert (ends[ticket].value, ends[plain].value) == (["a", "b", "c"], 42)
    assert roomy.most_at_once == 4
    assert not list((tmp_path / "parts").glob("*"))
    assert spreading.wait_any(tickets=()) == []


def test_a_part_that_fails_ends_the_call_and_the_others(roomy: Roomy, tmp_path: Path) -> None:
    """Its reason is that of the call; what else runs is killed at once."""
    spreading = Spreading(roomy)
    parts = [
        Call(raise_value_error, "of this part", output_dir=tmp_path / "a"),
        Call(time.sleep, 600, output_dir=tmp_path / "b"),
    ]
    ticket = spreading.submit(Call(double, 1, output_dir=tmp_path), parts)
    (end,) = spreading.wait_any(tickets=(ticket,))
    assert (end.ticket, end.state) == (ticket, IterationState.FAILED)
    assert "of this part" in end.reason
    assert not roomy.running


def test_cancelling_a_call_kills_all_parts(roomy: Roomy, tmp_path: Path) -> None:
    """And the call itself never runs."""
    spreading = Spreading(roomy)
    files = [tmp_path / "a.pids", tmp_path / "b.pids"]
    parts = [Call(linger, str(file), output_dir=tmp_path / file.stem) for file in files]
    ticket = spreading.submit(Call(double, 1, output_dir=tmp_path), parts)
    poll(lambda: all(file.exists() for file in files), "the parts run")
    spreading.cancel(ticket)
    (end,) = spreading.wait_any(tickets=(ticket,))
    assert (end.state, end.value) == (IterationState.CANCELLED, None)
    assert not roomy.running


class Ended:
    """Keeps the outcomes of a sweep."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def on_plan(self, plan: object) -> None:
        pass

    def on_iteration_start(self, proposal: object) -> None:
        pass

    def on_iteration_end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def sweep(tmp_path: Path, roomy: Roomy) -> Callable[[str], list[Outcome]]:
    """Runs a sweep of two iterations in a folder of this name."""
    X, y = load_digits(return_X_y=True)
    config = AutoMLConfig(
        task="classification",
        primary_metric="accuracy",
        iterations=2,
        n_cross_validations=3,
        enable_voting_ensemble=False,
        enable_stack_ensemble=False,
        allowed_models=["LogisticRegression", "LightGBM"],
    )
    data_dir = tmp_path / "data"
    data.save(data.check({"X": X, "y": y}, "classification"), data_dir)

    def run(name: str) -> list[Outcome]:
        ended = Ended()
        Sweep(config, data_dir, tmp_path / name, executor=roomy, callback=ended).run()
        return sorted(ended.outcomes, key=lambda outcome: outcome.proposal.number)

    return run


def test_iterations_score_the_same_whether_their_folds_are_spread_or_not(
    sweep: Callable[[str], list[Outcome]],
    roomy: Roomy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two iterations and twelve cores, all folds run at once; models and scores are alike."""
    roomy.most_at_once = 0
    whole = sweep("whole")
    assert roomy.most_at_once == 2
    monkeypatch.setattr("mlflow_automl_remote.automl.plan.LARGE_CELLS", 1.0)
    spread = sweep("spread")
    assert roomy.most_at_once == 6
    for one, other in zip(whole, spread, strict=True):
        assert one.state is other.state is IterationState.COMPLETED, other.reason
        assert one.metrics == other.metrics
        assert one.fold_metrics == other.fold_metrics
        mine, theirs = (
            np.load(tmp_path / name / str(one.proposal.number) / "oof.npy")
            for name in ("whole", "spread")
        )
        assert np.array_equal(mine, theirs)
        assert sorted(path.name for path in other.output_dir.iterdir()) == sorted(
            path.name for path in one.output_dir.iterdir()
        )
