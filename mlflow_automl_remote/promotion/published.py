"""A sweep as MLflow has it: its iterations with a model, ranked by any metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_automl_remote.config.catalogue import lower_is_better
from mlflow_automl_remote.errors import ConfigurationError, SweepNotFound
from mlflow_automl_remote.publishing import facts
from mlflow_automl_remote.publishing.calls import translated

_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An iteration that has ended.

    Attributes:
        metrics: The last value of each, by name; `test_...` are those of the held-out test rows.
        model_id: Its logged model; empty if it has none in MLflow.
    """

    number: int
    run_id: str
    pipeline: str
    metrics: Mapping[str, float]
    model_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSweep:
    """What MLflow knows of a sweep.

    Attributes:
        run_id: The parent run.
        started_ms: When its data was loaded, as far as MLflow knows: when it began.
        candidates: All iterations that have ended, by number.
        best: Number of the best iteration by the primary metric; None if there is none.
        data_digest: Of the data that it learned from.
        held_out: What decides which rows `test_size` takes: share and seed; empty without it.
        python_version: Of its agent.
    """

    run_id: str
    experiment_id: str
    sweep_id: str
    started_ms: int
    status: str
    candidates: Mapping[int, Candidate]
    best: int | None
    primary_metric: str
    data_digest: str
    held_out: str
    seed: int
    python_version: str
    package_version: str

    def ranked(self, metric: str) -> tuple[Candidate, ...]:
        """Give the iterations with a metric, the best first; equal ones by number."""
        sign = 1 if lower_is_better(metric) else -1
        scored = [one for one in self.candidates.values() if metric in one.metrics]
        return tuple(sorted(scored, key=lambda one: (sign * one.metrics[metric], one.number)))

    def choose(self, *, iteration: int | None = None, metric: str | None = None) -> Candidate:
        """Give the best iteration, the best by another metric, or one by its number.

        Raises:
            ConfigurationError: Both are given, there is no such iteration or metric, or what was
                chosen has no model in MLflow.
        """
        if iteration is not None and metric is not None:
            raise ConfigurationError("'iteration' and 'metric' exclude each other; give one.")
        if iteration is None and metric is None:
            chosen = None if self.best is None else self.candidates.get(self.best)
        elif metric is None:
            chosen = self.candidates.get(iteration or 0)
        else:
            chosen = next(iter(self.ranked(metric)), None)
        if chosen is None:
            what = "no model" if iteration is None else f"no ended iteration {iteration}"
            what = f"no iteration with the metric '{metric}'" if metric else what
            raise ConfigurationError(f"The sweep of run '{self.run_id}' has {what} in MLflow.")
        if not chosen.model_id:
            raise ConfigurationError(
                f"Iteration {chosen.number} has no model in MLflow. If it has one on its target, "
                f"publish it first: automl-remote follow {self.run_id}"
            )
        return chosen


def read_sweep(client: MlflowClient, run_id: str) -> PublishedSweep:
    """Read a sweep from its parent run and the runs of its iterations.

    Raises:
        SweepNotFound: The run is not the parent run of a sweep, or nothing of it is published yet.
        PublishFailed: The store does not answer.
    """
    with translated():
        run = client.get_run(run_id)
    tags = run.data.tags
    if facts.SWEEP_ID not in tags or facts.PARENT_RUN_ID in tags:
        raise SweepNotFound(
            f"The run '{run_id}' is not the parent run of a sweep: give the id that was printed "
            "at submission."
        )
    inputs = run.inputs.dataset_inputs if run.inputs else []
    seed = run.data.params.get("seed", "")
    best = tags.get(facts.BEST_ITERATION, "")
    return PublishedSweep(
        run_id=run_id,
        experiment_id=run.info.experiment_id,
        sweep_id=tags[facts.SWEEP_ID],
        started_ms=run.info.start_time or 0,
        status=tags.get(facts.STATUS, ""),
        candidates={one.number: one for one in _candidates(client, run)},
        best=int(best) if best.isdecimal() else None,
        primary_metric=tags.get(facts.PREFIX + "primary_metric", ""),
        data_digest=inputs[0].dataset.digest if inputs else "",
        held_out=_held_out(run.data.params),
        seed=int(seed) if seed.isdecimal() else 0,
        python_version=tags.get(facts.PREFIX + "python_version", ""),
        package_version=tags.get(facts.PREFIX + "package_version", ""),
    )


def _held_out(params: Mapping[str, str]) -> str:
    share = params.get("test_size", "0")
    return "" if share in ("0", "0.0") else f"{share} with seed {params.get('seed', '0')}"


def _candidates(client: MlflowClient, parent: Run) -> list[Candidate]:
    condition = f"tags.`{facts.PARENT_RUN_ID}` = '{parent.info.run_id}'"
    found: list[Candidate] = []
    token: str | None = None
    while True:
        with translated():
            page = client.search_runs(
                [parent.info.experiment_id], condition, max_results=_PAGE_SIZE, page_token=token
            )
        found += [_candidate(run) for run in page if run.info.status == "FINISHED"]
        token = page.token
        if not token:
            return found


def _candidate(run: Run) -> Candidate:
    tags = run.data.tags
    models = run.outputs.model_outputs if run.outputs else []
    number = tags.get(facts.ITERATION, "")
    return Candidate(
        number=int(number) if number.isdecimal() else -1,
        run_id=run.info.run_id,
        pipeline=f"{tags.get(facts.SCALER, '')} {tags.get(facts.MODEL, '')}".strip(),
        metrics={name: value for name, value in run.data.metrics.items() if math.isfinite(value)},
        model_id=models[0].model_id if models else "",
    )
