"""Who becomes the champion, and what is kept of the decision, on a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from mlflow_automl_remote.errors import ConfigurationError, PublishFailed
from mlflow_automl_remote.promotion import aliases, names, turns
from mlflow_automl_remote.promotion.deciding import Outcome
from mlflow_automl_remote.promotion.registering import register

from .conftest import House, Told


def rollback(house: House) -> aliases.RolledBack:
    return aliases.rollback(house.client, house.name, "champion", by="ada", now_ms=10**12)


def test_the_first_champion_is_compared_with_nothing(house: House) -> None:
    """Asked again it is champion already, and nothing is measured."""
    sweep, told = house.sweep(), Told()
    decision = house.promote(sweep, told)
    assert (decision.outcome, decision.incumbent, house.champion) == (Outcome.PROMOTED, None, 1)
    assert house.promote(sweep, told).outcome is Outcome.UNCHANGED
    assert told.asked == []


def test_a_better_challenger_wins_and_the_decision_is_kept(house: House) -> None:
    """On the version as tags and report, in the sweep's run as artifacts and tag."""
    house.promote(house.sweep())
    sweep = house.sweep()
    told = Told()
    decision = house.promote(
        sweep,
        told,
        challenger_alias="challenger",
        gates={"min_gain": 0.01, "max_drops": {"accuracy": 0.03}, "max_latency_ms": 5},
    )
    assert (decision.outcome, told.asked, house.champion) == (Outcome.PROMOTED, [1], 2)
    assert [one.gate for one in decision.results] == [
        *("gain", "noise", "signature", "drop of accuracy", "latency")
    ]
    version = house.registry.version(2)
    assert version is not None
    assert version.tags[names.DECISION] == "promoted as champion"
    assert version.tags[names.DECIDED_BY] == "ada"
    assert version.tags[names.DECIDED_AGAINST] == "1"
    assert "## Promoted: version 2 as 'champion'" in version.description
    assert "standard error 0.01" in version.description
    assert house.registry.at("challenger") is None
    place = f"promotion/{house.name}-v2-champion"
    kept = json.loads(mlflow.artifacts.load_text(f"runs:/{sweep.run_id}/{place}.json"))
    assert kept["evidence"]["gain"]["value"] == 0.05
    assert mlflow.artifacts.load_text(version.tags[names.REPORT]) in version.description + "\n"
    tag = f"{names.PROMOTION}{house.name}.champion"
    assert house.client.get_run(sweep.run_id).data.tags[tag] == "promoted version 2"


@pytest.mark.parametrize(
    ("told", "gates", "failed"),
    [
        (Told(gain=-0.02), {}, ("gain", "noise")),
        (Told(gain=0.015, error=0.01), {}, ("noise",)),
        (Told(gain=0.015, error=0.01), {"min_gain": 0.02, "confidence": None}, ("gain",)),
        (Told(), {"max_drops": {"accuracy": 0.01}}, ("drop of accuracy",)),
        (Told(), {"max_drops": {"luck": 0.01}}, ("drop of luck",)),
        (Told(), {"group_by": "town"}, ("worst group of town",)),
        (Told(), {"max_latency_ms": 1, "max_size_mb": 1e-5}, ("latency", "size")),
        (Told(), {"max_data_age_days": 1e-6}, ("data age",)),
        (Told(trouble="the incumbent cannot be loaded"), {}, ("gain", "noise")),
    ],
)
def test_a_challenger_that_fails_a_gate_is_refused(
    house: House, told: Told, gates: dict[str, object], failed: tuple[str, ...]
) -> None:
    """Worse, better within noise, too slow and so on; it stays the challenger."""
    house.promote(house.sweep())
    decision = house.promote(house.sweep(), told, challenger_alias="challenger", gates=gates)
    assert (decision.outcome, decision.failed) == (Outcome.REFUSED, failed)
    assert house.champion == 1
    challenger = house.registry.at("challenger")
    assert challenger is not None
    assert challenger.tags[names.DECISION] == "refused as champion"


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"a": "float64", "b": "float64"}, "column 'c' is gone"),
        ({"a": "float64", "b": "float64", "c": "float64", "d": "float64"}, "column 'd' is new"),
        ({"a": "float64", "b": "bool", "c": "float64"}, "column 'b' is boolean, it was double"),
    ],
)
def test_a_challenger_that_callers_would_notice_is_refused(
    house: House, model_of: Callable[..., Path], columns: dict[str, str], why: str
) -> None:
    """All gates are asked all the same; a reason given in words lets it pass, and is kept."""
    house.promote(house.sweep())
    sweep = house.own_sweep(model_of(**columns))
    decision = house.promote(sweep)
    assert decision.failed == ("signature",)
    assert why in decision.results[2].why
    assert house.champion == 1
    forced = house.promote(sweep, force="the callers know")
    assert (forced.outcome, house.champion) == (Outcome.PROMOTED, 2)
    version = house.registry.version(2)
    assert version is not None
    assert version.tags[names.FORCED] == "the callers know"


def test_a_dry_run_writes_nothing(house: House) -> None:
    sweep = house.sweep()
    assert house.promote(sweep, is_dry=True).outcome is Outcome.PROMOTED
    assert house.registry.versions() == []
    house.promote(sweep)
    other = house.own_sweep()
    decision = house.promote(other, Told(gain=-1.0), is_dry=True)
    assert (decision.outcome, house.champion) == (Outcome.REFUSED, 1)
    assert len(house.registry.versions()) == 1
    assert house.client.list_artifacts(other.run_id, "promotion") == []


def test_an_incumbent_whose_files_are_gone_refuses(house: House) -> None:
    """What cannot be compared is not better."""
    house.client.create_registered_model(house.name)
    sweep = house.sweep()
    source = f"runs:/{sweep.run_id}/no-model"
    gone = house.client.create_model_version(house.name, source, sweep.run_id)
    house.client.set_registered_model_alias(house.name, "champion", gone.version)
    decision = house.promote(sweep)
    assert decision.failed == ("gain", "noise", "signature")
    assert "the incumbent's model cannot be read" in decision.results[0].why


def test_a_champion_that_was_deleted_leaves_the_place_free(house: House) -> None:
    """MLflow takes the alias away with the version; rolling back passes it over."""
    house.promote(house.sweep())
    house.promote(house.sweep())
    house.client.delete_model_version(house.name, "2")
    assert house.champion is None
    told = Told()
    assert house.promote(house.sweep(), told).outcome is Outcome.PROMOTED
    assert (told.asked, house.champion) == ([], 3)
    done = rollback(house)
    assert (done.back.number, done.skipped) == (1, (2,))


def test_an_unfinished_model_never_gets_the_alias(house: House) -> None:
    sweep = house.own_sweep()
    model = house.client.create_logged_model(
        sweep.experiment_id, name="model", source_run_id=sweep.choose().run_id
    )
    unfinished = next(iter(sweep.candidates.values()))
    object.__setattr__(unfinished, "model_id", model.model_id)
    with pytest.raises(PublishFailed, match="PENDING, not READY"):
        house.promote(sweep, iteration=unfinished.number)
    assert house.champion is None


def test_of_two_promotions_at_once_the_second_meets_the_first(house: House) -> None:
    """Both measure against version 1; one moves the alias, the other measures again against it."""
    house.promote(house.sweep())
    both = threading.Barrier(2, timeout=60)
    first_round = threading.local()

    def meet() -> None:
        if not getattr(first_round, "met", False):
            first_round.met = True
            both.wait()

    sweeps = [house.sweep(), house.sweep()]
    asked = [Told(meanwhile=meet), Told(meanwhile=meet)]
    with ThreadPoolExecutor(2) as pool:
        decisions = list(pool.map(house.promote, sweeps, asked))
    assert [one.outcome for one in decisions] == [Outcome.PROMOTED] * 2
    winner, other = sorted(decisions, key=lambda one: one.incumbent.number)
    assert winner.incumbent is not None
    assert winner.incumbent.number == 1
    assert other.incumbent is not None
    assert winner.version is not None
    assert other.incumbent.number == winner.version.number
    assert other.version is not None
    assert house.champion == other.version.number
    assert sorted(map(len, (told.asked for told in asked))) == [1, 2]
    chain = aliases.history(house.registry, "champion")
    assert chain == [1, winner.version.number, other.version.number]
    assert not [key for key in house.registry.tags() if key.startswith(names.CLAIM)]


def test_turns_exclude_one_another_and_outlive_a_client_that_died(house: House) -> None:
    house.client.create_registered_model(house.name)
    inside = threading.Lock()
    order = []

    def work(number: int) -> None:
        with turns.turn(house.registry, stale_s=30):
            assert inside.acquire(blocking=False)
            order.append(number)
            inside.release()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert sorted(order) == [0, 1, 2]
    house.registry.set_tag(f"{names.CLAIM}dead", "1")
    with (
        pytest.raises(PublishFailed, match="other clients change"),
        turns.turn(house.registry, limit_s=0),
    ):
        pass
    with turns.turn(house.registry, stale_s=0.1) as still_mine:
        still_mine()
        for key in house.registry.tags():
            house.registry.delete_tag(key)
        with pytest.raises(PublishFailed, match="took the change"):
            still_mine()


def test_rolling_back_goes_to_the_version_before_as_often_as_there_is_one(house: House) -> None:
    """Each time with a record; what is promoted then is rolled back to where it came from."""
    for _ in range(3):
        house.promote(house.sweep())
    assert rollback(house).back.number == 2
    assert rollback(house).back.number == 1
    with pytest.raises(ConfigurationError, match="had the alias 'champion' before version 1"):
        rollback(house)
    assert house.champion == 1
    for number in (2, 3):
        version = house.registry.version(number)
        assert version is not None
        assert f"from version {number} to version {number - 1}" in version.description
    house.promote(house.sweep())
    assert rollback(house).back.number == 1


def test_rolling_back_what_nobody_promoted_is_refused(house: House) -> None:
    with pytest.raises(ConfigurationError, match="nothing to roll back"):
        rollback(house)
    sweep = house.sweep()
    version = register(house.client, sweep, sweep.choose(), house.name)
    house.registry.point("champion", version)  # by hand
    with pytest.raises(ConfigurationError, match="No version"):
        rollback(house)


def test_a_promoted_version_is_copied_once(house: House) -> None:
    """The copy has the alias there, and says where it comes from."""
    sweep = house.sweep()
    to = f"prod-{house.name}"
    decision = house.promote(sweep, copy_to=to)
    assert decision.copied_to is not None
    assert (decision.copied_to.name, decision.copied_to.number) == (to, 1)
    assert house.promote(sweep, copy_to=to).copied_to == decision.copied_to
    copied = house.client.get_model_version_by_alias(to, "champion")
    assert copied.tags[names.COPY_OF] == f"{house.name}/1"
    assert "promoted as champion" in copied.tags[names.DECISION]
