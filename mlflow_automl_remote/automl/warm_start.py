"""Chooses, of what earlier sweeps found, the pipelines that a sweep begins with.

Sweeps over data that is more like the new one have more say. A pipeline that today's search space
does not have is left out; so is one that is predicted to take too long.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlflow_automl_remote.automl.components import MODELS
from mlflow_automl_remote.automl.meta_features import distance
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.automl.search_space import SearchSpace
from mlflow_automl_remote.config import Task
from mlflow_automl_remote.config.warm_start import EarlierPipeline, EarlierSweep, WarmStart

MOST_FIRST: Final = 12
"""Pipelines that come before the portfolio, at most."""
MOST_SHARE: Final = 0.5
"""Of the iterations of a sweep, those that may be such pipelines: the rest is for what is new."""
FAR: Final = 0.6
"""Sweeps over data farther than that are used only if a person has named them. Halves of a table
are up to 0.08 apart, the nearest of 20 other tables 0.13 to 0.65."""
UNIT: Final = 0.1
"""At this distance a pipeline has half the say."""
SAME_MODEL: Final = 0.5
"""Each pipeline of the same model that comes before puts one back by so much of its place."""

MOST_NOTES: Final = 5
"""Reasons for what was left out that are told, the most frequent ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPipeline:
    """A pipeline that a sweep begins with.

    Attributes:
        spec: What it is.
        source_run_id: The run that it comes from.
        seconds: Predicted time until it has a score; 0 where fits keep to the time they are given.
    """

    spec: PipelineSpec
    source_run_id: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a sweep begins with.

    Attributes:
        pipelines: In the order in which they are to be tried.
        summary: One line for a person: how many, and of which sweeps; empty without a warm start.
        notes: What was left out, and why.
    """

    pipelines: tuple[WarmPipeline, ...] = ()
    summary: str = ""
    notes: tuple[str, ...] = ()


NOTHING: Final = Chosen()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Which pipelines may be used, and what they take.

    Attributes:
        task: The kind of problem.
        models: Names of the models that may be used.
        scalers: Names of the scalers that may be used.
        n_fits: Fits until a pipeline has a score.
        limit_s: Predicted seconds from which on it is not begun; infinite for none.
        is_race: Whether models that can be hurried keep to the time they are given.
    """

    task: Task
    models: Collection[str]
    scalers: Collection[str]
    n_fits: int = 1
    limit_s: float = math.inf
    is_race: bool = False

    def seconds(self, spec: PipelineSpec, fit_s: float) -> float:
        """Predict the time of a pipeline from that of one fit."""
        is_hurried = self.is_race and MODELS[self.task][spec.model].fit_until is not None
        return 0.0 if is_hurried else fit_s * self.n_fits


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A pipeline of an earlier sweep that may be used; the lowest cost comes first."""

    cost: float
    sweep: str
    pipeline: WarmPipeline


def choose(
    given: WarmStart, like: Mapping[str, float], admission: Admission, *, n_iterations: int
) -> Chosen:
    """Choose the first pipelines of a sweep: good ones on similar data, of different models.

    Args:
        given: What earlier sweeps found.
        like: What the data is like, see `meta_features`.
        admission: Which pipelines may be used.
        n_iterations: How many pipelines the sweep has.
    """
    near = _by_distance(given, like)
    space = SearchSpace(admission.task, admission.models, admission.scalers)
    left_out: Counter[str] = Counter()
    candidates: dict[tuple[object, ...], _Candidate] = {}
    for sweep, far in near:
        growth = like["n_rows"] / max(sweep.meta_features.get("n_rows", math.inf), 1.0)
        place = 0
        for pipeline in sweep.pipelines:
            admitted = _admit(pipeline, growth, space, admission)
            if isinstance(admitted, str):
                left_out[admitted] += 1
                continue
            place += 1
            new = _Candidate(place * (1.0 + far / UNIT), sweep.run_id, admitted)
            identity = admitted.spec.identity
            if identity not in candidates or new.cost < candidates[identity].cost:
                candidates[identity] = new
    n_most = min(MOST_FIRST, max(1, int(MOST_SHARE * n_iterations)))
    chosen = _diverse(list(candidates.values()), n_most)
    return Chosen(
        pipelines=tuple(one.pipeline for one in chosen),
        summary=_summary(given, near, chosen),
        notes=tuple(
            f"{n} pipelines of earlier sweeps are left out: {reason}."
            for reason, n in left_out.most_common(MOST_NOTES)
        ),
    )


def _by_distance(given: WarmStart, like: Mapping[str, float]) -> list[tuple[EarlierSweep, float]]:
    """Give the sweeps that may be used, those over the most similar data first."""
    found = [(sweep, distance(like, sweep.meta_features)) for sweep in given.sweeps]
    found.sort(key=lambda each: each[1])
    return [(sweep, far) for sweep, far in found if given.is_named or far <= FAR]


def _admit(
    pipeline: EarlierPipeline, growth: float, space: SearchSpace, admission: Admission
) -> WarmPipeline | str:
    """Give a pipeline as it may be used, or say why it may not."""
    spec = PipelineSpec(scaler=pipeline.scaler, model=pipeline.model, params=pipeline.params)
    if reason := space.why_not(spec):
        return reason
    if not admission.is_race:  # only there rounds may be left to the time that there is
        own = {**MODELS[admission.task][spec.model].defaults, **spec.of_step("model")}
        spec = replace(spec, params=join_params(spec.of_step("scaler"), own))
    seconds = admission.seconds(spec, pipeline.fit_s * growth)
    if seconds > admission.limit_s:
        return f"{spec.model} is predicted to take longer than {admission.limit_s:.1f} s here"
    return WarmPipeline(spec=spec, source_run_id=pipeline.run_id, seconds=seconds)


def _diverse(candidates: list[_Candidate], n_most: int) -> list[_Candidate]:
    """Order candidates by cost, where each one raises that of others of its model."""
    chosen: list[_Candidate] = []
    n_of: Counter[str] = Counter()
    while candidates and len(chosen) < n_most:
        best = min(
            candidates,
            key=lambda one: one.cost * (1.0 + SAME_MODEL * n_of[one.pipeline.spec.model]),
        )
        candidates.remove(best)
        chosen.append(best)
        n_of[best.pipeline.spec.model] += 1
    return chosen


def _summary(
    given: WarmStart, near: Sequence[tuple[EarlierSweep, float]], chosen: Sequence[_Candidate]
) -> str:
    """Say what a sweep begins with, for a person."""
    if not near:
        return (
            f"None of {len(given.sweeps)} earlier sweeps is over similar data; the search begins "
            "as without them."
        )
    if not chosen:
        return "No pipeline of the earlier sweeps can be used here."
    counts = Counter(one.sweep for one in chosen)
    parts = [
        f"{counts[sweep.run_id]} of {sweep.run_id} (distance {far:.2f})"
        for sweep, far in near
        if counts[sweep.run_id]
    ]
    return f"{len(chosen)} pipelines of earlier sweeps come first: " + ", ".join(parts)
