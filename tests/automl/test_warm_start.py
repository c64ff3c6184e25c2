"""What a sweep begins with, of what earlier sweeps found."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits, load_wine

from mlflow_automl_remote.automl import Sweep, data
from mlflow_automl_remote.automl.components.base import ALL_SCALERS
from mlflow_automl_remote.automl.meta_features import distance, meta_features
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.proposals import Proposals
from mlflow_automl_remote.automl.racing.portfolio import racers
from mlflow_automl_remote.automl.sampler import Sampler, neighbour
from mlflow_automl_remote.automl.search_space import SearchSpace
from mlflow_automl_remote.automl.warm_start import (
    FAR,
    MOST_FIRST,
    Admission,
    WarmPipeline,
    choose,
)
from mlflow_automl_remote.config import MODELS as NAMES
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.config.warm_start import (
    MAX_OF_A_MODEL,
    MAX_PIPELINES,
    EarlierPipeline,
    EarlierSweep,
    WarmStart,
    most_useful,
    weights_of,
)
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.states import IterationState

TASKS: tuple[Task, ...] = ("classification", "regression")
LIKE = {"n_rows": 1000.0, "n_columns": 20.0, "n_classes": 2.0}
OTHER = {"n_rows": 10.0, "n_columns": 2000.0, "n_classes": 9.0}
ADMISSION = Admission(task="classification", models=NAMES["classification"], scalers=ALL_SCALERS)


def _earlier(spec: PipelineSpec, run_id: str = "r", fit_s: float = 0.1) -> EarlierPipeline:
    """As it comes back from a store: through JSON."""
    text = json.dumps({"scaler": spec.scaler, "model": spec.model, "params": dict(spec.params)})
    return EarlierPipeline(run_id=run_id, fit_s=fit_s, **json.loads(text))


def _knn(n_neighbors: int) -> PipelineSpec:
    params = {"model__n_neighbors": n_neighbors, "model__weights": "distance", "model__p": 2}
    return PipelineSpec(scaler="MinMaxScaler", model="KNN", params=params)


def _given(*sweeps: tuple[dict[str, float], Sequence[PipelineSpec]], named: bool) -> WarmStart:
    return WarmStart(
        is_named=named,
        sweeps=tuple(
            EarlierSweep(
                run_id=f"sweep{at}",
                meta_features=like,
                pipelines=tuple(_earlier(one, f"{at}/{n}") for n, one in enumerate(pipelines)),
            )
            for at, (like, pipelines) in enumerate(sweeps)
        ),
    )


# --- what data is like


def _described(X: object, y: object, task: Task = "classification") -> dict[str, float]:
    return meta_features(data.check({"X": X, "y": y}, task))


def test_halves_of_a_table_are_near_and_other_tables_far() -> None:
    """A sample of the same table is always nearer than another table."""
    tables = [load_wine(return_X_y=True), load_digits(return_X_y=True)]
    halves = [[_described(X[half::2], y[half::2]) for half in (0, 1)] for X, y in tables]
    for own, others in (halves, halves[::-1]):
        assert distance(*own) < 0.1
        assert distance(own[0], others[1]) > 3 * distance(*own)


def test_data_of_every_form_is_described_in_finite_numbers() -> None:
    """Mixed columns with gaps, sparse matrices, constants, numbers to predict."""
    mixed = pd.DataFrame(
        {
            "number": [1.0, np.nan, 3.0, 1000.0] * 10,
            "colour": ["red", "blue", None, "red"] * 10,
            "same": 1.0,
            "is": [True, False, True, False] * 10,
        }
    )
    labels = np.array([0, 1, 1, 1] * 10)
    found = _described(mixed, labels)
    assert (40, 2) == (found["n_rows"], found["n_classes"])
    assert found["n_categories"] == 2
    assert 0 < found["share_missing"] < 0.5
    assert 0 < found["share_categories"] < 1
    assert 0 < found["class_entropy"] < 1
    thin = _described(sparse.random(40, 30, 0.1, format="csr", random_state=0), labels)
    assert thin["density"] == pytest.approx(0.1)
    regression = _described(*load_diabetes(return_X_y=True), "regression")
    assert regression["n_classes"] == 0
    assert regression["target_skewness"] > 0
    for one in (found, thin, regression):
        assert all(math.isfinite(value) for value in one.values())
        assert one.keys() == found.keys()
        assert 0 == distance(one, one)


def test_numbers_of_another_version_are_left_aside() -> None:
    """Only what both sweeps have is compared; nothing in common is infinitely far."""
    assert 0 == distance(LIKE, {**LIKE, "of_the_future": 7.0})
    assert math.inf == distance(LIKE, {"of_the_future": 7.0})


# --- which pipelines


@pytest.mark.parametrize("task", TASKS)
def test_whatever_a_sweep_could_have_found_is_in_the_search_space(task: Task) -> None:
    """The portfolios, what the sampler draws, and neighbours; also after a way through JSON."""
    models = NAMES[task]
    space = SearchSpace(task, models, ALL_SCALERS)
    sampler = Sampler(task, models, greater_is_better=True, seed=0)
    known = [*portfolio(task, models, is_positive=True)]
    known += racers(task, models, ALL_SCALERS, 100, is_positive=True)
    known += racers(task, models, ALL_SCALERS, 10**6, is_positive=True)
    rng = np.random.default_rng(0)
    known += [neighbour(spec, task, rng) for spec in known for _ in range(5)]
    known += [sampler.ask(set()) for _ in range(200)]
    for spec in known:
        back = _earlier(spec)
        again = PipelineSpec(scaler=back.scaler, model=back.model, params=back.params)
        assert spec.identity == again.identity
        assert "" == space.why_not(again)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "Perceptron"}, "does not use the model 'Perceptron'"),
        ({"model": "SVM"}, "does not use the model 'SVM'"),
        ({"scaler": "QuantileScaler"}, "does not use the scaler 'QuantileScaler'"),
        ({"params": {**_knn(5).params, "model__n_neighbors": 10**6}}, "'n_neighbors' of KNN is"),
        ({"params": {**_knn(5).params, "model__n_neighbors": 2.5}}, "'n_neighbors' of KNN is 2.5"),
        ({"params": {**_knn(5).params, "model__weights": "odd"}}, "'weights' of KNN is 'odd'"),
        ({"params": {**_knn(5).params, "model__leaf": 3}}, "'leaf' of KNN is 3, outside"),
        ({"params": {"model__n_neighbors": 5}}, "of KNN is missing"),
    ],
)
def test_what_lies_outside_of_the_search_space_is_left_out_with_a_reason(
    changes: dict[str, object], reason: str
) -> None:
    """Other components, other ranges, other names: of an earlier version, or written by hand."""
    bad = PipelineSpec(
        **({"scaler": "MinMaxScaler", "model": "KNN", "params": _knn(5).params} | changes)
    )
    given = _given((LIKE, [bad, _knn(7)]), named=True)
    admission = Admission(task="classification", models=["KNN"], scalers=ALL_SCALERS)
    chosen = choose(given, LIKE, admission, n_iterations=10)
    assert [_knn(7)] == [one.spec for one in chosen.pipelines]
    (note,) = chosen.notes
    assert reason in note
    assert note.startswith("1 pipelines of earlier sweeps are left out: ")


def test_the_best_of_the_most_similar_data_comes_first() -> None:
    """The second best of a near sweep still comes before the best of one that is less near."""
    less_near = {**LIKE, "n_rows": 2_000.0}
    assert 0.1 < distance(LIKE, less_near) <= FAR
    given = _given(
        (less_near, [_knn(3), _knn(4)]),
        (LIKE, [_knn(5), _knn(6)]),
        (OTHER, [_knn(9)]),
        named=False,
    )
    chosen = choose(given, LIKE, ADMISSION, n_iterations=100)
    assert ["1/0", "1/1", "0/0", "0/1"] == [one.source_run_id for one in chosen.pipelines]
    assert "4 pipelines" in chosen.summary
    assert "2 of sweep1 (distance 0.00)" in chosen.summary
    assert "sweep2" not in chosen.summary


def test_a_sweep_over_other_data_is_used_only_by_name() -> None:
    """Of an experiment nothing is taken then, and the sweep says so."""
    by_experiment = choose(
        _given((OTHER, [_knn(3)]), named=False), LIKE, ADMISSION, n_iterations=10
    )
    assert () == by_experiment.pipelines
    assert "None of 1 earlier sweeps is over similar data" in by_experiment.summary
    by_name = choose(_given((OTHER, [_knn(3)]), named=True), LIKE, ADMISSION, n_iterations=10)
    assert [_knn(3)] == [one.spec for one in by_name.pipelines]


def test_models_take_turns_and_the_portfolio_keeps_its_share() -> None:
    """Ten good pipelines of one model do not keep all others out."""
    good = [_knn(n) for n in range(1, 14)]
    others = [portfolio("classification", (name,))[0] for name in ("LightGBM", "MLP", "SVM")]
    given = _given((LIKE, [*good[:10], *others]), named=True)
    chosen = [one.spec.model for one in choose(given, LIKE, ADMISSION, n_iterations=100).pipelines]
    assert "KNN" == chosen[0]
    assert {"KNN", "LightGBM", "MLP", "SVM"} == set(chosen[:8])
    assert MOST_FIRST == len(chosen)
    assert 2 == len(choose(given, LIKE, ADMISSION, n_iterations=4).pipelines)
    assert 1 == len(choose(given, LIKE, ADMISSION, n_iterations=1).pipelines)


def test_what_a_race_leaves_to_a_library_has_a_value_without_one() -> None:
    """CatBoost chooses rounds by the time it is given; without a race it has those of here."""
    spec = PipelineSpec(
        scaler="MaxAbsScaler",
        model="CatBoost",
        params={"model__depth": 4, "model__l2_leaf_reg": 3.0, "model__random_strength": 1.0},
    )
    given = _given((LIKE, [spec]), named=True)
    (whole,) = choose(given, LIKE, ADMISSION, n_iterations=9).pipelines
    (raced,) = choose(given, LIKE, replace(ADMISSION, is_race=True), n_iterations=9).pipelines
    assert spec == raced.spec
    assert 4 == whole.spec.params["model__depth"]
    assert {"model__iterations", "model__learning_rate"} < whole.spec.params.keys()


def test_the_same_pipeline_of_two_sweeps_comes_once() -> None:
    """From the sweep where it was nearer to the top."""
    given = _given((LIKE, [_knn(3), _knn(5)]), (LIKE, [_knn(5), _knn(3)]), named=False)
    chosen = choose(given, LIKE, ADMISSION, n_iterations=100).pipelines
    assert ["0/0", "1/0"] == [one.source_run_id for one in chosen]


def _slow(fit_s: float, model: str, n_rows: float) -> WarmStart:
    spec = portfolio("classification", (model,))[0]
    sweep = EarlierSweep(
        run_id="s",
        meta_features={**LIKE, "n_rows": n_rows},
        pipelines=(_earlier(spec, "r", fit_s),),
    )
    return WarmStart(is_named=True, sweeps=(sweep,))


def test_what_is_predicted_to_take_too_long_is_not_begun() -> None:
    """By its time then, times the rows now; in a race boosters keep to the time they are given."""
    rules = {"task": "classification", "models": NAMES["classification"], "scalers": ALL_SCALERS}
    whole = Admission(**rules, n_fits=4, limit_s=10.0)
    race = Admission(**rules, n_fits=1, limit_s=10.0, is_race=True)
    like = {**LIKE, "n_rows": 10_000.0}
    for admission, fit_s, model, expected in (
        (whole, 0.2, "SVM", [8.0]),
        (whole, 0.3, "SVM", []),
        (whole, 0.3, "LightGBM", []),
        (race, 0.3, "SVM", [3.0]),
        (race, 1.1, "SVM", []),
        (race, 1.1, "LightGBM", [0.0]),
    ):
        chosen = choose(_slow(fit_s, model, 1000.0), like, admission, n_iterations=10)
        assert expected == pytest.approx([one.seconds for one in chosen.pipelines])
        assert ("predicted to take longer than 10.0 s" in "".join(chosen.notes)) == (not expected)
        assert chosen.summary.startswith("1 pipelines" if expected else "No pipeline of the earl")


# --- what is passed on


def test_a_sweep_passes_on_its_best_the_members_of_its_vote_and_others() -> None:
    """The best comes first, then members by weight, then a few of each model by score."""
    vote = {"model__members": "5, 4", "model__iteration_5": "0.3 a", "model__iteration_4": "0.7 b"}
    ranked = [(n, _earlier(_knn(n + 1), str(n))) for n in range(8)]
    found = [int(one.run_id) for one in most_useful(ranked, weights_of(vote))]
    assert [0, 4, 5] == found
    without_vote = [int(one.run_id) for one in most_useful(ranked, {})]
    assert list(range(MAX_OF_A_MODEL)) == without_vote
    many = [(n, _earlier(_knn(n + 1), str(n))) for n in range(40)]
    assert MAX_PIPELINES == len(most_useful(many, dict.fromkeys(range(40), 0.1)))


def test_weights_that_are_none_are_passed_over() -> None:
    """Whoever writes to the store may write anything."""
    odd = {"model__iteration_x": "0.3", "model__iteration_1": "--1", "model__iteration_2": None}
    assert {} == weights_of(odd)
    assert {7: 1e-05} == weights_of({"model__iteration_7": "1e-05 MaxAbsScaler KNN"})


# --- what comes next


def _proposals(warm: Sequence[WarmPipeline], n_iterations: int = 8) -> Proposals:
    sampler = Sampler("classification", ("KNN",), greater_is_better=True, seed=0)
    first = portfolio("classification", ("KNN",))
    return Proposals(
        "classification", first, n_iterations=n_iterations, sampler=sampler, warm=warm
    )


def test_a_warm_start_comes_before_the_portfolio_and_nothing_comes_twice() -> None:
    """A portfolio pipeline that the warm start has is not proposed again."""
    first = portfolio("classification", ("KNN",))
    warm = [WarmPipeline(spec=spec, source_run_id=f"run{n}") for n, spec in enumerate(first[1:])]
    proposed = list(iter(_proposals(warm, len(first)).next, None))
    assert [*first[1:], first[0]] == [one.spec for one in proposed]
    assert ["warm_start"] * (len(first) - 1) + ["portfolio"] == [
        one.proposed_by for one in proposed
    ]
    assert [f"run{n}" for n in range(len(first) - 1)] + [""] == [
        one.source_run_id for one in proposed
    ]


def test_without_time_for_it_a_pipeline_is_passed_over() -> None:
    """What takes longer than is left is not begun; a quicker one is."""
    warm = [
        WarmPipeline(spec=_knn(n), source_run_id="r", seconds=seconds)
        for n, seconds in ((3, 5.0), (4, 1.0))
    ]
    proposal = _proposals(warm).next(left_s=2.0)
    assert proposal is not None
    assert _knn(4) == proposal.spec


def test_the_sampler_learns_from_a_warm_start() -> None:
    """It is told how its pipelines scored here, and draws near to the good one."""
    warm = [WarmPipeline(spec=_knn(n), source_run_id="r") for n in (2, 30)]
    told: list[tuple[PipelineSpec, float | None]] = []

    class Listening(Sampler):
        def tell(self, spec: PipelineSpec, score: float | None) -> None:
            told.append((spec, score))
            super().tell(spec, score)

    sampler = Listening("classification", ("KNN",), greater_is_better=True, seed=0)
    proposals = Proposals("classification", (), n_iterations=8, sampler=sampler, warm=warm)
    for _ in range(2):
        proposal = proposals.next()
        assert proposal is not None
        score = float(proposal.params["model__n_neighbors"] or 0)
        proposals.learn(proposal, IterationState.COMPLETED, score)
    assert [(_knn(2), 2.0), (_knn(30), 30.0)] == told
    assert 2 == len(sampler._study.trials)  # both lie in its space, so that it can use them


def test_the_plain_engine_has_no_store_to_look_in() -> None:
    """It says so instead of leaving a setting without effect."""
    with pytest.raises(ConfigurationError, match="'warm_start_from' needs a tracking store"):
        Sweep(warm_start_from="x")
