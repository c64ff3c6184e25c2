"""Finds in the tracking store what earlier sweeps found, for a sweep that begins with it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from mlflow_automl_remote.config import LOWER_IS_BETTER, AutoMLConfig
from mlflow_automl_remote.config.warm_start import (
    MAX_SWEEPS,
    EarlierPipeline,
    EarlierSweep,
    WarmStart,
    most_useful,
    weights_of,
)
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.publishing import facts
from mlflow_automl_remote.publishing.calls import quiet
from mlflow_automl_remote.publishing.text import one_line

MAX_ALIKE: Final = 3
"""Of sweeps over data whose numbers are the same, roughly, the latest so many are read."""
_LOOKED_AT: Final = 60
"""Iterations of a sweep that are read, the best."""
_MAX_PARENTS: Final = 1_000
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")

OnNotice = Callable[[str], None]


def find(wanted: str, config: AutoMLConfig, on_notice: OnNotice) -> WarmStart | None:
    """Read what the sweep of a run id, or the sweeps of an experiment, found.

    Args:
        wanted: The id of a parent run, or the name or id of an experiment.
        config: Of the sweep that begins with it.
        on_notice: Told what was found; and, of an experiment, if nothing was.

    Returns:
        What was found; None if an experiment has nothing of use.

    Raises:
        ConfigurationError: There is no such run or experiment, or the run is of no use.
    """
    try:
        with quiet():
            client = MlflowClient()
            run = _run(client, wanted)
            if run is None:
                sweeps = _of_experiment(client, wanted, config, on_notice)
            else:
                sweeps = [_of_run(client, run, config)]
    except MlflowException as error:
        raise ConfigurationError(
            f"'{wanted}', of 'warm_start_from', cannot be read from "
            f"{mlflow.get_tracking_uri()}: {one_line(str(error), 300)}"
        ) from error
    if not sweeps:
        return None
    n_pipelines = sum(len(sweep.pipelines) for sweep in sweeps)
    ids = ", ".join(sweep.run_id for sweep in sweeps)
    on_notice(f"Warm start: {n_pipelines} pipelines of earlier sweeps: {ids}")
    return WarmStart(is_named=run is not None, sweeps=tuple(sweeps))


def _run(client: MlflowClient, wanted: str) -> Run | None:
    """Give the run with an id; None if what is wanted is an experiment."""
    if not _RUN_ID.fullmatch(wanted):
        return None
    try:
        return client.get_run(wanted)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _of_run(client: MlflowClient, run: Run, config: AutoMLConfig) -> EarlierSweep:
    """Read the sweep that a person has named."""
    reason = _why_not(run, config)
    sweep = None if reason else _read(client, run, config)
    if sweep is None:
        reason = reason or f"no iteration has a {config.primary_metric} and a model to be used"
        raise ConfigurationError(
            f"The run {run.info.run_id}, of 'warm_start_from', is nothing to begin with: {reason}."
        )
    return sweep


def _of_experiment(
    client: MlflowClient, wanted: str, config: AutoMLConfig, on_notice: OnNotice
) -> list[EarlierSweep]:
    """Read the sweeps of an experiment, the latest first."""
    parents = client.search_runs(
        [_experiment_id(client, wanted)],
        f"tags.`{facts.TARGET_CONFIG}` LIKE '%'",
        max_results=_MAX_PARENTS,
        order_by=["attributes.start_time DESC"],
    )
    reasons = Counter(reason for run in parents if (reason := _why_not(run, config)))
    usable = _unlike([run for run in parents if not _why_not(run, config)])
    sweeps: list[EarlierSweep] = []
    for run in usable:
        sweep = _read(client, run, config)
        if sweep is not None:
            sweeps.append(sweep)
        if len(sweeps) == MAX_SWEEPS:
            break
    if not sweeps:
        why = "; ".join(f"{n} times: {reason}" for reason, n in reasons.items())
        on_notice(
            f"Warm start: nothing in the experiment '{wanted}' can be used"
            f"{f' ({why})' if why else ''}; the search begins without it."
        )
    return sweeps


def _experiment_id(client: MlflowClient, wanted: str) -> str:
    found = client.get_experiment_by_name(wanted)
    if found is None and wanted.isdecimal():
        try:
            found = client.get_experiment(wanted)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        if found is not None and found.experiment_id != wanted:
            found = None  # 007 is not 7
    if found is None or found.lifecycle_stage == "deleted":
        raise ConfigurationError(
            "'warm_start_from' must be the run id of a sweep, or the name or id of an experiment, "
            f"at {mlflow.get_tracking_uri()}. There is none '{wanted}'."
        )
    return str(found.experiment_id)


def _why_not(run: Run, config: AutoMLConfig) -> str:
    """Say why what a run holds is of no use, for a person; empty if it may be."""
    tags = run.data.tags
    if run.info.lifecycle_stage == "deleted":
        return "it was deleted"
    if facts.TARGET_CONFIG not in tags:
        parent = tags.get(facts.PARENT_RUN_ID) if facts.SWEEP_ID in tags else None
        hint = f", but an iteration of {parent}: give that" if parent else ""
        return f"it is not the parent run of a sweep{hint}"
    task = run.data.params.get("task", config.task)
    if task != config.task:
        return f"it is {task}, this sweep is {config.task}"
    if not _meta_features(run):
        return "it has had no data, or is of an earlier version that did not describe its data"
    return ""


def _unlike(parents: Sequence[Run]) -> Iterator[Run]:
    """Leave out sweeps of which there are enough over data like theirs."""
    n_alike: Counter[tuple[object, ...]] = Counter()
    for run in parents:
        numbers = _meta_features(run)
        rough = tuple((name, f"{numbers[name]:.1g}") for name in sorted(numbers))
        n_alike[rough] += 1
        if n_alike[rough] <= MAX_ALIKE:
            yield run


def _read(client: MlflowClient, run: Run, config: AutoMLConfig) -> EarlierSweep | None:
    """Read what a sweep found; None if there is nothing to be used."""
    theirs = run.data.tags.get(f"{facts.PREFIX}primary_metric", "")
    metrics = [config.primary_metric]
    fits = (theirs not in LOWER_IS_BETTER) == config.greater_is_better
    if fits and theirs.isidentifier():
        metrics.append(theirs)  # a scorer of ours that they have not recorded
    for metric in dict.fromkeys(metrics):
        order = "DESC" if metric not in LOWER_IS_BETTER else "ASC"
        children = client.search_runs(
            [run.info.experiment_id],
            f"tags.`{facts.PARENT_RUN_ID}` = '{run.info.run_id}' and "
            "attributes.status = 'FINISHED'",
            max_results=_LOOKED_AT,
            order_by=[f"metrics.`{metric}` {order}", "attributes.start_time ASC"],
        )
        pipelines = _useful(children, metric, config)
        if pipelines:
            return EarlierSweep(
                run_id=run.info.run_id,
                meta_features=_meta_features(run),
                pipelines=pipelines,
            )
    return None


def _useful(
    children: Sequence[Run], metric: str, config: AutoMLConfig
) -> tuple[EarlierPipeline, ...]:
    """Choose what is passed on of iterations, the best first; those without a score are last."""
    scored = [run for run in children if math.isfinite(run.data.metrics.get(metric, math.nan))]
    ensembles = (run for run in scored if run.data.tags.get(facts.PROPOSED_BY) == "ensemble")
    best = next(ensembles, None)
    weights = {} if best is None else weights_of(best.data.params)
    ranked: list[tuple[int, EarlierPipeline]] = []
    for run in children:
        number = int(run.data.tags.get(facts.ITERATION, "-1"))
        # In a race a vote may have members that were scored on some of the folds only.
        pipeline = _pipeline(run, config) if run in scored or number in weights else None
        if pipeline is not None:
            ranked.append((number, pipeline))
    return most_useful(ranked, weights) if scored else ()


def _pipeline(run: Run, config: AutoMLConfig) -> EarlierPipeline | None:
    """Read the pipeline of an iteration; None if it is an ensemble, or of a model not wanted."""
    tags = run.data.tags
    try:
        proposed = json.loads(tags[facts.PIPELINE])
        pipeline = EarlierPipeline.model_validate(
            {
                **proposed,
                "run_id": run.info.run_id,
                "fit_s": run.data.metrics["fit_time_s"] / int(tags[facts.N_FITS]),
            }
        )
    except (KeyError, TypeError, ValueError, ValidationError, ZeroDivisionError):
        return None  # an ensemble, or written by somebody else
    return pipeline if pipeline.model in config.searched_models else None


def _meta_features(run: Run) -> dict[str, float]:
    """Read what the data of a sweep is like; empty if it does not say."""
    try:
        found = json.loads(run.data.tags[facts.META_FEATURES])
        return EarlierSweep(run_id="", meta_features=found).meta_features
    except (KeyError, ValueError, ValidationError):
        return {}
