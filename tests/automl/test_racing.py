"""The search against the clock: who gets more folds, what comes of it, and when it ends."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.components.base import ALL_SCALERS, Pace
from mlflow_automl_remote.automl.components.pace import Stopwatch
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.ensemble.run import EnsembleOrder, Member, run_ensemble, within
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.proposals import Proposal
from mlflow_automl_remote.automl.racing.driver import Driver, Settings
from mlflow_automl_remote.automl.racing.fold import (
    FOLDS_NAME,
    FoldsResult,
    count_models,
    load_models,
)
from mlflow_automl_remote.automl.racing.portfolio import racers
from mlflow_automl_remote.automl.racing.schedule import (
    HEAD,
    HEAD_OF_KNOWN,
    KEPT,
    Race,
    Stages,
    Step,
)
from mlflow_automl_remote.automl.sampler import neighbour
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.automl.sweep import Sweep, SweepResult
from mlflow_automl_remote.config import MODELS as NAMES
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.states import IterationState

N_FOLDS = 5
FOLDED = AutoMLConfig.parse({"task": "classification", "n_cross_validations": N_FOLDS})
NUMBERS = AutoMLConfig.parse(
    {"task": "regression", "primary_metric": "r2_score", "n_cross_validations": N_FOLDS}
)


def _proposals(**more: Any) -> Iterator[Proposal]:
    for number in range(100):
        yield Proposal(
            number=number,
            scaler="StandardScaler",
            model="KNN",
            params={},
            proposed_by="portfolio",
            **more,
        )


def _result(score: float, n_folds: int, fold_s: float = 2.0) -> FoldsResult:
    return FoldsResult(
        scores=(score,) * n_folds, fit_s=fold_s * n_folds, predict_s=0, keep_s=0, settled=None
    )


class _Track:
    """A race in which pipeline n scores n, if nothing else is said; the vote uses the best."""

    def __init__(
        self,
        n_pipelines: int = 100,
        *,
        source: str = "",
        scores: Mapping[int, float] | None = None,
        **settings: int,
    ) -> None:
        self._scores = scores or {}
        self._left = iter(list(_proposals(source_run_id=source))[:n_pipelines])
        self.steps: list[Step] = []
        stages = Stages(n_folds=N_FOLDS, **settings)
        self.n_first = stages.n_first
        self.race = Race(stages, choose=self._best, greater_is_better=True)

    def _best(self, predicted: Sequence[np.ndarray]) -> np.ndarray:
        return np.eye(len(predicted))[int(np.argmax([one[0] for one in predicted]))]

    def step(self, left_s: float = 100.0, fold_s: float = 2.0) -> Step | None:
        step = self.race.next(left_s, lambda: next(self._left, None))
        if step is None:
            return None
        self.steps.append(step)
        if step.kind == "folds":
            number = step.proposal.number
            n = len(step.folds)
            score = self._scores.get(number, float(number))
            raced = self.race.runner(number).n_done + n >= self.n_first
            predicted = np.array([score]) if raced else None
            self.race.took(step, _result(score, n, fold_s), predicted)
        return step


def test_only_what_the_vote_uses_gets_more_than_the_first_fold() -> None:
    """The best of the pipelines gets all folds; the worst end with one."""
    track = _Track(n_pipelines=12)
    while track.step() is not None:
        pass
    while (step := track.race.finish()) is not None:
        track.steps.append(step)
    n_folds = {number: track.race.runner(number).n_done for number in range(12)}
    assert N_FOLDS == n_folds[11]
    assert {1} == {n_folds[number] for number in range(HEAD - 2)}
    finished = [step.proposal.number for step in track.steps if step.kind == "finish"]
    assert list(range(12)) == sorted(finished)


def test_losers_end_while_the_race_goes_on() -> None:
    """No more than a few of them are kept back."""
    track = _Track()
    for _ in range(40):
        track.step()
    n_raced = len({step.proposal.number for step in track.steps})
    n_ended = len([step for step in track.steps if step.kind == "finish"])
    assert n_raced - n_ended <= KEPT + 2


def test_late_in_a_race_folds_that_lack_come_before_new_pipelines() -> None:
    """New ones are begun again when the best has all folds."""
    track = _Track()
    for _ in range(HEAD):
        track.step(left_s=100.0)
    best = HEAD - 1
    late = [track.step(left_s=30.0) for _ in range(N_FOLDS - 1)]
    assert [(best, (at,)) for at in range(1, N_FOLDS)] == [
        (step.proposal.number, step.folds) for step in late if step is not None
    ]
    begun = {step.proposal.number for step in track.steps}
    while (step := track.step(left_s=30.0)) is not None and step.kind == "finish":
        pass
    assert step is not None
    assert step.proposal.number not in begun


def test_what_earlier_sweeps_found_gets_its_folds_sooner() -> None:
    """They are known to be good: fewer of them race before the best one goes on."""
    for source, n_raced in (("", HEAD), ("run", HEAD_OF_KNOWN)):
        track = _Track(source=source)
        while (step := track.step()) is not None and step.folds[:1] == (0,):
            pass
        assert n_raced == len(track.steps) - 1


@pytest.mark.parametrize(("n_rare", "n_folds"), [(3000, 1), (600, 5), (900, 3)])
def test_of_two_classes_as_many_rows_tell_as_there_are_of_the_rarer(
    n_rare: int, n_folds: int, tmp_path: Path
) -> None:
    """The rarer one is, the more folds are needed to tell pipelines apart."""
    X = np.random.default_rng(0).normal(size=(6000, 20))
    dataset = data.check({"X": X, "y": (np.arange(6000) < n_rare).astype(int)}, "classification")
    driver = _driver(dataset, tmp_path)
    new = _proposals()
    step, n_raced = driver.race.next(30.0, lambda: next(new)), 0
    while step is not None and step.proposal.number == 0 and step.kind == "folds":
        n_raced += len(step.folds)
        driver.race.took(step, _result(0.8, len(step.folds)), None)
        step = driver.race.next(30.0, lambda: next(new))
    assert n_folds == n_raced


def test_what_is_far_behind_after_a_few_folds_gets_no_more() -> None:
    """It ends with those few; one that is not so far behind races on all that tell."""
    track = _Track(n_pipelines=3, scores={0: 0.9, 1: 0.75, 2: 0.85}, n_first=4, n_look=2)
    while track.step() is not None:
        pass
    n_folds = [track.race.runner(number).n_done for number in range(3)]
    assert [N_FOLDS, 2, 4] == n_folds


def test_a_model_that_took_longer_than_there_is_time_is_not_begun_again() -> None:
    """Nor is one about which nothing is known left out for that."""
    track = _Track(n_pipelines=1, n_first=4)
    track.step(fold_s=2.0)
    assert not track.race.fits("KNN", 7.0)
    assert track.race.fits("KNN", 13.0)
    assert track.race.fits("SVM", 7.0)


def _driver(dataset: Dataset, folder: Path, config: AutoMLConfig = FOLDED) -> Driver:
    settings = Settings(
        config=config,
        data_dir=folder,
        features_dir=folder,
        n_places=1,
        n_threads=1,
        device="cpu",
        save_model=None,
        save_charts=None,
    )
    return Driver(settings, dataset, make_splits(dataset, config), total_s=30.0)


@pytest.mark.parametrize("n_of_first", [1, 2, 3])
def test_an_ensemble_is_chosen_by_folds_that_all_that_matters_was_fitted_on(
    n_of_first: int, tmp_path: Path
) -> None:
    """Of two that the vote needs one has all folds; the other is not left out for that."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 10_000)
    dataset = data.check({"X": rng.normal(size=(10_000, 11)), "y": y}, "classification")
    driver = _driver(dataset, tmp_path)
    new = _proposals()
    _, first_rows = make_splits(dataset, FOLDED).folds[0]
    for n_folds in (n_of_first, N_FOLDS):
        step = driver.race.next(30.0, lambda: next(new))
        assert step is not None
        guess = np.clip(y[first_rows] + rng.normal(size=len(first_rows)), 0, 1)
        folds = replace(step, folds=tuple(range(n_folds)))
        predicted = np.column_stack([1 - guess, guess])
        driver.race.took(folds, _result(0.8, n_folds), predicted)
    driver.race.next(0.0, lambda: next(new))
    assert driver.n_folds_for("VotingEnsemble") == n_of_first


def test_a_stack_of_numbers_learns_from_all_folds_that_a_vote_need_not_look_at(
    tmp_path: Path,
) -> None:
    """Of many rows a vote is chosen by the first folds; a stack is of those that know all."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=22_000)
    dataset = data.check({"X": rng.normal(size=(22_000, 11)), "y": y}, "regression")
    driver = _driver(dataset, tmp_path, NUMBERS)
    new = _proposals()
    _, first_rows = make_splits(dataset, NUMBERS).folds[0]
    for n_folds, noise in ((N_FOLDS, 1.0), (N_FOLDS, 1.0), (2, 0.1)):
        while (step := driver.race.next(30.0, lambda: next(new))) and step.kind == "finish":
            pass
        assert step is not None
        guess = y[first_rows] + noise * rng.normal(size=len(first_rows))
        folds = replace(step, folds=tuple(range(n_folds)))
        driver.race.took(folds, _result(1 / noise, n_folds), guess)
    driver.race.next(0.0, lambda: next(new))
    for kind, n_folds, n_members in (("VotingEnsemble", 2, 3), ("StackEnsemble", N_FOLDS, 2)):
        assert driver.n_folds_for(kind) == n_folds
        assert len(driver.best(kind)) == n_members


def test_nothing_is_begun_that_there_is_no_time_for() -> None:
    """A fold that is predicted to take longer than there is time is left."""
    track = _Track(n_pipelines=1)
    assert track.step(left_s=0.1) is None
    track.step()
    assert track.step(left_s=1.0) is None


def test_a_booster_that_is_too_slow_learns_faster() -> None:
    """Its first rounds say how many there is time for; one with time enough stays as it is."""
    for per_round_s, is_hurried in ((1.0, True), (0.001, False)):
        now = [0.0]
        watch = Stopwatch(Pace(until=60.0), 0.05, 1000, clock=lambda now=now: now[0])
        rates = []
        for done in range(1, 20):
            now[0] += per_round_s
            rates.append(watch.faster(done))
        assert is_hurried == any(rate is not None for rate in rates)
        assert (watch.learning_rate > 0.05) == is_hurried
        now[0] = 60.0
        assert watch.is_over()


def test_neighbours_are_of_the_same_model_and_differ_a_little() -> None:
    """Nothing that the pipeline leaves to the library is chosen."""
    rng = np.random.default_rng(0)
    specs = racers("classification", ("LightGBM", "CatBoost", "SVM"), ("MaxAbsScaler",), 100)
    for spec in specs:
        near = neighbour(spec, "classification", rng)
        assert spec.model == near.model
        assert spec.params.keys() == near.params.keys()
        assert spec.identity != near.identity


@pytest.mark.parametrize(("n_rows", "n_logs"), [(None, 1), (100, 2), (10**6, 2)])
def test_logarithms_are_learned_only_of_targets_that_have_one(
    n_rows: int | None, n_logs: int
) -> None:
    """In a race and without one; the other pipelines are the same ones, in the same order."""

    def first(*, is_positive: bool) -> list[PipelineSpec]:
        models = NAMES["regression"]
        if n_rows is None:
            return list(portfolio("regression", models, is_positive=is_positive))
        return list(racers("regression", models, ALL_SCALERS, n_rows, is_positive=is_positive))

    every = first(is_positive=True)
    logs = [spec for spec in every if spec.params.get("model__objective") == "poisson"]
    assert len(logs) == n_logs
    assert [spec for spec in every if spec not in logs] == first(is_positive=False)


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X, y = load_breast_cancer(return_X_y=True)
    folder = tmp_path_factory.mktemp("cancer")
    data.save(data.check({"X": X, "y": np.array(["no", "yes"])[y]}, "classification"), folder)
    return folder


def _save(pipeline: object, dataset: Dataset, folder: Path) -> None:
    del dataset
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(pipeline))


def _load(folder: Path) -> object:
    return pickle.loads((folder / "model.pkl").read_bytes())


RACED: Mapping[str, object] = {
    "task": "classification",
    "primary_metric": "AUC_weighted",
    "experiment_timeout_minutes": "12s",
    "iterations": 1000,
}
UNHURRIED: Mapping[str, object] = {
    **RACED,
    "experiment_timeout_minutes": "90s",
    "iterations": 6,
    "enable_voting_ensemble": True,
}


def _race(
    cancer: Path, factory: pytest.TempPathFactory, settings: Mapping[str, object]
) -> SweepResult:
    config = AutoMLConfig.parse(settings)
    with LocalExecutor() as executor:
        executor.run(Call(len, "ready", output_dir=factory.mktemp("log")))
        return Sweep(
            config,
            cancer,
            factory.mktemp("work"),
            executor=executor,
            save_model=_save,
            load_model=_load,
        ).run()


@pytest.fixture(scope="module")
def raced(cancer: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, float]:
    """A sweep of 12 seconds, and how many it took."""
    begun = time.monotonic()
    result = _race(cancer, tmp_path_factory, RACED)
    return result, time.monotonic() - begun


@pytest.fixture(scope="module")
def unhurried(cancer: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """A sweep of few iterations, that ends long before its time."""
    return _race(cancer, tmp_path_factory, UNHURRIED)


def test_a_race_ends_in_time_with_models_that_predict(
    raced: tuple[SweepResult, float], cancer: Path
) -> None:
    """Every iteration that completed has one, of the labels of the data."""
    result, took_s = raced
    assert took_s < 25  # 12 s and at most 3 on a quiet machine
    dataset = data.open_dataset(cancer)
    completed = [one for one in result.outcomes if one.state is IterationState.COMPLETED]
    assert len(completed) >= 3
    for outcome in completed:
        model = _load(outcome.output_dir / "model")
        assert set(model.predict(dataset.X[:40])) <= {"no", "yes"}


def test_what_not_all_folds_have_scored_cannot_be_the_best(
    raced: tuple[SweepResult, float],
) -> None:
    """It says so, and has scores of its folds, but no score of its own."""
    result, _ = raced
    assert result.best is not None
    assert not result.best.is_partial
    for outcome in result.outcomes:
        if outcome.is_partial:
            assert "AUC_weighted" not in outcome.metrics
            assert outcome.fold_metrics["AUC_weighted"]
            assert "folds" in outcome.reason
        elif outcome.state is IterationState.COMPLETED:
            assert outcome.metrics["AUC_weighted"] > 0.5


def test_the_vote_is_of_models_of_folds_without_a_fit(unhurried: SweepResult) -> None:
    """Its model is flat: the pipelines of the folds, each with its share."""
    vote = next(one for one in unhurried.outcomes if one.proposal.model == "VotingEnsemble")
    model = _load(vote.output_dir / "model")
    voting = model[-1]
    assert sum(voting.weights) == pytest.approx(1.0)
    assert len(voting.estimators_) > len(vote.hyperparameters) - 1


def test_a_race_over_numbers_ends_with_a_stack_of_the_means_of_folds(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each member answers with all models it was fitted as, and the stack with one number."""
    X, y = load_diabetes(return_X_y=True)
    folder = tmp_path_factory.mktemp("diabetes")
    data.save(data.check({"X": X, "y": y}, "regression"), folder)
    settings = UNHURRIED | {
        "task": "regression",
        "primary_metric": "r2_score",
        "iterations": 8,
        "enable_stack_ensemble": True,
    }
    result = _race(folder, tmp_path_factory, settings)
    stack = next(one for one in result.outcomes if one.proposal.model == "StackEnsemble")
    assert stack.state is IterationState.COMPLETED, stack.traceback_text
    assert 0.3 < stack.metrics["r2_score"] < 0.6
    model = _load(stack.output_dir / "model")
    assert {len(member[-1].estimators_) for member in model[-1].estimators_} == {8}
    assert model.predict(X[:5]).shape == (5,)


def test_a_vote_that_is_too_slow_is_made_of_fewer_models(unhurried: SweepResult) -> None:
    """First come the models that bring most for their time; the least important members go."""
    whole = [
        one
        for one in unhurried.outcomes
        if one.state is IterationState.COMPLETED and not one.proposal.is_ensemble
    ]
    members = [
        Member(number=one.proposal.number, label="", folder=one.output_dir, predict_ms=1.0)
        for one in whole
        if not one.is_partial
    ][:2]
    chosen = [(members[0], 0.7), (members[1], 0.3)]
    n_all = len(list((members[0].folder / "folds").glob("*.pkl")))
    assert [(members[0], 0.7, n_all), (members[1], 0.3, n_all)] == within(chosen, None)
    assert [3, 1] == [n for _, _, n in within(chosen, 4.0)]
    slow = replace(members[0], predict_ms=5.0)
    assert [1, 3] == [n for _, _, n in within([(slow, 0.7), (members[1], 0.3)], 8.0)]
    assert [2, 2] == [n for _, _, n in within([(members[0], 0.5), (members[1], 0.5)], 4.0)]
    assert [(members[0], 0.7, 1)] == within(chosen, 1.0)
    assert [(members[1], 0.3, 1)] == within([(slow, 0.7), (members[1], 0.3)], 1.0)
    assert [(slow, 0.7, 1)] == within([(slow, 0.7)], 1.0)
    assert within(chosen, 2.0 * n_all) == within(chosen, None)
    assert [1, 1] == [n for _, _, n in within(chosen, None, 1)]


def test_a_vote_leaves_out_what_is_too_slow_alone(
    unhurried: SweepResult, cancer: Path, tmp_path: Path
) -> None:
    """Whatever the folds have shown: it is measured, and the vote is of the others."""
    quick, slow = (
        next(one for one in unhurried.outcomes if one.proposal.model == model)
        for model in ("LogisticRegression", "ExtremeRandomTrees")
    )
    of_models_ms = [one.predict_ms_per_row or math.nan for one in (quick, slow)]
    limit_ms = math.sqrt(math.prod(of_models_ms)) / count_models(quick.output_dir)
    order = EnsembleOrder(
        kind="VotingEnsemble",
        members=tuple(
            Member(
                number=one.proposal.number,
                label="",
                folder=one.output_dir,
                predict_ms=0.6 * limit_ms,
            )
            for one in (quick, slow)
        ),
        config=AutoMLConfig.parse({**UNHURRIED, "max_predict_ms_per_row": limit_ms}),
        data_dir=cancer,
        output_dir=tmp_path,
        seed=0,
        save_model=_save,
        load_model=_load,
    )
    found = run_ensemble(order)
    assert found.hyperparameters["model__members"] == str(quick.proposal.number)
    assert found.predict_ms_per_row is not None
    assert found.predict_ms_per_row <= limit_ms


def test_members_of_a_thinned_vote_have_models_of_different_folds(tmp_path: Path) -> None:
    """Together they have seen more of the rows; after the last fold comes the first."""
    (tmp_path / FOLDS_NAME).mkdir()
    for number in range(12):
        (tmp_path / FOLDS_NAME / f"{number}.pkl").write_bytes(pickle.dumps(number))
    assert load_models(tmp_path, 2) == [0, 1]
    assert load_models(tmp_path, 3, first=10) == [10, 11, 0]
    assert load_models(tmp_path, 1, first=25) == [1]
    assert sorted(load_models(tmp_path, first=5)) == list(range(12))


def test_what_predicts_too_slowly_cannot_be_the_best(cancer: Path, tmp_path: Path) -> None:
    """It has all scores but the one that is compared, and says why."""
    config = AutoMLConfig.parse(
        {
            "task": "classification",
            "iterations": 2,
            "allowed_models": ("KNN", "LogisticRegression"),
            "max_predict_ms_per_row": 1e-9,
            "n_cross_validations": 2,
        }
    )
    with LocalExecutor() as executor:
        result = Sweep(config, cancer, tmp_path, executor=executor).run()
    assert result.best_number is None
    assert all("max_predict_ms_per_row" in one.reason for one in result.outcomes)
    assert all("AUC_weighted" in one.metrics for one in result.outcomes)
