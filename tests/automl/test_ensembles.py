"""Ensembles: chosen greedily, scored on folds they were not learnt from, saved as plain models."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mlflow_automl_remote.automl import assembly, data, evaluation, predictions
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.ensemble.blends import (
    LEARN,
    MOST_CELLS_OF_NUMBERS,
    TEMPERATURES,
    TEMPERATURES_OF_BAGS,
    Predictions,
    Vote,
)
from mlflow_automl_remote.automl.ensemble.lighter import Cost
from mlflow_automl_remote.automl.ensemble.run import EnsembleOrder, Member, run_ensemble
from mlflow_automl_remote.automl.ensemble.scoring import Scorer
from mlflow_automl_remote.automl.ensemble.selection import select
from mlflow_automl_remote.automl.iteration import IterationResult
from mlflow_automl_remote.automl.racing.fold import FOLDS_NAME
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.config import AutoMLConfig, Task

KINDS = ("VotingEnsemble", "StackEnsemble")
REGRESSION = AutoMLConfig.parse({"task": "regression", "primary_metric": "r2_score"})


def _numbers(y: np.ndarray) -> Dataset:
    return data.check({"X": y.reshape(-1, 1), "y": y}, "regression")


def _error(truth: np.ndarray):
    return lambda many: -np.mean((truth - many) ** 2, axis=1)


def _near_to(mean: float):
    """Predictions are the better, the nearer they are to a number."""

    def score(many: np.ndarray) -> np.ndarray:
        return -np.abs(many - mean).reshape(len(many), -1).sum(axis=1)

    return lambda y, values, weight: (values, score)


def _counting(members, blend):
    """Give the members that count, as an ensemble is assembled of them."""
    pairs = zip(members.items(), blend.weights, strict=True)
    return {name: model for (name, model), weight in pairs if weight > 0}


def test_selection_combines_errors_that_cancel() -> None:
    """Two models that are wrong to either side beat the best single one."""
    truth = np.zeros(50)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=50)
    weights = select(np.stack([noise, -noise, noise * 0.8]), _error(truth))
    assert weights.sum() == pytest.approx(1.0)
    assert np.abs(weights @ np.stack([noise, -noise, noise * 0.8])).max() < 0.1


def test_selection_keeps_the_best_alone_when_nothing_helps_it() -> None:
    """A perfect model needs no company; and without any score all count alike."""
    truth = np.arange(10.0)
    assert select(np.stack([truth + 1, truth, truth + 2]), _error(truth)).tolist() == [0, 1, 0]
    undefined = select(np.stack([truth, truth]), lambda many: np.full(len(many), np.nan))
    assert undefined.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("labels", [np.array(["a", "b"]), np.array([2, 5, 9])])
@pytest.mark.parametrize("kind", KINDS)
def test_an_assembled_classifier_predicts_what_the_blend_of_its_members_does(
    labels: np.ndarray, kind: str
) -> None:
    """Of two classes and of more, with labels that are not codes."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 3)), labels[np.arange(90) % len(labels)]
    X[:, 0] += np.arange(90) % len(labels)
    members = {"one": LogisticRegression().fit(X, y), "two": DecisionTreeClassifier().fit(X, y)}
    values = np.stack([member.predict_proba(X) for member in members.values()])
    known = Predictions(values=values, y=y, weight=np.ones(90), classes=labels)
    blend = LEARN[kind](known, _near_to(float(values.mean())), 0)
    model = pickle.loads(pickle.dumps(blend.assemble(_counting(members, blend), labels)))
    assert model.predict_proba(X) == pytest.approx(blend.predict(values))
    assert set(model.predict(X)) <= set(labels)
    assert labels.tolist() == model.classes_.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_assembled_regressor_predicts_what_the_blend_of_its_members_does(kind: str) -> None:
    """Named columns stay named."""
    import pandas as pd

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    y = X["a"].to_numpy() + 0.1 * rng.normal(size=60)
    members = {
        "one": LinearRegression().fit(X, y),
        "two": DecisionTreeRegressor(max_depth=3).fit(X, y),
    }
    values = np.stack([member.predict(X) for member in members.values()])
    known = Predictions(values=values, y=y, weight=None, classes=np.array([]))
    blend = LEARN[kind](known, _near_to(float(values.mean())), 0)
    model = blend.assemble(_counting(members, blend), np.array([]))
    assert model.predict(X) == pytest.approx(blend.predict(values))
    assert list(model.feature_names_in_) == ["a", "b"]


def test_voting_weights_belong_to_their_members() -> None:
    """A member of weight 1 is the vote."""
    X, y = np.arange(8.0).reshape(-1, 1), np.array([0, 1] * 4)
    one, two = LogisticRegression().fit(X, y), DecisionTreeClassifier().fit(X, y)
    voted = assembly.voting_classifier({"a": one, "b": two}, [0.0, 1.0], np.array([0, 1]))
    assert two.predict(X).tolist() == voted.predict(X).tolist()


@pytest.mark.parametrize("power", [0.4, 2.5])
@pytest.mark.parametrize("labels", [np.array(["a", "b"]), np.array([2, 5, 9])])
def test_a_vote_is_as_sure_as_its_rows_say(labels: np.ndarray, power: float) -> None:
    """Whether members are too cautious or too rash; its model is scikit-learn's, labels stay."""
    rng = np.random.default_rng(0)
    n_classes = len(labels)
    X = rng.normal(size=(600, n_classes))
    y = labels[(X + rng.gumbel(size=X.shape)).argmax(axis=1)]
    members = {name: LogisticRegression(C=c).fit(X, y) for name, c in (("a", 1.0), ("b", 10.0))}
    for member in members.values():
        member.coef_ = power * member.coef_
    values = np.stack([member.predict_proba(X) for member in members.values()])
    known = Predictions(values=values, y=y, weight=None, classes=labels)
    plain = LEARN["VotingEnsemble"](known, _near_to(0.5), 0)
    tempered = LEARN["VotingEnsemble"](replace(known, temperatures=TEMPERATURES), _near_to(0.5), 0)
    assert isinstance(plain, Vote)
    assert isinstance(tempered, Vote)
    assert plain.temperature == 1
    assert tempered.temperature == pytest.approx(power, rel=0.2)
    before, after = (log_loss(y, one.predict(values)) for one in (plain, tempered))
    assert after < before
    model = pickle.loads(pickle.dumps(tempered.assemble(_counting(members, tempered), labels)))
    assert type(model).__module__.startswith("sklearn.")
    assert model.predict_proba(X) == pytest.approx(tempered.predict(values))
    voted = plain.assemble(_counting(members, plain), labels)
    assert model.predict(X).tolist() == voted.predict(X).tolist()
    assert labels.tolist() == model.classes_.tolist()


def test_certain_probabilities_stay_finite_at_any_temperature() -> None:
    """A tree is certain of what it has seen, and so is a vote of trees."""
    X, y = np.arange(8.0).reshape(-1, 1), np.array([0, 1] * 4)
    tree = DecisionTreeClassifier().fit(X, y)
    vote = Vote(weights=np.ones(1), temperature=0.2)
    model = vote.assemble({"tree": tree}, np.array([0, 1]))
    assert y.tolist() == model.predict(X).tolist()
    assert model.predict_proba(X).sum(axis=1) == pytest.approx(np.ones(8))


def test_a_vote_of_bags_is_never_made_less_sure() -> None:
    """Out of one fold its members are surer than the mean of the models of all folds."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 500)
    rash = softmax(8 * np.eye(3)[(y + rng.integers(0, 2, 500)) % 3], axis=1)[None]
    known = Predictions(values=rash, y=y, weight=None, classes=np.arange(3))
    vote, bags = (
        LEARN["VotingEnsemble"](replace(known, temperatures=limits), _near_to(0.5), 0)
        for limits in (TEMPERATURES, TEMPERATURES_OF_BAGS)
    )
    assert isinstance(vote, Vote)
    assert isinstance(bags, Vote)
    assert vote.temperature > 2
    assert bags.temperature == 1


def test_the_score_of_a_vote_with_a_temperature_is_honest(tmp_path: Path) -> None:
    """Rows of a fold have the one that the other folds say; that of all is a hyperparameter."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 900)
    dataset = data.check({"X": rng.normal(size=(900, 2)), "y": y}, "classification")
    truth = softmax(3 * np.eye(3)[y] + rng.normal(size=(900, 3)), axis=1)
    cautious = [softmax(0.3 * np.log(truth), axis=1)] * 2
    result = _run(
        tmp_path,
        "classification",
        "VotingEnsemble",
        cautious,
        dataset,
        primary_metric="log_loss",
        n_cross_validations=3,
    )
    assert result.metrics["log_loss"] < 0.8 * log_loss(y, cautious[0])
    assert float(result.hyperparameters["model__temperature"]) < 0.5


def _run(
    folder: Path,
    task: Task,
    kind: str,
    candidates: list[np.ndarray],
    dataset: Dataset,
    **more: object,
) -> IterationResult:
    data.save(dataset, folder / "data")
    config = AutoMLConfig.parse({"task": task} | more)
    splits = make_splits(dataset, config)
    members = []
    for number, values in enumerate(candidates):
        out = folder / str(number)
        out.mkdir()
        predictions.save(out, [values[rows] for _, rows in splits.folds], dataset, splits)
        members.append(Member(number=number, label=f"m{number}", folder=out))
    return _ensemble(folder, kind, members, config)


def _ensemble(
    folder: Path,
    kind: str,
    members: list[Member],
    config: AutoMLConfig,
    n_folds: int | None = None,
) -> IterationResult:
    """Run an ensemble of members over the data in a folder; it has no model."""
    (folder / "out").mkdir()
    order = EnsembleOrder(
        kind=kind,
        members=tuple(members),
        config=config,
        data_dir=folder / "data",
        output_dir=folder / "out",
        seed=0,
        save_model=None,
        load_model=None,
        n_folds=n_folds,
    )
    return run_ensemble(order)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{"n_cross_validations": 4}, {"validation_size": 0.5}])
def test_an_ensemble_of_guesses_scores_like_a_guess(
    kind: str, more: dict[str, object], tmp_path: Path
) -> None:
    """The best of 15 random predictions looks good on the rows that chose it, and only there."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 2_000)
    dataset = data.check({"X": rng.normal(size=(2_000, 2)), "y": y}, "classification")
    raw = rng.random((15, 2_000))
    candidates = [np.column_stack([1 - one, one]) for one in raw]
    result = _run(
        tmp_path,
        "classification",
        kind,
        candidates,
        dataset,
        primary_metric="AUC_weighted",
        **more,
    )
    in_sample = [evaluation.score(dataset, y, one)["AUC_weighted"] for one in candidates]
    assert max(in_sample) > 0.51
    assert 0.45 < result.metrics["AUC_weighted"] < 0.54
    n_folds = 4 if "n_cross_validations" in more else 1
    assert n_folds == len(result.fold_metrics["AUC_weighted"])


def _confused(rng: np.random.Generator, y: np.ndarray, n_candidates: int) -> list[np.ndarray]:
    """Candidates that take each class for the next one."""
    told = 2.0 * np.eye(3)[(y + 1) % 3]
    return [softmax(told + rng.normal(size=(len(y), 3)), axis=1) for _ in range(n_candidates)]


def test_a_stack_learns_which_classes_are_taken_for_which(tmp_path: Path) -> None:
    """A vote of models that are wrong in the same way is as wrong as they are."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    dataset = data.check({"X": rng.normal(size=(600, 2)), "y": y}, "classification")
    found = {}
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        candidates = _confused(np.random.default_rng(1), y, 4)
        settings = {"primary_metric": "log_loss", "n_cross_validations": 3}
        found[kind] = _run(folder, "classification", kind, candidates, dataset, **settings)
    assert found["StackEnsemble"].metrics["log_loss"] < 0.6
    assert found["VotingEnsemble"].metrics["log_loss"] > 1.0
    assert found["StackEnsemble"].hyperparameters["model__members"] == "0, 1, 2, 3"


def test_a_stack_learns_where_which_pipeline_errs(tmp_path: Path) -> None:
    """Of pipelines that are wrong about small or about large numbers only; weights mix both."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_000)
    dataset = data.check({"X": y.reshape(-1, 1), "y": y}, "regression")
    wrong = rng.normal(scale=0.5, size=(2, 1_000))
    candidates = [y + wrong[0] * (y < 0), y + wrong[1] * (y >= 0)]
    found = {}
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        settings = {"primary_metric": "root_mean_squared_error", "n_cross_validations": 4}
        result = _run(folder, "regression", kind, candidates, dataset, **settings)
        found[kind] = result.metrics["root_mean_squared_error"]
    assert found["StackEnsemble"] < 0.9 * found["VotingEnsemble"]


def test_a_stack_of_numbers_learns_from_part_of_many_rows() -> None:
    """Its forest is no larger than that of fewer rows, and it predicts as well."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=400_000)
    values = y + rng.normal(scale=0.1, size=(2, len(y)))
    known = Predictions(values=values, y=y, weight=np.ones(len(y)), classes=np.array([]))
    stack = LEARN["StackEnsemble"](known, Scorer(REGRESSION, _numbers(y)), 0)
    n_learnt = stack.final.estimators_[0].estimators_[0].tree_.n_node_samples[0]
    assert n_learnt == MOST_CELLS_OF_NUMBERS // 2
    assert np.sqrt(np.mean((stack.predict(values) - y) ** 2)) < 0.08


def test_a_stack_that_would_be_too_slow_is_of_those_that_a_vote_would_choose() -> None:
    """All of them, as long as one model of each is within the limit."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    values = np.stack([softmax(3 * np.eye(3)[y] + rng.normal(size=(300, 3)), axis=1)] * 6)
    known = Predictions(values=values, y=y, weight=None, classes=np.arange(3))
    for limit_ms, n_members in ((None, 6), (6.0, 6), (1.5, 1)):
        cost = Cost(ms=np.ones(6), limit_ms=limit_ms, is_latency=False)
        stack = LEARN["StackEnsemble"](replace(known, cost=cost), _near_to(0.0), 0)
        assert (stack.weights > 0).sum() == n_members


def _raced(
    folder: Path, kind: str, dataset: Dataset, candidates: dict[str, tuple[np.ndarray, int]]
) -> IterationResult:
    """Run an ensemble of what a race left: predictions, of the first so many of its folds."""
    data.save(dataset, folder / "data")
    config = AutoMLConfig.parse(
        {"task": dataset.task, "primary_metric": "r2_score", "n_cross_validations": 5}
    )
    members = []
    for number, (label, (values, n_folds)) in enumerate(candidates.items()):
        out = folder / str(number)
        (out / FOLDS_NAME).mkdir(parents=True)
        for fold, (_, rows) in enumerate(make_splits(dataset, config).folds[:n_folds]):
            np.save(out / FOLDS_NAME / f"{fold}.npy", values[rows])
        members.append(Member(number=number, label=label, folder=out))
    return _ensemble(folder, kind, members, config, n_folds=1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_is_scored_on_the_folds_of_the_pipelines_that_it_is_compared_with(
    kind: str, tmp_path: Path
) -> None:
    """Where its members were not fitted the best pipeline stands in, so easy rows flatter none."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_000)
    dataset = data.check({"X": y.reshape(-1, 1), "y": y}, "regression")
    whole, worse = y + rng.normal(size=1_000), y + 2 * rng.normal(size=1_000)
    quick = [(y + rng.normal(size=1_000), 1) for _ in range(3)]
    found = _raced(
        tmp_path,
        kind,
        dataset,
        {"worse": (worse, 5), "whole": (whole, 5)} | dict(zip("abc", quick, strict=True)),
    )
    config = AutoMLConfig.parse({"task": "regression", "n_cross_validations": 5})
    folds = [rows for _, rows in make_splits(dataset, config).folds]
    alone = [evaluation.score(dataset, y[rows], whole[rows])["r2_score"] for rows in folds]
    scores = found.fold_metrics["r2_score"]
    assert scores[0] > alone[0] + 0.2
    assert scores[1:] == pytest.approx(alone[1:])


def test_a_vote_is_scored_on_further_folds_that_its_members_know(tmp_path: Path) -> None:
    """Nobody has to stand in for it."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=1_000)
    dataset = data.check({"X": y.reshape(-1, 1), "y": y}, "regression")
    found = _raced(
        tmp_path,
        "VotingEnsemble",
        dataset,
        {name: (y + rng.normal(size=1_000), 3) for name in "abcd"},
    )
    assert len(found.fold_metrics["r2_score"]) == 3
    assert min(found.fold_metrics["r2_score"]) > 0.6


@pytest.mark.parametrize("metric", ["r2_score", "neg_max_error"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_beats_members_with_independent_errors(
    kind: str, metric: str, tmp_path: Path
) -> None:
    """And says who they are; it may be chosen by a scorer of scikit-learn as well."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    dataset = data.check({"X": y.reshape(-1, 1), "y": y}, "regression")
    candidates = [y + rng.normal(size=300) for _ in range(4)]
    result = _run(tmp_path, "regression", kind, candidates, dataset, primary_metric=metric)
    assert metric in result.metrics
    alone = max(evaluation.score(dataset, y, one)["r2_score"] for one in candidates)
    assert result.metrics["r2_score"] > alone + 0.2
    assert str(result.hyperparameters["model__members"]).count(",") >= 2


@pytest.mark.parametrize("metric", ["AUC_weighted", "AUC_macro", "log_loss", "accuracy"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_vote_is_chosen_by_the_metric_that_iterations_have(metric: str, n_classes: int) -> None:
    """Though its scores are had in a faster way."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 2)), rng.integers(0, n_classes, 300)
    dataset = data.check({"X": X, "y": y}, "classification")
    config = AutoMLConfig.parse({"task": "classification", "primary_metric": metric})
    values = rng.dirichlet(np.ones(n_classes), size=(3, 300))
    kept, score = Scorer(config, dataset)(y, values, None)
    sign = 1 if config.greater_is_better else -1
    expected = [sign * evaluation.score(dataset, y, one)[metric] for one in values]
    assert score(kept) == pytest.approx(expected)
