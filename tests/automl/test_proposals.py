"""What comes next: what was left, then the portfolio, then Optuna."""

from __future__ import annotations

import pytest

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.pipelines import PipelineSpec
from mlflow_automl_remote.automl.portfolio import portfolio
from mlflow_automl_remote.automl.proposals import PastIteration, Proposal, Proposals
from mlflow_automl_remote.automl.sampler import MOST_TRIALS, Sampler
from mlflow_automl_remote.config import MODELS as NAMES
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.states import IterationState

COMPLETED, RUNNING = IterationState.COMPLETED, IterationState.RUNNING
TASKS: tuple[Task, ...] = ("classification", "regression")


def _proposals(
    models: tuple[str, ...],
    n_iterations: int,
    history: tuple[PastIteration, ...] = (),
    seed: int = 0,
) -> Proposals:
    sampler = Sampler("classification", models, greater_is_better=True, seed=seed)
    first = portfolio("classification", models)
    return Proposals(
        "classification", first, n_iterations=n_iterations, sampler=sampler, history=history
    )


def _play(proposals: Proposals, n_iterations: int) -> list[Proposal]:
    """Run it as a sweep would, with a score that prefers many neighbours."""
    played = []
    for _ in range(n_iterations):
        proposal = proposals.next()
        assert proposal is not None
        played.append(proposal)
        score = float(proposal.params.get("model__n_neighbors") or 0)
        proposals.learn(proposal, COMPLETED, score)
    return played


@pytest.mark.parametrize("task", TASKS)
def test_a_portfolio_has_twenty_different_pipelines_with_every_model(task: Task) -> None:
    """No pipeline twice, no model forgotten, each scaler one that its model may follow."""
    specs = portfolio(task, NAMES[task])
    assert len(specs) >= 20
    assert len(specs) == len({spec.identity for spec in specs})
    assert set(NAMES[task]) == {spec.model for spec in specs}
    for spec in specs:
        model = MODELS[task][spec.model]
        assert spec.scaler in model.scalers
        assert set(model.defaults) == set(spec.of_step("model"))
        assert set(SCALERS[spec.scaler].defaults) == set(spec.of_step("scaler"))


def test_a_portfolio_holds_only_the_models_that_are_allowed() -> None:
    """It shrinks with them."""
    assert {"KNN"} == {spec.model for spec in portfolio("classification", ("KNN",))}


def test_the_portfolio_comes_first_then_optuna_and_numbers_have_no_gap() -> None:
    """Every iteration gets a number from 0, and no pipeline comes twice."""
    proposals = _proposals(("KNN", "DecisionTree"), 12)
    played = _play(proposals, 12)
    assert list(range(12)) == [each.number for each in played]
    assert [each.proposed_by for each in played] == ["portfolio"] * 3 + ["optuna"] * 9
    assert len({each.spec.identity for each in played}) == 12
    assert proposals.next() is None


def test_the_same_seed_and_scores_give_the_same_proposals() -> None:
    """Another seed gives others."""
    first, again, other = (_play(_proposals(("KNN",), 20, seed=seed), 20) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_optuna_learns_from_the_scores() -> None:
    """Later proposals have the many neighbours that the score prefers."""
    played = _play(_proposals(("KNN",), 40), 40)
    late = [float(each.params["model__n_neighbors"] or 0) for each in played[-10:]]
    assert sum(late) / len(late) > 25


def test_after_hundreds_of_scores_it_still_knows_what_is_good_and_what_runs() -> None:
    """What runs all the time can be told of at the end, whatever came in between."""
    sampler = Sampler("classification", ("XGBoost", "LightGBM"), greater_is_better=True, seed=0)
    taken: set[tuple[object, ...]] = set()

    def ask() -> PipelineSpec:
        spec = sampler.ask(taken)
        taken.add(spec.identity)
        return spec

    running = [ask() for _ in range(3)]
    models = []
    for _ in range(MOST_TRIALS + 40):
        spec = ask()
        models.append(spec.model)
        sampler.tell(spec, 1.0 if spec.model == "XGBoost" else 0.0)
    assert models[-60:].count("XGBoost") > 45
    sampler.tell(running[0], 2.0)
    sampler.tell(running[1], None)
    sampler.forget(running[2])
    assert isinstance(ask(), PipelineSpec)


def test_a_resumed_search_runs_again_what_was_in_flight_and_skips_what_is_done() -> None:
    """Numbers go on where they stopped, and the portfolio too."""
    before = _play(_proposals(("KNN", "DecisionTree"), 5), 5)
    states = (COMPLETED, COMPLETED, RUNNING, COMPLETED)
    history = tuple(
        PastIteration(proposal=proposal, state=state, score=0.5)
        for proposal, state in zip(before, states, strict=False)
    )
    after = _play(_proposals(("KNN", "DecisionTree"), 8, history), 5)
    assert before[2] == after[0]
    assert [each.number for each in after] == [2, 4, 5, 6, 7]
    assert [each.proposed_by for each in after[1:]] == ["optuna"] * 4


def test_a_history_from_another_search_space_does_no_harm() -> None:
    """Pipelines that are unknown by now, or out of range, are kept as numbers only."""
    strange = (("KNN", {"model__n_neighbors": 10**6}), ("Perceptron", {}), ("KNN", {}))
    history = tuple(
        PastIteration(
            proposal=Proposal(
                number=number,
                scaler="MaxAbsScaler",
                model=model,
                params=params,
                proposed_by="optuna",
            ),
            state=COMPLETED,
            score=1.0,
        )
        for number, (model, params) in enumerate(strange)
    )
    assert [each.number for each in _play(_proposals(("KNN",), 5, history), 2)] == [3, 4]


def test_a_small_search_space_repeats_itself_rather_than_hang() -> None:
    """There is no end to asking, even where nothing new is left to be drawn."""
    sampler = Sampler("classification", ("KNN",), greater_is_better=True, seed=0)

    class Everything(set[tuple[object, ...]]):
        def __contains__(self, _: object) -> bool:
            return True

    assert isinstance(sampler.ask(Everything()), PipelineSpec)


def test_a_failure_counts_as_the_worst_score_and_a_cancellation_as_none() -> None:
    """The search turns away from what fails; what a person stopped says nothing."""
    proposals = _proposals(("KNN",), 60)
    n_late_failures = 0
    for number in range(60):
        proposal = proposals.next()
        assert proposal is not None
        n_neighbors = int(proposal.params["model__n_neighbors"] or 0)
        fails = proposal.params["model__p"] == 1
        n_late_failures += fails and number >= 40
        state = IterationState.TIMED_OUT if fails else COMPLETED
        if number % 7 == 6:
            state = IterationState.CANCELLED
        proposals.learn(proposal, state, None if fails else 1.0 + n_neighbors / 100)
    assert n_late_failures < 7
