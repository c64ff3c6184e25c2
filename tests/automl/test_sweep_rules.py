"""What settings change in a whole sweep: limits, ends, weights, ensembles, and the same scores."""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.components.base import FEWEST_TO_STOP_EARLY, Estimator
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.machine import n_cores
from mlflow_automl_remote.automl.outcome import Outcome
from mlflow_automl_remote.automl.plan import LAG
from mlflow_automl_remote.automl.proposals import PastIteration
from mlflow_automl_remote.automl.splits import SUBSAMPLE_ROWS
from mlflow_automl_remote.automl.stopping import LANDMARKS
from mlflow_automl_remote.automl.sweep import Sweep
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.catalogue import BINARY_METRICS
from mlflow_automl_remote.states import IterationState

# The functions below travel by value: test modules cannot be imported by name elsewhere.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FAST = ("BernoulliNaiveBayes", "DecisionTree", "KNN", "LogisticRegression", "SGD")


def save_pickle(fitted: Estimator, dataset: Dataset, path: Path) -> None:
    path.mkdir()
    (path / "model.pkl").write_bytes(pickle.dumps(fitted))


def load_pickle(path: Path) -> Estimator:
    return pickle.loads((path / "model.pkl").read_bytes())


def misbehave(fitted: Estimator, dataset: Dataset, path: Path) -> None:
    """Do something else in each iteration: crash, exit, take memory, hang."""
    number = int(path.parent.name)
    if number == 1:
        ctypes.string_at(0)
    if number == 2:
        os._exit(7)
    if number == 3:
        hoard = bytearray(os.urandom(1)) * 900_000_000
        time.sleep(60)
        del hoard
    if number == 4:
        time.sleep(60)
    save_pickle(fitted, dataset, path)


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
    data.save(data.check({"X": X[:300], "y": y[:300]}, "classification"), folder)
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


def _by_number(outcomes: tuple[Outcome, ...]) -> list[Outcome]:
    return sorted(outcomes, key=lambda each: each.proposal.number)


def test_each_way_to_go_wrong_is_its_own_state_and_harms_no_neighbour(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """A crash in native code, an exit, too much memory, too much time; the others go on."""
    result = Sweep(
        _config(
            iterations=6,
            mem_in_mb=500,
            iteration_timeout_minutes="5s",
            max_concurrent_iterations=2,
        ),
        digits,
        tmp_path,
        executor=executor,
        save_model=misbehave,
    ).run()
    ended = _by_number(result.outcomes)
    assert [each.state for each in ended] == [
        IterationState.COMPLETED,
        IterationState.CRASHED,
        IterationState.CRASHED,
        IterationState.OUT_OF_MEMORY,
        IterationState.TIMED_OUT,
        IterationState.COMPLETED,
    ]
    assert "SIGSEGV" in ended[1].reason
    assert "exit code 7" in ended[2].reason
    assert "memory limit of 500 MB (mem_in_mb)" in ended[3].reason
    assert "time limit of 5 s" in ended[4].reason


# With one core both sweeps would run one iteration at a time, and the test could not fail.
@pytest.mark.skipif(n_cores() < 2, reason="two iterations at a time need two cores")
def test_the_same_seed_gives_the_same_scores_whatever_the_concurrency(
    executor: Executor, tmp_path: Path
) -> None:
    """In the portfolio, in the search after it (which knows scores by now), and in ensembles."""
    X = np.random.default_rng(0).normal(size=(120, 4))
    raw = {"X": X, "y": (X[:, 0] * X[:, 1] + X[:, 2] > 0).astype(int)}
    data.save(data.check(raw, "classification"), tmp_path / "data")
    one, two = (
        Sweep(
            _config(
                iterations=LAG + 6,
                n_cross_validations=2,
                max_concurrent_iterations=n,
                max_cores_per_iteration=None,
                allowed_models=("DecisionTree", "LightGBM", "SGD"),
            ),
            tmp_path / "data",
            tmp_path / str(n),
            executor=executor,
        ).run()
        for n in (1, 2)
    )
    first, second = _by_number(one.outcomes), _by_number(two.outcomes)
    assert [each.proposal for each in first] == [each.proposal for each in second]
    assert [each.metrics for each in first] == [each.metrics for each in second]
    assert {"portfolio", "optuna", "ensemble"} == {each.proposal.proposed_by for each in first}
    assert one.best_number == two.best_number


def test_ensembles_come_last_load_and_have_scores_of_rows_that_nothing_has_seen(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """Every iteration has a score on the rows of test_size; a vote predicts like any model."""
    result = Sweep(
        _config(
            iterations=8,
            test_size=0.25,
            ensemble_iterations=3,
            enable_voting_ensemble=True,
            enable_stack_ensemble=True,
        ),
        digits,
        tmp_path,
        executor=executor,
        save_model=save_pickle,
        load_model=load_pickle,
    ).run()
    *pipelines, vote, stack = _by_number(result.outcomes)
    assert [each.proposal.label for each in (vote, stack)] == ["VotingEnsemble", "StackEnsemble"]
    X, y = load_digits(return_X_y=True)
    best = sorted(pipelines, key=lambda each: -each.metrics["AUC_weighted"])[:3]
    for each in (vote, stack):
        assert each.state is IterationState.COMPLETED, each.traceback_text
        assert each.metrics["AUC_weighted"] > 0.95
        members = {int(one) for one in str(each.hyperparameters["model__members"]).split(",")}
        assert members <= {one.proposal.number for one in best}
        fitted = load_pickle(each.output_dir / "model")
        assert np.mean(fitted.predict(X[:300]) == y[:300]) > 0.9
    for each in result.outcomes:
        assert set(each.metrics) == set(each.test_metrics)
        assert each.test_metrics["accuracy"] < 1.0


def test_a_resumed_sweep_runs_only_the_ensembles_that_are_left(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """It begins no more pipelines once there was an ensemble."""
    config = _config(iterations=6, enable_voting_ensemble=True, enable_stack_ensemble=True)
    before = Sweep(config, digits, tmp_path, executor=executor).run()
    history = [
        PastIteration(
            proposal=each.proposal,
            state=IterationState.RUNNING if each.proposal.number == 5 else each.state,
            score=each.metrics["AUC_weighted"],
            standard_error=each.standard_error,
        )
        for each in before.outcomes
    ]
    after = Sweep(config, digits, tmp_path, executor=executor, history=history).run()
    assert [each.proposal.number for each in after.outcomes] == [5]
    assert _by_number(before.outcomes)[-1].metrics == after.outcomes[-1].metrics
    assert before.best_number == after.best_number


def test_a_score_that_is_good_enough_ends_the_sweep(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """No ensemble is needed then; the result says why it ended."""
    result = Sweep(
        _config(iterations=12, experiment_exit_score=0.9), digits, tmp_path, executor=executor
    ).run()
    assert [each.proposal.number for each in result.outcomes] == [0]
    assert "reached experiment_exit_score" in result.ended_by


@pytest.mark.parametrize("races", [False, True])
def test_the_time_of_the_sweep_ends_it_and_kills_what_runs(
    executor: Executor, digits: Path, tmp_path: Path, races: bool
) -> None:
    """An iteration that hangs does not outlive it, and its reason names the setting."""
    begun = time.monotonic()
    result = Sweep(
        _config(
            iterations=50,
            experiment_timeout_minutes="4s",
            allowed_models=("KNN",),
            enable_racing=races,
        ),
        digits,
        tmp_path,
        executor=executor,
        save_model=lambda fitted, dataset, path: time.sleep(60),
    ).run()
    assert time.monotonic() - begun < 10
    assert {each.state for each in result.outcomes} == {IterationState.TIMED_OUT}
    assert "experiment_timeout_minutes" in result.outcomes[0].reason
    assert "experiment_timeout_minutes" in result.ended_by


def test_random_labels_score_at_chance_on_every_path(executor: Executor, tmp_path: Path) -> None:
    """Early stopping, weights, mean targets, text, ensembles: no label finds its way through."""
    rng = np.random.default_rng(0)
    n_rows = 2 * FEWEST_TO_STOP_EARLY + 200
    words = np.array([f"word{number}" for number in range(60)])
    table = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows),
            "few": rng.choice(["a", "b", "c"], n_rows),
            "many": [f"id{number}" for number in rng.integers(0, 900, n_rows)],
            "said": [" ".join(each) for each in rng.choice(words, (n_rows, 5))],
        }
    )
    raw = {"X": table, "y": rng.integers(0, 2, n_rows), "sample_weight": rng.random(n_rows)}
    data.save(data.check(raw, "classification"), tmp_path / "data")
    config = _config(
        iterations=7,
        allowed_models=("CatBoost", "HistGradientBoosting", "LightGBM", "XGBoost", "SGD"),
        n_cross_validations=2,
        max_concurrent_iterations=None,
        enable_voting_ensemble=True,
        enable_stack_ensemble=True,
    )
    result = Sweep(config, tmp_path / "data", tmp_path / "out", executor=executor).run()
    assert len(result.outcomes) == 7
    for outcome in result.outcomes:
        assert outcome.state is IterationState.COMPLETED, outcome.traceback_text
        assert 0.45 < outcome.metrics["AUC_weighted"] < 0.55


def test_a_table_and_a_sparse_matrix_are_swept_like_numbers(
    executor: Executor, tmp_path: Path
) -> None:
    """Whatever model takes them; which ones that are is the components' own test."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(240) < 0.1, np.nan, y + rng.normal(size=240)),
            "colour": np.where(rng.random(240) < 0.7, np.array(["red", "blue"])[y], "green"),
        }
    )
    matrix = sparse.csr_matrix(rng.random((240, 400)) * (rng.random((240, 400)) < 0.05) + 0)
    for name, X in (("table", table), ("sparse", matrix)):
        data.save(data.check({"X": X, "y": y}, "classification"), tmp_path / name)
        result = Sweep(
            _config(
                iterations=6,
                n_cross_validations=2,
                allowed_models=None,
                max_concurrent_iterations=None,
            ),
            tmp_path / name,
            tmp_path / f"{name}-out",
            executor=executor,
        ).run()
        for outcome in result.outcomes:
            assert outcome.state is IterationState.COMPLETED, (
                f"{name} {outcome.proposal.label}: {outcome.traceback_text or outcome.reason}"
            )


def test_a_search_without_progress_ends_and_its_ensembles_still_come(
    executor: Executor, tmp_path: Path
) -> None:
    """Every pipeline is right from the first one on, so that nothing can get better."""
    y = np.arange(40) % 2
    data.save(data.check({"X": y.reshape(-1, 1) * 1.0, "y": y}, "classification"), tmp_path / "d")
    config = _config(
        iterations=60,
        n_cross_validations=2,
        allowed_models=("DecisionTree", "LogisticRegression"),
        max_concurrent_iterations=None,
        enable_early_stopping=True,
        early_stopping_n_iters=2,
        enable_voting_ensemble=True,
    )
    result = Sweep(config, tmp_path / "d", tmp_path / "out", executor=executor).run()
    assert "No progress for" in result.ended_by
    n_pipelines = sum(not each.proposal.is_ensemble for each in result.outcomes)
    assert LANDMARKS + 2 <= n_pipelines < LANDMARKS + 2 + config.iterations // 4
    assert result.outcomes[-1].proposal.is_ensemble


def test_a_sweep_over_many_rows_learns_from_a_sample_that_is_kept_once(
    executor: Executor, tmp_path: Path
) -> None:
    """Models, predictions and ensembles are of the sample; errors of the range of all rows."""
    n_rows = SUBSAMPLE_ROWS + 10_000
    x = np.linspace(0, 1, n_rows).reshape(-1, 1)
    data.save(data.check({"X": x, "y": 100 * x[:, 0]}, "regression"), tmp_path / "data")
    config = AutoMLConfig.parse(
        {
            "task": "regression",
            "iterations": 3,
            "allowed_models": ("DecisionTree", "ElasticNet"),
            "enable_subsampling": True,
            "enable_voting_ensemble": True,
            "test_size": 0.1,
        }
    )
    sweep = Sweep(
        config,
        tmp_path / "data",
        tmp_path / "out",
        executor=executor,
        save_model=save_pickle,
        load_model=load_pickle,
    )
    result = sweep.run()
    assert abs(sweep.plan.n_learn_rows - SUBSAMPLE_ROWS) <= 1
    assert "of a sample of 50,000 of 54,000 rows" in sweep.plan.validation
    assert sweep.plan.notes[-1].startswith("Models learn from a sample of 50,000 of 60,000 rows")
    for outcome in result.outcomes:
        assert outcome.state is IterationState.COMPLETED, outcome.traceback_text
        assert outcome.test_metrics["r2_score"] > 0.9
        error = outcome.metrics["root_mean_squared_error"]
        assert outcome.metrics["normalized_root_mean_squared_error"] == pytest.approx(error / 100)
        assert len(np.load(outcome.output_dir / "oof.npy")) < n_rows


def test_the_positive_label_has_metrics_of_its_own_and_can_be_optimised(
    executor: Executor, tmp_path: Path
) -> None:
    """Ensembles too; the other class has other ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1))
    y = np.where(x[:, 0] + rng.normal(size=120) > 0.8, "yes", "no")
    data.save(data.check({"X": x, "y": y}, "classification"), tmp_path / "data")
    found = {}
    for label in ("yes", "no"):
        config = _config(
            iterations=3,
            n_cross_validations=2,
            allowed_models=("DecisionTree", "LogisticRegression"),
            enable_voting_ensemble=True,
            positive_label=label,
            primary_metric="recall_score_binary",
        )
        result = Sweep(config, tmp_path / "data", tmp_path / label, executor=executor).run()
        assert all(set(BINARY_METRICS) < set(each.metrics) for each in result.outcomes)
        assert result.best_score == max(
            each.metrics["recall_score_binary"] for each in result.outcomes
        )
        found[label] = result.outcomes[0].metrics
    assert found["yes"]["recall_score_binary"] != found["no"]["recall_score_binary"]
    both = (found["yes"]["recall_score_binary"] + found["no"]["recall_score_binary"]) / 2
    assert found["yes"]["balanced_accuracy"] == pytest.approx(both)
