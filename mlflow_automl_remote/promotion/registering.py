"""Makes a version of a model of a sweep; the same model never has two. Loads nothing."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus

from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.promotion import names
from mlflow_automl_remote.promotion.published import Candidate, PublishedSweep
from mlflow_automl_remote.promotion.registry import Registry, Version
from mlflow_automl_remote.promotion.turns import turn
from mlflow_automl_remote.publishing.calls import StoreRefused, translated
from mlflow_automl_remote.publishing.explained import escaped
from mlflow_automl_remote.publishing.text import MAX_TAG, one_line

N_ROWS: Final = 5
"""Lines of the leaderboard in the description of a version."""


def register(
    client: MlflowClient, sweep: PublishedSweep, candidate: Candidate, name: str
) -> Version:
    """Register a model of a sweep; if it is there already, give its version.

    Args:
        client: The store.
        sweep: Where it comes from.
        candidate: Its iteration.
        name: Of the registered model, which is made if need be.

    Raises:
        ConfigurationError: No model can have this name.
        PublishFailed: The model is not finished or gone, or the store does not answer.
    """
    location = finished(client, candidate)
    registry = Registry(client, name)
    registry.ensure()
    tags = tags_of(sweep, candidate)
    tags[names.ENVIRONMENT] = _environment(sweep, location, client.tracking_uri)
    description = describe(sweep, candidate)
    version = _find(registry, candidate, tags[names.KEY])
    if version is None:
        with turn(registry) as still_mine:
            version = _find(registry, candidate, tags[names.KEY])
            if version is None:
                still_mine()
                version = registry.create(
                    model_id=candidate.model_id,
                    run_id=candidate.run_id,
                    tags=tags,
                    description=description,
                )
    registry.annotate(version, tags, None if version.description else description)
    return registry.version(version.number) or version


def finished(client: MlflowClient, candidate: Candidate) -> str:
    """See that the model of an iteration is in MLflow, whole; give where its files are.

    Raises:
        StoreRefused: It is not.
    """
    with translated():
        model = client.get_logged_model(candidate.model_id)
    if model.status != LoggedModelStatus.READY:
        raise StoreRefused(
            f"The model {candidate.model_id} of iteration {candidate.number} is {model.status}, "
            "not READY: it is not published to its end. Follow the sweep first."
        )
    return str(model.artifact_location)


def _find(registry: Registry, candidate: Candidate, key: str) -> Version | None:
    """Find the version of a model: ours by its key, a person's by its source."""
    for version in registry.versions():
        if version.source.rstrip("/").endswith(f"/{candidate.model_id}"):
            return version
        if version.tags.get(names.KEY) == key and names.COPY_OF not in version.tags:
            return version
    return None


def tags_of(sweep: PublishedSweep, candidate: Candidate) -> dict[str, str]:
    """Give what a version says of where it comes from."""
    score = candidate.metrics.get(sweep.primary_metric)
    values = {
        names.KEY: f"{sweep.sweep_id}/{candidate.number}",
        names.SWEEP_ID: sweep.sweep_id,
        names.SWEEP_RUN: sweep.run_id,
        names.ITERATION: str(candidate.number),
        names.PIPELINE: candidate.pipeline,
        names.PRIMARY_METRIC: sweep.primary_metric,
        names.SCORE: "" if score is None else repr(score),
        names.METRICS: json.dumps(dict(sorted(candidate.metrics.items()))),
        names.DATA_DIGEST: sweep.data_digest,
        names.HELD_OUT: sweep.held_out,
        names.DATA_LOADED: moment(sweep.started_ms),
    }
    return {name: line for name, text in values.items() if (line := one_line(text, MAX_TAG))}


def describe(sweep: PublishedSweep, candidate: Candidate) -> str:
    """Write the description of a version: what it is, and the top of its leaderboard."""
    metric = sweep.primary_metric
    lines = [
        f"**{escaped(candidate.pipeline)}**, iteration {candidate.number} of sweep run "
        f"[{sweep.run_id}](#/experiments/{sweep.experiment_id}/runs/{sweep.run_id}).",
        "",
        f"| # | iteration | pipeline | {escaped(metric)} |",
        "| ---: | ---: | --- | ---: |",
    ]
    ranked = sweep.ranked(metric)
    for place, one in enumerate(ranked, start=1):
        if place > N_ROWS and one is not candidate:
            continue
        link = f"[{one.number}](#/experiments/{sweep.experiment_id}/runs/{one.run_id})"
        cells = (str(place), link, escaped(one.pipeline), f"{one.metrics[metric]:.5g}")
        lines.append(f"| {' | '.join(cells)} |")
    n_more = len(ranked) - N_ROWS
    if n_more > 0:
        lines += ["", f"{len(ranked)} iterations in all: `leaderboard.html` of the sweep's run."]
    return "\n".join(lines)


def moment(time_ms: int) -> str:
    """Write a time as a person and a program read it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def _environment(sweep: PublishedSweep, location: str, tracking_uri: str) -> str:
    """Name Python and the pinned requirements, which are a small text beside the model."""
    try:
        with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder, translated():
            path = mlflow.artifacts.download_artifacts(
                f"{location}/requirements.txt", dst_path=folder, tracking_uri=tracking_uri
            )
            text = Path(path).read_text(encoding="utf-8")
    except PublishFailed:  # a model without them is registered all the same
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line("; ".join([f"Python {sweep.python_version}", *lines]), MAX_TAG)
