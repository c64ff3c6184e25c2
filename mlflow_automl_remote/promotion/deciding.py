"""Decides whether a model of a sweep gets an alias: measured first, then moved, one at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mlflow import MlflowClient

from mlflow_automl_remote.config.promotion import Promotion
from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.promotion import aliases, names, report
from mlflow_automl_remote.promotion.evidence import Evidence
from mlflow_automl_remote.promotion.gates import Case, Result, Verdict, judge
from mlflow_automl_remote.promotion.published import Candidate, PublishedSweep
from mlflow_automl_remote.promotion.registering import describe, finished, moment, register
from mlflow_automl_remote.promotion.registry import Registry, Version
from mlflow_automl_remote.promotion.signature import Description, read_description
from mlflow_automl_remote.promotion.turns import turn
from mlflow_automl_remote.publishing.calls import translated
from mlflow_automl_remote.publishing.text import MAX_TAG, key, one_line

MAX_ROUNDS: Final = 4
"""How often a challenger is measured anew because the incumbent has changed meanwhile."""

Measure = Callable[[Version | None], Evidence]
"""Measures the challenger, and a version as its incumbent, on the same rows."""


class Outcome(StrEnum):
    """What came of a promotion."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    UNCHANGED = "unchanged"
    """The model has the alias already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision and all that it rests on.

    Attributes:
        version: Of the challenger; None in a dry run of a model that is not registered.
        incumbent: None if nothing had the alias.
        results: What each gate says.
        evidence: What was measured; None if nothing had to be.
        forced: Why it was promoted in spite of a gate; empty otherwise.
        notes: What a reader of the numbers should know.
        is_dry: Whether nothing was moved or written, whatever was decided.
        copied_to: The copy that was asked for.
    """

    outcome: Outcome
    name: str
    alias: str
    candidate: Candidate
    metric: str
    version: Version | None
    incumbent: Version | None
    by: str
    at_ms: int
    results: tuple[Result, ...] = ()
    evidence: Evidence | None = None
    forced: str = ""
    notes: tuple[str, ...] = ()
    is_dry: bool = False
    copied_to: Version | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The gates that were not passed."""
        return tuple(one.gate for one in self.results if one.verdict is Verdict.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What was asked for, and by whom.

    Attributes:
        force: Why to promote whatever the gates say; empty not to.
        is_dry: Move and write nothing.
    """

    promotion: Promotion
    by: str
    force: str = ""
    is_dry: bool = False


def promote(
    client: MlflowClient,
    sweep: PublishedSweep,
    candidate: Candidate,
    order: Order,
    measure: Measure,
) -> Decision:
    """Promote a model of a sweep if it passes every gate.

    Whoever has the alias when the numbers are in is who they have to be about: if another client
    has moved it meanwhile, all is measured again.

    Args:
        client: The store.
        sweep: Where the model comes from.
        candidate: Its iteration.
        order: What was asked for.
        measure: Called for each incumbent; not at all where nothing is to be compared.

    Raises:
        PublishFailed: The model is not finished, the store does not answer, or the incumbent
            changed again and again.
        AutoMLRemoteError: Whatever `measure` raises.
    """
    asked = order.promotion
    registry = Registry(client, asked.name)
    version = None if order.is_dry else register(client, sweep, candidate, asked.name)
    if version is not None and asked.challenger_alias:
        registry.point(asked.challenger_alias, version)
    for _ in range(MAX_ROUNDS):
        incumbent = registry.at(asked.alias)
        if incumbent is not None and _is_same(incumbent, version, candidate):
            decision = _decision(sweep, candidate, order, incumbent, incumbent)
            decision = replace(decision, outcome=Outcome.UNCHANGED)
            return decision if order.is_dry else _copied(client, decision, asked)
        decision = _decide(client, sweep, candidate, order, version, incumbent, measure)
        if version is None:
            return decision
        with turn(registry) as still_mine:
            if _number(registry.at(asked.alias)) != _number(incumbent):
                continue
            _record(client, registry, sweep, decision, version)
            if decision.outcome is Outcome.PROMOTED:
                still_mine()
                _move(registry, asked, version)
        return _copied(client, decision, asked)
    raise PublishFailed(
        f"The alias '{asked.alias}' of '{asked.name}' was moved by others {MAX_ROUNDS} times "
        "while this model was measured. Nothing was moved; try again."
    )


def recorded(client: MlflowClient, run_id: str, asked: Promotion) -> str:
    """Give what was decided of a sweep before for this name and alias; empty if nothing was."""
    with translated():
        return str(client.get_run(run_id).data.tags.get(_tag(asked.name, asked.alias), ""))


def _tag(name: str, alias: str) -> str:
    return names.PROMOTION + key(f"{name}.{alias}")


def _is_same(incumbent: Version, version: Version | None, candidate: Candidate) -> bool:
    if version is not None:
        return incumbent.number == version.number
    return incumbent.source.rstrip("/").endswith(f"/{candidate.model_id}")


def _number(version: Version | None) -> int | None:
    return None if version is None else version.number


def _decide(  # noqa: PLR0913 - a step of `promote` with all that it has
    client: MlflowClient,
    sweep: PublishedSweep,
    candidate: Candidate,
    order: Order,
    version: Version | None,
    incumbent: Version | None,
    measure: Measure,
) -> Decision:
    """Measure, ask every gate, and only then decide."""
    gates = order.promotion.gates
    evidence = None
    if incumbent is not None or gates.max_latency_ms is not None:
        evidence = measure(incumbent)
    description, error = _incumbent_description(client, incumbent)
    decision = _decision(sweep, candidate, order, version, incumbent)
    results = judge(
        Case(
            metric=sweep.primary_metric,
            gates=gates,
            evidence=evidence,
            challenger=read_description(finished(client, candidate), client.tracking_uri),
            incumbent=description,
            has_incumbent=incumbent is not None,
            incumbent_error=error,
            data_age_ms=decision.at_ms - sweep.started_ms,
        )
    )
    decision = replace(
        decision, results=results, evidence=evidence, notes=_notes(sweep, incumbent, evidence)
    )
    if decision.failed and not order.force:
        return replace(decision, outcome=Outcome.REFUSED)
    return replace(decision, forced=order.force if decision.failed else "")


def _decision(
    sweep: PublishedSweep,
    candidate: Candidate,
    order: Order,
    version: Version | None,
    incumbent: Version | None,
) -> Decision:
    return Decision(
        outcome=Outcome.PROMOTED,
        name=order.promotion.name,
        alias=order.promotion.alias,
        candidate=candidate,
        metric=sweep.primary_metric,
        version=version,
        incumbent=incumbent,
        by=order.by,
        at_ms=time.time_ns() // 1_000_000,
        is_dry=order.is_dry,
    )


def _incumbent_description(
    client: MlflowClient, incumbent: Version | None
) -> tuple[Description | None, str]:
    if incumbent is None:
        return None, ""
    try:
        return read_description(incumbent.uri, client.tracking_uri), ""
    except PublishFailed as error:
        return None, f"the incumbent's model cannot be read: {one_line(str(error), 300)}"


def _notes(
    sweep: PublishedSweep, incumbent: Version | None, evidence: Evidence | None
) -> tuple[str, ...]:
    """Say whether the incumbent may have learned from the rows that it is scored on."""
    if incumbent is None or evidence is None or not evidence.rows:
        return ()
    theirs = incumbent.tags
    if theirs.get(names.SWEEP_ID) == sweep.sweep_id:
        return ()
    if not sweep.data_digest or theirs.get(names.DATA_DIGEST) != sweep.data_digest:
        return (
            "The two models come of different data. Rows that the incumbent has learned from may "
            "be among these; its score is then better than on new ones.",
        )
    if evidence.rows == "test" and theirs.get(names.HELD_OUT) == sweep.held_out:
        return ("Both models come of the same data and have held out the same test rows.",)
    return (
        "The incumbent comes of the same data and has learned from these rows: its score is "
        "better than on new ones, and the challenger is measured too strictly. Give both sweeps "
        "the same 'test_size' and 'seed', or more recent data.",
    )


def _record(
    client: MlflowClient,
    registry: Registry,
    sweep: PublishedSweep,
    decision: Decision,
    version: Version,
) -> None:
    """Keep a decision: as artifacts of the sweep, then on the version."""
    text = report.markdown(decision)
    place = f"promotion/{key(decision.name)}-v{version.number}-{decision.alias}"
    with translated():
        client.log_text(sweep.run_id, text, f"{place}.md")
        client.log_dict(sweep.run_id, report.as_json(decision), f"{place}.json")
    told = f"{decision.outcome} version {version.number}"
    if decision.failed:
        told += f" ({', '.join(decision.failed)})"
    with translated():
        tag = _tag(decision.name, decision.alias)
        client.set_tag(sweep.run_id, tag, one_line(told, MAX_TAG))
    incumbent = decision.incumbent
    tags = {
        names.DECISION: f"{decision.outcome} as {decision.alias}",
        names.DECIDED_BY: decision.by,
        names.DECIDED_AT: moment(decision.at_ms),
        names.DECIDED_AGAINST: "none" if incumbent is None else str(incumbent.number),
        names.FORCED: decision.forced or "no",
        names.REPORT: f"runs:/{sweep.run_id}/{place}.md",
        names.RESULTS: json.dumps({one.gate: one.verdict.value for one in decision.results}),
    }
    description = f"{text}\n\n{describe(sweep, decision.candidate)}"
    registry.annotate(
        version, {name: one_line(value, MAX_TAG) for name, value in tags.items()}, description
    )


def _move(registry: Registry, asked: Promotion, version: Version) -> None:
    aliases.move(registry, asked.alias, version)
    if asked.challenger_alias and asked.challenger_alias != asked.alias:
        challenger = registry.at(asked.challenger_alias)
        if challenger is not None and challenger.number == version.number:
            registry.unpoint(asked.challenger_alias)


def _copied(client: MlflowClient, decision: Decision, asked: Promotion) -> Decision:
    """Copy what has the alias now, if that was asked for."""
    version = decision.version
    if asked.copy_to is None or version is None or decision.outcome is Outcome.REFUSED:
        return decision
    current = Registry(client, asked.name).version(version.number) or version
    copied = aliases.copy(client, current, asked.copy_to, asked.alias)
    return replace(decision, copied_to=copied)
