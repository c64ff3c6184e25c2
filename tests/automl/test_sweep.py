"""Whole sweeps over real data, in real processes."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import accuracy_score

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.data import Dataset
from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.keeper import LOG_NAME
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.plan import SearchPlan
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal
from mlflow_automl_remote.automl.sweep import Outcome, Sweep, iteration_seed
from mlflow_automl_remote.config import METRICS, AutoMLConfig
from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.states import IterationState

# The functions below travel by value: test modules cannot be imported by name elsewhere.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

COMPLETED, CANCELLED = IterationState.COMPLETED, IterationState.CANCELLED
DEADLINE_S = 60.0
FAST = (
    "BernoulliNaiveBayes",
    "DecisionTree",
    "KNN",
    "LogisticRegression",
    "MultinomialNaiveBayes",
)


class Recorder:
    """A callback that keeps what it is told, and may act on a start."""

    def __init__(self, on_start: Callable[[Proposal], None] | None = None) -> None:
        self.started: list[Proposal] = []
        self.ended: list[Outcome] = []
        self._on_start = on_start

    def on_plan(self, plan: SearchPlan) -> None:
        self.plan = plan

    def on_iteration_start(self, proposal: Proposal) -> None:
        self.started.append(proposal)
        if self._on_start is not None:
            self._on_start(proposal)

    def on_iteration_end(self, outcome: Outcome) -> None:
        self.ended.append(outcome)


def save_pickle(fitted: Estimator, dataset: Dataset, path: Path) -> None:
    path.mkdir()
    (path / "rows").write_text(str(dataset.n_rows))
    (path / "model.pkl").write_bytes(pickle.dumps(fitted))


def never_return(fitted: Estimator, dataset: Dataset, path: Path) -> None:
    del fitted, dataset
    (path.parent / "reached").touch()
    while True:
        time.sleep(60)


def fail_to_save(fitted: Estimator, dataset: Dataset, path: Path) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """One warm executor for all sweeps here."""
    with LocalExecutor(grace_s=0.2) as made:
        yield made


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows of digits, saved."""
    X, y = load_digits(return_X_y=True)
    folder = tmp_path_factory.mktemp("digits")
    raw = {"X": X[:300], "y": np.array([f"digit {label}" for label in y[:300]])}
    data.save(data.check(raw, "classification", n_folds=3), folder)
    return folder


def _config(**settings: object) -> AutoMLConfig:
    return AutoMLConfig.parse(
        {
            "task": "classification",
            "primary_metric": "AUC_weighted",
            "n_cross_validations": 3,
            "max_concurrent_iterations": 1,
            "max_cores_per_iteration": 1,  # threads wait for one another on a busy machine
            "allowed_models": FAST,
        }
        | settings
    )


def _poll(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s until {what}"
        time.sleep(0.01)


def test_a_sweep_scores_all_and_saves_what_it_says(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """Each iteration has all metrics, its files and true times; the best is the best."""
    recorder = Recorder()
    begun_ms = time.time_ns() // 1_000_000
    result = Sweep(
        _config(iterations=8, max_concurrent_iterations=2, allowed_models=None),
        digits,
        tmp_path,
        executor=executor,
        callback=recorder,
        save_model=save_pickle,
    ).run()
    assert [each.state for each in result.outcomes] == [COMPLETED] * 8
    assert list(result.outcomes) == recorder.ended
    assert set(range(8)) == {each.number for each in recorder.started}
    assert result.best_score == max(each.metrics["AUC_weighted"] for each in result.outcomes)
    assert result.best_score > 0.99
    assert result.best is not None
    for outcome in result.outcomes:
        _check_outcome(outcome, begun_ms, digits)


def _check_outcome(outcome: Outcome, begun_ms: int, data_dir: Path) -> None:
    dataset = data.open_dataset(data_dir)
    assert set(METRICS["classification"]) == set(outcome.metrics) == set(outcome.fold_metrics)
    for name, values in outcome.fold_metrics.items():
        assert len(values) == 3
        assert outcome.metrics[name] == pytest.approx(np.mean(values))
    assert begun_ms <= outcome.started_at_ms <= outcome.ended_at_ms
    assert (outcome.ended_at_ms - outcome.started_at_ms) / 1000 >= outcome.fit_s - 0.01 > -0.01
    assert outcome.predict_s > 0
    assert (outcome.output_dir / LOG_NAME).exists()
    assert json.dumps(dict(outcome.hyperparameters), allow_nan=False)
    assert any(name.startswith("model__") for name in outcome.hyperparameters)
    oof = np.load(outcome.output_dir / "oof.npy")
    guessed = dataset.classes[oof.argmax(axis=1)]
    assert outcome.metrics["accuracy"] == pytest.approx(accuracy_score(dataset.y, guessed))
    fitted = pickle.loads((outcome.output_dir / "model" / "model.pkl").read_bytes())
    assert dataset.classes.tolist() == fitted.classes_.tolist()
    assert dataset.n_rows == len(fitted.predict(dataset.X))


def test_a_regression_sweep_finds_the_lowest_error(executor: Executor, tmp_path: Path) -> None:
    """Lower is better for an error, and column names reach the model."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    data.save(data.check({"X": X, "y": y}, "regression"), tmp_path / "data")
    config = AutoMLConfig.parse({"task": "regression", "iterations": 5, "n_cross_validations": 3})
    result = Sweep(
        config, tmp_path / "data", tmp_path / "out", executor=executor, save_model=save_pickle
    ).run()
    scores = [each.metrics["normalized_root_mean_squared_error"] for each in result.outcomes]
    assert min(scores) == result.best_score
    assert result.best is not None
    fitted = pickle.loads((result.best.output_dir / "model" / "model.pkl").read_bytes())
    assert X.columns.tolist() == fitted.feature_names_in_.tolist()


def test_seeds_of_iterations_differ_and_fit_every_library() -> None:
    """They are signed 32-bit numbers, not negative."""
    seeds = {iteration_seed(seed, number) for seed in (0, 2**32 - 1) for number in range(100)}
    assert len(seeds) == 200
    assert 0 <= min(seeds) <= max(seeds) < 2**31


def test_an_iteration_at_its_limit_is_killed_and_the_sweep_goes_on(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """The limit covers saving too."""
    result = Sweep(
        _config(iterations=2, iteration_timeout_minutes=1.5 / 60),
        digits,
        tmp_path,
        executor=executor,
        save_model=never_return,
    ).run()
    assert [each.state for each in result.outcomes] == [IterationState.TIMED_OUT] * 2
    assert (result.best, result.best_number, result.best_score) == (None, None, None)


def test_a_model_that_cannot_be_saved_is_a_failed_iteration(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """The reason is the exception."""
    sweep = Sweep(
        _config(iterations=1), digits, tmp_path, executor=executor, save_model=fail_to_save
    )
    outcome = sweep.run().outcomes[0]
    assert outcome.state is IterationState.FAILED
    assert "No space left on device" in outcome.reason
    assert "fail_to_save" in outcome.traceback_text
    assert outcome.metrics == {}


def test_a_primary_metric_that_is_not_a_number_fails_the_iteration(
    executor: Executor, tmp_path: Path
) -> None:
    """The reason names the metric."""
    y = np.linspace(-5, 5, 40)
    data.save(data.check({"X": y.reshape(-1, 1), "y": y}, "regression"), tmp_path / "data")
    config = AutoMLConfig.parse(
        {
            "task": "regression",
            "iterations": 1,
            "primary_metric": "root_mean_squared_log_error",
        }
    )
    result = Sweep(config, tmp_path / "data", tmp_path / "out", executor=executor).run()
    assert result.outcomes[0].state is IterationState.FAILED
    assert "root_mean_squared_log_error is nan" in result.outcomes[0].reason


def _run_in_thread(sweep: Sweep) -> tuple[threading.Thread, list[object]]:
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(sweep.run()))
    thread.start()
    return thread, results


def test_cancelling_kills_what_runs_and_begins_nothing_more(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """From another thread; the iteration that ran is CANCELLED."""
    recorder = Recorder()
    sweep = Sweep(
        _config(iterations=9),
        digits,
        tmp_path,
        executor=executor,
        callback=recorder,
        save_model=never_return,
    )
    thread, results = _run_in_thread(sweep)
    _poll((tmp_path / "0" / "reached").exists, "iteration 0 runs")
    sweep.cancel()
    thread.join(DEADLINE_S)
    assert [each.state for each in recorder.ended] == [CANCELLED]
    assert results[0].cancelled


def test_one_iteration_can_be_cancelled_wherever_it_is(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """Running: killed. Queued: never begun, and reported in its turn. Finished: left alone."""
    recorder = Recorder()
    sweep = Sweep(
        _config(iterations=3),
        digits,
        tmp_path,
        executor=executor,
        callback=recorder,
        save_model=never_return,
    )
    assert sweep.cancel_iteration(3) == "unknown"
    assert sweep.cancel_iteration(1) == "queued"
    thread, _ = _run_in_thread(sweep)
    for number in (0, 2):
        _poll((tmp_path / str(number) / "reached").exists, f"iteration {number} runs")
        assert sweep.cancel_iteration(number) == "running"
    thread.join(DEADLINE_S)
    reasons = {each.proposal.number: each.reason for each in recorder.ended}
    assert sorted(reasons) == [0, 1, 2]
    assert [each.state for each in recorder.ended] == [CANCELLED] * 3
    assert "before it began" in reasons[1]
    assert sweep.cancel_iteration(0) == "finished"


def test_a_resumed_sweep_does_only_what_is_left(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """What was in flight runs again in a fresh folder; the best may be an old one."""
    before = Sweep(_config(iterations=3), digits, tmp_path, executor=executor).run().outcomes
    history = [
        PastIteration(proposal=before[0].proposal, state=COMPLETED, score=0.99999),
        PastIteration(proposal=before[1].proposal, state=IterationState.RUNNING),
        PastIteration(proposal=before[2].proposal, state=CANCELLED),
    ]
    (tmp_path / "1" / "half-written").touch()
    sweep = Sweep(_config(iterations=5), digits, tmp_path, executor=executor, history=history)
    assert sweep.cancel_iteration(0) == "finished"
    after = sweep.run()
    assert [each.proposal.number for each in after.outcomes] == [1, 3, 4]
    assert before[1].proposal == after.outcomes[0].proposal
    assert before[1].metrics == after.outcomes[0].metrics
    assert not (tmp_path / "1" / "half-written").exists()
    assert (after.best_number, after.best_score, after.best) == (0, 0.99999, None)


def test_an_error_of_the_callback_ends_the_sweep_and_its_iterations(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """A journal that cannot be written is no reason to leave processes behind."""

    def fail_at_second(proposal: Proposal) -> None:
        if proposal.number == 1:
            raise OSError("the disk is full")

    config = _config(iterations=3, max_concurrent_iterations=2)
    sweep = Sweep(
        config,
        digits,
        tmp_path,
        executor=executor,
        callback=Recorder(fail_at_second),
        save_model=never_return,
    )
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores for two iterations at a time")
    with pytest.raises(OSError, match="the disk is full"):
        sweep.run()
    assert sweep.cancel_iteration(0) == "finished"


def test_models_that_are_left_out_are_logged_with_the_reason(
    executor: Executor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who misses one can find out why."""
    X, y = np.arange(40.0).reshape(20, 2), np.array([0] * 17 + [1] * 3)
    data.save(data.check({"X": X, "y": y}, "classification", n_folds=3), tmp_path)
    with caplog.at_level(logging.INFO, "mlflow_automl_remote"):
        Sweep(_config(allowed_models=("KNN", "SVM")), tmp_path, tmp_path, executor=executor)
    assert "SVM is left out: its probabilities need 3 rows" in caplog.text


def test_a_sweep_over_no_data_is_refused(executor: Executor, tmp_path: Path) -> None:
    """Before anything runs."""
    with pytest.raises(DataError, match="holds no dataset"):
        Sweep(_config(), tmp_path / "nowhere", tmp_path, executor=executor)


def test_a_sweep_whose_executor_is_closed_says_so(digits: Path, tmp_path: Path) -> None:
    """It neither hangs nor spins."""
    executor = LocalExecutor()
    sweep = Sweep(_config(iterations=2), digits, tmp_path, executor=executor)
    executor.close()
    with pytest.raises(RuntimeError, match="closed"):
        sweep.run()
