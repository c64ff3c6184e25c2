"""Speed against strength: what a model takes to predict is measured, and settings choose by it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlflow_automl_remote.automl import assembly, data, speed
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.ensemble.lighter import Cost, lighter
from mlflow_automl_remote.automl.executor import Executor
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.outcome import Outcome, best_of
from mlflow_automl_remote.automl.sweep import Sweep, SweepResult
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState

MODELS = ("ExtremeRandomTrees", "LogisticRegression", "RandomForest", "KNN")


class _Takes:
    """A model that takes so long of a processor whose clock stands still otherwise."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, work_ms: float, call_ms: float = 0.0
    ) -> None:
        self._work_ms, self._call_ms = work_ms, call_ms
        self._spent_s = 0.0
        self.n_rows: list[int] = []
        monkeypatch.setattr(speed.time, "process_time", lambda: self._spent_s)

    def predict(self, X: Any) -> Any:
        self.n_rows.append(len(X))
        self._spent_s += (self._call_ms + self._work_ms * len(X)) / 1000
        return np.zeros(len(X))


@pytest.fixture(scope="module")
def numbers() -> Dataset:
    """30 rows to predict one number of."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    return data.check({"X": X, "y": X[:, 0]}, "regression")


@pytest.mark.parametrize(("work_ms", "times"), [(0.001, 3), (0.003, 2), (0.2, 1)])
def test_what_a_row_takes_is_the_time_of_the_processor(
    numbers: Dataset, monkeypatch: pytest.MonkeyPatch, work_ms: float, times: int
) -> None:
    """Of 1,000 rows at once, even where there are fewer; what is short is measured again."""
    model = _Takes(monkeypatch, work_ms)
    assert speed.predict_ms_per_row(model, numbers) == pytest.approx(work_ms)
    assert model.n_rows == [1] + times * [speed.N_ROWS]
    model.n_rows.clear()
    assert speed.predict_ms_per_row(model, numbers, is_warm=True) == pytest.approx(work_ms)
    assert model.n_rows == times * [speed.N_ROWS]


def test_what_a_model_waits_for_does_not_count(numbers: Dataset) -> None:
    """Half a second of sleep is no work."""

    class Sleeps:
        def predict(self, X: Any) -> Any:
            time.sleep(0.15)
            return np.zeros(len(X))

    assert speed.predict_ms_per_row(Sleeps(), numbers) < 0.1


def test_slow_models_are_measured_on_few_rows(
    numbers: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement takes no longer than it is worth; a call counts as one of 1,000 rows."""
    model = _Takes(monkeypatch, work_ms=1.0, call_ms=20.0)
    measured = speed.predict_ms_per_row(model, numbers, expected_ms=0.1)
    assert measured == pytest.approx(1.02, rel=0.01)
    assert model.n_rows == [1, 80, 1]


def test_one_thread_predicts_while_it_is_measured(numbers: Dataset) -> None:
    """In ensembles of pipelines too; afterwards it is as before."""
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 2
    threads: list[object] = []

    class Watched(RandomForestClassifier):
        def predict_proba(self, X: Any) -> Any:
            threads.append(self.n_jobs)
            return super().predict_proba(X)

    forest = Watched(n_estimators=3, n_jobs=2, random_state=0)
    fitted = make_pipeline(StandardScaler(), forest).fit(X, y)
    voting = make_pipeline(assembly.voting_classifier({"a": fitted}, [1.0], np.array([0, 1])))
    speed.predict_ms_per_row(voting, data.check({"X": X, "y": y}, "classification"))
    assert set(threads) == {1}
    assert forest.n_jobs == 2


def _minus_squares(many: np.ndarray) -> np.ndarray:
    return -np.mean((many - TRUTH) ** 2, axis=1)


TRUTH = np.random.default_rng(0).normal(size=400)


def _noisy(*sizes: float) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([TRUTH + size * rng.normal(size=400) for size in sizes])


def test_above_the_limit_a_vote_keeps_what_scores_best_and_one_at_least() -> None:
    """The worst member goes first, whatever its weight."""
    predictions = _noisy(0.1, 1.0, 0.1)
    weights = np.array([0.3, 0.4, 0.3])
    cost = Cost(ms=np.array([1.0, 1.0, 1.0]), limit_ms=2.0, is_latency=False)
    assert lighter(weights, predictions, _minus_squares, cost).tolist() == [0.5, 0.0, 0.5]
    tight = Cost(ms=cost.ms, limit_ms=0.1, is_latency=False)
    assert (lighter(weights, predictions, _minus_squares, tight) > 0).sum() == 1
    wide = Cost(ms=cost.ms, limit_ms=3.0, is_latency=False)
    assert lighter(weights, predictions, _minus_squares, wide).tolist() == weights.tolist()


def test_for_latency_a_vote_leaves_out_slow_members_that_it_does_not_need() -> None:
    """But not the slow one that makes it good."""
    predictions = np.concatenate([_noisy(1.0, 0.1), _noisy(0.1)[:1]])
    predictions[2] = predictions[1]
    thirds = np.full(3, 1 / 3)
    cost = Cost(ms=np.array([1.0, 5.0, 2.0]), limit_ms=None, is_latency=True)
    found = lighter(thirds, predictions, _minus_squares, cost)
    assert found.tolist() == [0.0, 0.0, 1.0]


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y = load_breast_cancer(return_X_y=True)
    folder = tmp_path_factory.mktemp("cancer")
    data.save(data.check({"X": X, "y": y}, "classification"), folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y = load_digits(return_X_y=True)
    folder = tmp_path_factory.mktemp("digits")
    data.save(data.check({"X": X[:400], "y": y[:400]}, "classification"), folder)
    return folder


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with LocalExecutor() as made:
        yield made


def _save(pipeline: object, dataset: Dataset, folder: Path) -> None:
    del dataset
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(pipeline))


def _load(folder: Path) -> Any:
    return pickle.loads((folder / "model.pkl").read_bytes())


def _run(executor: Executor, folder: Path, work: Path, **settings: object) -> SweepResult:
    config = AutoMLConfig.parse(
        {
            "task": "classification",
            "primary_metric": "AUC_weighted",
            "allowed_models": MODELS,
            **settings,
        }
    )
    sweep = Sweep(config, folder, work, executor=executor, save_model=_save, load_model=_load)
    return sweep.run()


@pytest.fixture(scope="module")
def quick(
    executor: Executor, digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> SweepResult:
    """A sweep for latency."""
    return _run(
        executor,
        digits,
        tmp_path_factory.mktemp("quick"),
        iterations=10,
        n_cross_validations=3,
        optimize_for="latency",
    )


def _times(result: SweepResult) -> dict[int, float]:
    return {
        one.proposal.number: one.predict_ms_per_row
        for one in result.outcomes
        if one.predict_ms_per_row is not None
    }


def test_every_iteration_says_what_its_model_takes_the_ensemble_too(quick: SweepResult) -> None:
    """A vote takes about what its members take together; times to fit are there as well.

    Each is measured by itself, on machines that do other work meanwhile, so about is a wide word.
    """
    times = _times(quick)
    assert len(times) == len(quick.outcomes)
    assert min(times.values()) > 0
    assert all(one.fit_s > 0 for one in quick.outcomes)
    vote = next(one for one in quick.outcomes if one.proposal.model == "VotingEnsemble")
    members = [int(each) for each in str(vote.hyperparameters["model__members"]).split(", ")]
    together = sum(times[number] for number in members)
    assert 0.1 * together < times[vote.proposal.number] < 10 * together


def test_latency_makes_the_fastest_of_the_good_ones_the_best(quick: SweepResult) -> None:
    """The same iterations have another best one for accuracy: `optimize_for` decides."""
    config = AutoMLConfig.parse({"task": "classification", "primary_metric": "AUC_weighted"})
    strongest = best_of(config, quick.outcomes, ())
    assert strongest is not None
    assert quick.best is not None
    assert quick.best.predict_ms_per_row is not None
    floor = strongest.score - (strongest.standard_error or 0.0)
    good = [one for one in quick.outcomes if one.metrics["AUC_weighted"] >= floor]
    assert len(good) > 1
    assert quick.best in good
    assert quick.best.predict_ms_per_row == min(_times(quick)[one.proposal.number] for one in good)
    assert strongest.predict_ms_per_row is not None
    assert strongest.predict_ms_per_row > 2 * quick.best.predict_ms_per_row


def test_the_limit_is_one_of_what_is_published(
    quick: SweepResult, executor: Executor, digits: Path, tmp_path: Path
) -> None:
    """A model that says it is slower cannot be the best, an ensemble neither; others can."""
    times = sorted(_times(quick).values())
    limit_ms = (times[0] * times[-1]) ** 0.5
    result = _run(
        executor,
        digits,
        tmp_path,
        iterations=10,
        n_cross_validations=3,
        max_predict_ms_per_row=limit_ms,
    )
    assert {one.is_partial for one in result.outcomes} == {True, False}
    for one in result.outcomes:
        assert one.predict_ms_per_row is not None
        assert one.is_partial is (one.predict_ms_per_row > limit_ms)
        assert one.is_partial is ("max_predict_ms_per_row" in one.reason)
    assert result.best is not None


def _n_models(outcome: Outcome) -> int:
    """Of how many pipelines, fitted on folds, the model is."""
    inside = getattr(_load(outcome.output_dir / "model")[-1], "named_estimators_", {})
    return len([name for name in inside if "fold_" in name]) or 1


@pytest.mark.parametrize(
    "settings", [{"optimize_for": "latency"}, {"max_predict_ms_per_row": 0.02}]
)
def test_a_race_makes_models_that_are_fast_enough(
    executor: Executor, cancer: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    """Of one fold for latency, which is what their score is of; within a limit where there is."""
    result = _run(
        executor,
        cancer,
        tmp_path,
        iterations=100,
        experiment_timeout_minutes="5s",
        allowed_models=("KNN", "LogisticRegression", "RandomForest"),
        **settings,
    )
    assert result.best is not None
    done = [one for one in result.outcomes if one.state is IterationState.COMPLETED]
    for one in done:
        assert one.predict_ms_per_row is not None
        if "optimize_for" in settings:
            members = str(one.hyperparameters.get("model__members", "")).split(", ")
            assert _n_models(one) == len(members)
        elif not one.is_partial:
            assert one.predict_ms_per_row <= 0.02
    assert not result.best.is_partial
