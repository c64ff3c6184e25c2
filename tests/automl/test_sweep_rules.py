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
import pytest
from scipy import sparse
from sklearn.datasets import load_digits

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.executor import Executor, available_cores
from mlflow_automl_remote.automl.outcome import Outcome
from mlflow_automl_remote.automl.proposals import PastIteration
from mlflow_automl_remote.automl.sweep import Sweep
from mlflow_automl_remote.config import AutoMLConfig
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
    with Executor(grace_s=0.2) as made:
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
            iteration_timeout_minutes="8s",
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
    assert "time limit of 8 s" in ended[4].reason


@pytest.mark.skipif(available_cores() < 2, reason="needs two cores")
def test_the_same_seed_gives_the_same_scores_whatever_the_concurrency(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """In the portfolio, in the search after it, and in the ensembles."""
    one, two = (
        Sweep(
            _config(
                iterations=26,
                max_concurrent_iterations=n,
                allowed_models=("DecisionTree", "ExtremeRandomTrees", "LightGBM", "SGD"),
            ),
            digits,
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
        )
        for each in before.outcomes
    ]
    after = Sweep(config, digits, tmp_path, executor=executor, history=history).run()
    assert [each.proposal.number for each in after.outcomes] == [5]
    assert before.outcomes[-1].metrics == after.outcomes[-1].metrics
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


def test_the_time_of_the_sweep_ends_it_and_kills_what_runs(
    executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """An iteration that hangs does not outlive it, and its reason names the setting."""
    begun = time.monotonic()
    result = Sweep(
        _config(iterations=50, experiment_timeout_minutes="4s", allowed_models=("KNN",)),
        digits,
        tmp_path,
        executor=executor,
        save_model=lambda fitted, dataset, path: time.sleep(60),
    ).run()
    assert time.monotonic() - begun < 10
    assert [each.state for each in result.outcomes] == [IterationState.TIMED_OUT]
    assert "experiment_timeout_minutes" in result.outcomes[0].reason
    assert "experiment_timeout_minutes" in result.ended_by


@pytest.mark.parametrize("more", [{}, {"validation_size": 0.3, "n_cross_validations": 2}])
def test_random_labels_score_at_chance_on_every_path(
    executor: Executor, tmp_path: Path, more: dict[str, object]
) -> None:
    """Early stopping, weights and ensembles included; only the best of many may be lucky."""
    rng = np.random.default_rng(0)
    raw = {
        "X": rng.normal(size=(6_000, 5)),
        "y": rng.integers(0, 2, 6_000),
        "sample_weight": rng.random(6_000),
    }
    data.save(data.check(raw, "classification"), tmp_path / "data")
    models = ("CatBoost", "HistGradientBoosting", "LightGBM", "LogisticRegression", "XGBoost")
    config = _config(
        iterations=8,
        allowed_models=models,
        n_cross_validations=2,
        enable_voting_ensemble=True,
        enable_stack_ensemble=True,
        **{name: value for name, value in more.items() if name == "validation_size"},
    )
    result = Sweep(config, tmp_path / "data", tmp_path / "out", executor=executor).run()
    for outcome in result.outcomes:
        assert outcome.state is IterationState.COMPLETED, outcome.traceback_text
        assert 0.45 < outcome.metrics["AUC_weighted"] < 0.55


def test_a_table_and_a_sparse_matrix_are_swept_like_numbers(
    executor: Executor, tmp_path: Path
) -> None:
    """All models that take them, with text, categories and gaps in the table."""
    import pandas as pd

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
            _config(iterations=24, n_cross_validations=2, allowed_models=None),
            tmp_path / name,
            tmp_path / f"{name}-out",
            executor=executor,
        ).run()
        for outcome in result.outcomes:
            assert outcome.state is IterationState.COMPLETED, (
                f"{name} {outcome.proposal.label}: {outcome.traceback_text or outcome.reason}"
            )
