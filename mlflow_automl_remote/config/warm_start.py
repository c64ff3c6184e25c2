"""What a sweep may begin with: pipelines that earlier sweeps found, as they travel to a target."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

MAX_SWEEPS: Final = 20
"""Earlier sweeps that travel: which are like the new data is known where the data is."""
MAX_PIPELINES: Final = 15
"""Pipelines of each of them."""
MAX_OF_A_MODEL: Final = 3
"""Of these, pipelines of one model; members of the vote come on top."""

_WEIGHT: Final = re.compile(r"[0-9]*[.]?[0-9]+(e-?[0-9]+)?")

Name = Annotated[str, Field(max_length=100)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Value(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class EarlierPipeline(_Value):
    """An iteration of an earlier sweep.

    Attributes:
        run_id: Its run.
        scaler: Name of the scaler.
        model: Name of the model.
        params: Point of the search space; keys are `scaler__x` and `model__x`.
        fit_s: Seconds of one fit of it there; 0 if not known.
    """

    run_id: Name
    scaler: Name
    model: Name
    params: Annotated[dict[Name, bool | int | Number | Name | None], Field(max_length=50)]
    fit_s: Annotated[Number, Field(ge=0)] = 0.0


class EarlierSweep(_Value):
    """A sweep that has found pipelines.

    Attributes:
        run_id: Its parent run.
        meta_features: What its data is like; `n_rows` and others.
        pipelines: What it found, the most useful first.
    """

    run_id: Name
    meta_features: Annotated[dict[Name, Number], Field(max_length=50)]
    pipelines: Annotated[tuple[EarlierPipeline, ...], Field(max_length=MAX_PIPELINES)] = ()


class WarmStart(_Value):
    """Earlier sweeps of the same task, to begin with what they found.

    Attributes:
        is_named: Whether a person has named the sweep, so that it is used however far its data is.
        sweeps: The latest first.
    """

    is_named: bool
    sweeps: Annotated[tuple[EarlierSweep, ...], Field(max_length=MAX_SWEEPS)]

    def to_json(self) -> str:
        """Write it for the target."""
        return self.model_dump_json()

    @classmethod
    def from_file(cls, path: Path) -> WarmStart | None:
        """Read what `to_json` wrote; None if there is no such file."""
        return cls.model_validate_json(path.read_bytes()) if path.exists() else None


def most_useful(
    ranked: Sequence[tuple[int, EarlierPipeline]], weights: Mapping[int, float]
) -> tuple[EarlierPipeline, ...]:
    """Choose what a sweep passes on: the best, what its ensemble is made of, other good ones.

    Args:
        ranked: Number and pipeline of its iterations, the best first.
        weights: Of the members of its best ensemble, by their number.
    """
    rest = sorted(ranked[1:], key=lambda each: -weights.get(each[0], 0.0))
    chosen: list[EarlierPipeline] = []
    n_of: Counter[str] = Counter()
    for number, pipeline in (*ranked[:1], *rest):
        n_of[pipeline.model] += 1
        is_wanted = number in weights or n_of[pipeline.model] <= MAX_OF_A_MODEL
        if is_wanted and len(chosen) < MAX_PIPELINES:
            chosen.append(pipeline)
    return tuple(chosen)


def weights_of(hyperparameters: Mapping[str, object]) -> dict[int, float]:
    """Read, from the hyper-parameters of an ensemble, the weights of its members by number."""
    found = {}
    for name, value in hyperparameters.items():
        number = name.removeprefix("model__iteration_")
        weight = str(value).partition(" ")[0]
        if number != name and number.isdecimal() and _WEIGHT.fullmatch(weight):
            found[int(number)] = float(weight)
    return found
