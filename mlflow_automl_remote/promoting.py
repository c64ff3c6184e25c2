"""Registers, promotes and rolls back: the registry here, the measuring where the data is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_automl_remote import compute, sweep_run
from mlflow_automl_remote.config.promotion import Promotion
from mlflow_automl_remote.errors import (
    AutoMLRemoteError,
    PromotionFailed,
    PromotionRefused,
    PublishFailed,
)
from mlflow_automl_remote.following import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from mlflow_automl_remote.journal.replay import SweepState
    from mlflow_automl_remote.promotion.aliases import RolledBack
    from mlflow_automl_remote.promotion.deciding import Decision
    from mlflow_automl_remote.promotion.evidence import Evidence
    from mlflow_automl_remote.promotion.published import Candidate, PublishedSweep
    from mlflow_automl_remote.promotion.registry import Version
    from mlflow_automl_remote.sweep_run import SweepHandle

__all__ = ["promote", "register", "rollback"]


def register(
    run_id: str, name: str, *, iteration: int | None = None, metric: str | None = None
) -> Version:
    """Make a version of a model of a sweep; the same model gives the same version again.

    Nothing of the model is downloaded or loaded.

    Args:
        run_id: The parent run.
        name: Of the registered model, which is made if need be.
        iteration: Register its model.
        metric: Register the best model by this metric; by the primary one without either.

    Raises:
        ConfigurationError: There is no such model, or none can have this name.
        SweepNotFound: The run is not the parent run of a sweep.
        PublishFailed: The model is not finished, or the store does not answer.

    Examples:
        >>> register(run.run_id, "digits", iteration=0).number
        1
    """
    from mlflow_automl_remote.promotion import published, registering

    with _store() as client:
        sweep = published.read_sweep(client, run_id)
        chosen = sweep.choose(iteration=iteration, metric=metric)
        return registering.register(client, sweep, chosen, name)


def promote(
    run_id: str,
    promotion: Promotion | Mapping[str, object],
    *,
    iteration: int | None = None,
    force: str = "",
    dry_run: bool = False,
    listener: Listener | None = None,
) -> Decision:
    """Let a model of a sweep have an alias if it passes every gate.

    Args:
        run_id: The parent run.
        promotion: Name, alias and gates; see `config.promotion.Promotion`.
        iteration: Whose model; the best by the primary metric without it.
        force: Why to promote whatever the gates say; is recorded.
        dry_run: Only say what would be decided.
        listener: What to tell on the way.

    Raises:
        ConfigurationError: There is no such model, or `promotion` is wrong.
        SweepNotFound: The run is not the parent run of a sweep, or its workspace is gone.
        DataError: The rows cannot be scored.
        PublishFailed: The model is not finished, or the store does not answer.
        TransportError: The target cannot be used.

    Examples:
        >>> str(promote(run.run_id, {"name": "digits", "alias": "champion"}, iteration=0).outcome)
        'promoted'
        >>> worse = {"name": "digits", "alias": "champion", "gates": {"min_gain": 0.9}}
        >>> str(promote(run.run_id, worse, iteration=1, force="to show a rollback").outcome)
        'promoted'
    """
    from mlflow_automl_remote.promotion import deciding, published

    asked = promotion if isinstance(promotion, Promotion) else Promotion.parse(promotion)
    with _store() as client:
        sweep = published.read_sweep(client, run_id)
        chosen = sweep.choose(iteration=iteration)
        measuring = _Measuring(client, sweep, chosen, asked, listener or Listener())
        order = deciding.Order(promotion=asked, by=_user(), force=force, is_dry=dry_run)
        return deciding.promote(client, sweep, chosen, order, measuring)


def at_the_end(sweep: SweepHandle, state: SweepState, listener: Listener) -> Iterator[str]:
    """Promote the best model of a sweep that has ended, if its settings ask for it.

    What was decided before is told again, not decided again: a sweep may be followed twice.

    Yields:
        What came of it, in lines.

    Raises:
        PromotionRefused: A gate was not passed.
        PromotionFailed: It could not be found out.
    """
    wanted = None if state.started is None else state.started.settings.get("promote")
    if not isinstance(wanted, Mapping):
        return
    try:
        asked = Promotion.parse(wanted)
        told = _decided_before(sweep.run_id, asked)
        if told:
            yield f"Decided before for '{asked.alias}' of {asked.name}: {told}."
            refused = told.startswith("refused")
        else:
            from mlflow_automl_remote.promotion import report

            decision = promote(sweep.run_id, asked, listener=listener)
            *told_lines, told = report.lines(decision)
            yield from told_lines
            refused = decision.outcome == "refused"
            if not refused:
                yield told
    except AutoMLRemoteError as error:
        raise PromotionFailed(
            f"The sweep has ended well, but its best model was not promoted: {error} "
            f"Try again: automl-remote promote {sweep.run_id} --name {wanted.get('name')}"
        ) from error
    if refused:
        raise PromotionRefused(told)


def _decided_before(run_id: str, asked: Promotion) -> str:
    from mlflow_automl_remote.promotion.deciding import recorded

    with _store() as client:
        return recorded(client, run_id, asked)


def rollback(name: str, alias: str = "champion", *, reason: str = "") -> RolledBack:
    """Give an alias back to the version that had it before.

    Raises:
        ConfigurationError: There is no version to go back to.
        PublishFailed: The store does not answer.

    Examples:
        >>> rollback("digits").back.number
        1
    """
    from mlflow_automl_remote.promotion import aliases

    with _store() as client:
        now_ms = time.time_ns() // 1_000_000
        return aliases.rollback(client, name, alias, by=_user(), now_ms=now_ms, reason=reason)


@contextmanager
def _store() -> Iterator[MlflowClient]:
    from mlflow import MlflowClient

    from mlflow_automl_remote.publishing.calls import quiet

    with quiet():
        yield MlflowClient()


def _user() -> str:
    from mlflow.tracking.context.registry import resolve_tags

    return str(resolve_tags().get("mlflow.user", "unknown"))


class _Measuring:
    """Has models measured on the target of a sweep."""

    def __init__(
        self,
        client: MlflowClient,
        sweep: PublishedSweep,
        candidate: Candidate,
        promotion: Promotion,
        listener: Listener,
    ) -> None:
        self._client = client
        self._sweep = sweep
        self._listener = listener
        self._request = {
            "challenger": {"iteration": candidate.number},
            "incumbent": None,
            "metric": sweep.primary_metric,
            "seed": sweep.seed,
            "group_by": promotion.gates.group_by,
            "latency": promotion.gates.max_latency_ms is not None,
        }

    def __call__(self, incumbent: Version | None) -> Evidence:
        """Measure the challenger, and an incumbent on the same rows."""
        from mlflow_automl_remote.promotion import names
        from mlflow_automl_remote.promotion.evidence import Evidence, Measured
        from mlflow_automl_remote.promotion.incumbent import fetch

        if incumbent is None:
            return self._compare(self._request, None)
        if incumbent.tags.get(names.SWEEP_ID) == self._sweep.sweep_id:
            number = int(incumbent.tags[names.ITERATION])
            return self._compare({**self._request, "incumbent": {"iteration": number}}, None)
        with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder:
            self._listener.on_notice(f"Fetching {incumbent}, which is the incumbent")
            try:
                fetched = fetch(incumbent, Path(folder), self._client.tracking_uri)
            except PublishFailed as error:
                why = f"the incumbent's model cannot be fetched: {error}"
                nothing = Measured(error=why)
                return Evidence(
                    rows="", n_rows=0, n_folds=0, challenger=Measured(), incumbent=nothing
                )
            foreign = compute.ForeignModel(
                folder=fetched.folder, requirements=fetched.requirements, python=fetched.python
            )
            return self._compare(self._request, foreign)

    def _compare(
        self, request: Mapping[str, object], foreign: compute.ForeignModel | None
    ) -> Evidence:
        from mlflow_automl_remote.promotion.evidence import read_evidence

        run = sweep_run.attach(self._sweep.run_id)
        target = compute.TargetSpec.from_json(run.facts.target_config)
        on_progress = self._listener.on_progress
        with compute.connect(target, on_progress=on_progress) as connection:
            answer = compute.compare(connection, run.facts.sweep_id, request, foreign, on_progress)
        return read_evidence(answer, target.label)
