"""What a sweep decides before and while it runs: models, threads, time, and when to stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.budget import Budget
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.executor import Capacity
from mlflow_automl_remote.automl.machine import free_bytes
from mlflow_automl_remote.automl.plan import SearchPlan, choose_device, make_plan, places_now
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.automl.stopping import LANDMARKS, Stopping
from mlflow_automl_remote.config import AutoMLConfig


def _config(**settings: object) -> AutoMLConfig:
    return AutoMLConfig.parse({"task": "classification"} | settings)


def _plan(dataset: Dataset, n_cores: int = 4, **settings: object) -> SearchPlan:
    config = _config(**settings)
    return make_plan(config, dataset, make_splits(dataset, config), _cores(n_cores))


def _cores(n_cores: int) -> Capacity:
    return Capacity(n_cores=n_cores, n_cores_of_one=n_cores)


def _dataset(n_rows: int = 60, **more: object) -> Dataset:
    y = np.arange(n_rows) % 2
    return data.check({"X": np.ones((n_rows, 3)), "y": y} | more, "classification")


def test_models_that_need_three_rows_of_a_class_are_left_out_with_the_reason() -> None:
    """Calibration needs them; when nothing else is allowed, it is tried."""
    y = np.array([0] * 7 + [1] * 3)
    dataset = data.check({"X": np.arange(20.0).reshape(10, 2), "y": y}, "classification")
    plan = _plan(dataset, allowed_models="KNN,SVM", n_cross_validations=3)
    assert plan.models == ("KNN",)
    assert "the rarest class has 3 rows" in plan.left_out["SVM"]
    assert _plan(dataset, allowed_models="SVM", n_cross_validations=3).models == ("SVM",)


def test_models_predicted_to_be_slow_are_left_out_unless_asked_for() -> None:
    """The prediction is in the reason; a shorter limit leaves out more."""
    dataset = _dataset(150_000)
    plan = _plan(dataset)
    assert "SVM" not in plan.models
    assert "predicted to need" in plan.left_out["SVM"]
    assert "set auto_blacklist to false" in plan.left_out["SVM"]
    assert "SVM" in _plan(dataset, auto_blacklist=False).models
    assert _plan(dataset, allowed_models="SVM,KNN").models == ("KNN", "SVM")
    tight = _plan(dataset, experiment_timeout_minutes=1)
    assert set(plan.left_out) < set(tight.left_out)
    tighter = _plan(dataset, iteration_timeout_minutes="10s")
    assert "more than 10 s" in tighter.left_out["SVM"]


def test_models_without_weights_or_sparse_matrices_are_left_out_where_there_are_any() -> None:
    """Each with its reason."""
    weighted = _plan(_dataset(sample_weight=np.ones(60)))
    assert {"KNN", "SVM"} == set(weighted.left_out)
    assert weighted.left_out["KNN"] == "it does not take sample weights"
    matrix = sparse.random(60, 8, density=0.3, format="csr", random_state=0)
    plan = _plan(data.check({"X": matrix, "y": np.arange(60) % 2}, "classification"))
    assert plan.left_out["CatBoost"] == "it does not take a sparse matrix"
    assert "PCA" not in plan.scalers


def test_cores_are_shared_out_among_the_iterations_unless_the_settings_say_how() -> None:
    """Never more places than cores, never more threads than cores."""
    dataset = _dataset()
    cases = (
        ({}, 4, 1),
        ({"max_concurrent_iterations": 2}, 2, 2),
        ({"max_concurrent_iterations": 99}, 4, 1),
        ({"max_concurrent_iterations": 2, "max_cores_per_iteration": 1}, 2, 1),
        ({"max_concurrent_iterations": 2, "max_cores_per_iteration": -1}, 2, 4),
        ({"iterations": 1}, 1, 4),
    )
    for settings, n_places, n_threads in cases:
        plan = _plan(dataset, **settings)
        assert (n_places, n_threads) == (plan.n_places, plan.n_threads)


def test_machines_that_come_and_go_change_how_many_iterations_run_at_a_time() -> None:
    """No thread more than one machine has; and never more than the settings or memory allow."""
    dataset = _dataset(100_000)
    four = Capacity(n_cores=4, n_cores_of_one=2, is_reserved=True)
    cases = (
        ({}, four, 4, 1, 8),
        ({"max_concurrent_iterations": 5}, four, 4, 1, 5),
        ({"max_concurrent_iterations": 1}, four, 1, 2, 1),
        ({"max_cores_per_iteration": -1}, four, 2, 2, 4),
        ({}, replace(four, memory_bytes=150 * 10**6), 2, 2, 4),
        ({}, replace(four, is_reserved=False), 4, 1, 4),
    )
    for settings, then, n_places, n_threads, with_eight in cases:
        config = _config(**settings)
        plan = make_plan(config, dataset, make_splits(dataset, config), then)
        assert (n_places, n_threads) == (plan.n_places, plan.n_threads)
        assert places_now(config, plan, then, replace(then, n_cores=8)) == with_eight
        assert places_now(config, plan, then, then) == n_places
        assert places_now(config, plan, then, replace(then, n_cores=0)) in (1, plan.n_places)


def test_ensembles_are_the_last_iterations_when_there_are_enough() -> None:
    """By default from 10 and from 20 on; asked for, from three on."""
    assert _config(iterations=9).ensembles == ()
    assert _config(iterations=10).ensembles == ("VotingEnsemble",)
    assert _config(iterations=20).ensembles == ("VotingEnsemble", "StackEnsemble")
    assert _config(iterations=20, enable_voting_ensemble=False).ensembles == ("StackEnsemble",)
    both = {"enable_voting_ensemble": True, "enable_stack_ensemble": True}
    assert _config(iterations=3, **both).ensembles == ("VotingEnsemble",)
    assert _config(iterations=2, **both).ensembles == ()
    many = np.arange(600) % 60
    dataset = data.check({"X": np.ones((600, 1)), "y": many}, "classification")
    plan = _plan(dataset)
    assert plan.ensembles == ("VotingEnsemble",)
    assert "50 classes" in plan.left_out["StackEnsemble"]


def test_against_the_clock_there_is_a_stack_where_a_forest_is_worth_it() -> None:
    """Of few rows and more than two classes; else it is made only if it is asked for."""
    both = ("VotingEnsemble", "StackEnsemble")
    timed: dict[str, Any] = {"iterations": 50, "experiment_timeout_minutes": 1}
    for n_rows, n_classes, asked, expected in (
        (600, 3, None, both),
        (600, 2, None, both[:1]),
        (30_000, 3, None, both[:1]),
        (600, 3, False, both[:1]),
        (600, 2, True, both),
    ):
        y = np.arange(n_rows) % n_classes
        dataset = data.check({"X": np.ones((n_rows, 1)), "y": y}, "classification")
        plan = _plan(dataset, **timed, enable_stack_ensemble=asked)
        assert plan.ensembles == expected


def test_against_the_clock_there_is_a_stack_of_numbers_when_there_is_time_for_it() -> None:
    """Shorter sweeps have it only if it is asked for."""
    both = ("VotingEnsemble", "StackEnsemble")
    y = np.arange(600.0)
    dataset = data.check({"X": np.ones((600, 1)), "y": y}, "regression")
    for minutes, asked, expected in (
        (1, None, both),
        (0.5, None, both[:1]),
        (0.5, True, both),
        (1, False, both[:1]),
    ):
        timed = {"experiment_timeout_minutes": minutes, "enable_stack_ensemble": asked}
        plan = _plan(dataset, task="regression", iterations=50, **timed)
        assert plan.ensembles == expected


def test_a_gpu_is_used_where_there_is_one_and_the_settings_do_not_mind(tmp_path: Path) -> None:
    """Without one the choice is the CPU, whatever was asked for."""
    assert [choose_device(one, gpus=tmp_path) for one in ("auto", "cpu", "cuda")] == ["cpu"] * 3
    (tmp_path / "0000:00:1e.0").mkdir()
    found = [choose_device(one, gpus=tmp_path) for one in ("auto", "cpu", "cuda")]
    assert found == ["cuda", "cpu", "cuda"]


def test_no_more_iterations_run_at_a_time_than_memory_is_predicted_to_hold(
    tmp_path: Path,
) -> None:
    """A note says so; one runs in any case. A container's limit counts."""
    dataset = _dataset(100_000)
    config = _config()
    splits = make_splits(dataset, config)

    def plan(memory_bytes: int | None) -> SearchPlan:
        return make_plan(config, dataset, splits, replace(_cores(4), memory_bytes=memory_bytes))

    assert (plan(None).n_places, plan(10**9).n_places, plan(10**9).notes) == (4, 4, ())
    tight = plan(150 * 10**6)
    assert (tight.n_places, tight.n_threads) == (2, 2)
    assert tight.notes[0].startswith("2 iterations at a time instead of 4: each is predicted")
    assert plan(0).n_places == 1
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\n")
    assert free_bytes(meminfo=tmp_path / "meminfo", group=tmp_path) == 512_000
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\nfile 150000\n")
    assert free_bytes(meminfo=tmp_path / "meminfo", group=tmp_path) == 200_000


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_a_sweep_limits_its_last_iterations_and_leaves_some_for_ensembles() -> None:
    """What was spent on loading the data counts."""
    clock = Clock()
    budget = Budget(total_s=100, iteration_s=30, spent_s=20, n_ensembles=1, clock=clock)
    up = "Killed when the time of the sweep (experiment_timeout_minutes) was up."
    assert budget.limit_s() == (30, "")
    clock.now += 60
    assert budget.limit_s() == (10, up)
    assert budget.limit_s(ensemble=True) == (20, up)
    clock.now += 10
    assert not budget.allows()
    assert budget.allows(ensemble=True)
    clock.now += 10
    assert not budget.allows(ensemble=True)
    endless = Budget(total_s=None, iteration_s=None)
    assert endless.allows()
    assert endless.limit_s() == (None, "")
    shared_s, reason = Budget(total_s=90, iteration_s=None, is_shared=True, clock=clock).limit_s()
    assert shared_s == 30
    assert "a third of the time of the sweep" in reason


@pytest.mark.parametrize(
    ("metric", "goal", "score"), [("accuracy", 0.9, 0.95), ("log_loss", 0.2, 0.1)]
)
def test_the_exit_score_ends_the_search_in_the_direction_of_the_metric(
    metric: str, goal: float, score: float
) -> None:
    """The reason names iteration, metric, score and goal."""
    stopping = Stopping(_config(primary_metric=metric, experiment_exit_score=goal))
    stopping.see(0, "A B", None)
    stopping.see(1, "A B", 0.5)
    assert stopping.reason() == ""
    stopping.see(2, "MaxAbsScaler LightGBM", score)
    assert "Iteration 2 (MaxAbsScaler LightGBM) reached experiment_exit_score" in stopping.reason()
    assert f"{metric} is {score:g}, and {goal:g}" in stopping.reason()


def test_without_progress_the_search_ends_but_never_in_the_portfolio() -> None:
    """Counted in the order of numbers, whichever ends first."""
    stopping = Stopping(_config(enable_early_stopping=True, early_stopping_n_iters=5))
    for number in range(LANDMARKS + 5):
        assert stopping.reason() == ""
        if number != 3:
            stopping.see(number, "", 0.9 if number == 1 else 0.5)
    assert stopping.reason() == ""
    stopping.see(3, "", None)
    assert (
        stopping.reason()
    ) == "No progress for 23 iterations: the best score is that of iteration 1."
    never = Stopping(_config())
    for number in range(50):
        never.see(number, "", 0.5)
    assert never.reason() == ""
