"""Chooses how a pipeline is explained: the methods that may fit it, the cheapest first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlflow_automl_remote.explain.chains import Chain, Front, front_of
from mlflow_automl_remote.explain.ensembles import Member, Sum, as_parts, as_sum
from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.fast_svm import accelerated
from mlflow_automl_remote.explain.forests import ForestValues, forest_output, is_forest, space_of
from mlflow_automl_remote.explain.linear import LinearValues, is_linear
from mlflow_automl_remote.explain.outputs import (
    Answer,
    Attributed,
    Exact,
    Method,
    margin_output,
    whole_output,
)
from mlflow_automl_remote.explain.sampled import (
    Asked,
    AskedModel,
    AskedTogether,
    Sampler,
    n_background_for,
)
from mlflow_automl_remote.explain.tables import Ints, Table, take

ROWS_OF_A_FOREST: Final = 1024
FIRST_ROWS_OF_A_FOREST: Final = 128
FIRST_ROWS_SAMPLED: Final = 1
ROWS_AT_ONCE: Final = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Game:
    """What is explained: rows against a background, for the columns that the rows have.

    Attributes:
        chain: The pipeline.
        X: Rows to explain.
        background: In random order.
        seed: Of what is sampled.
        n_jobs: Threads that ask models at a time.
    """

    chain: Chain
    X: Table
    background: Table
    seed: int
    n_jobs: int = 1

    @property
    def n_players(self) -> int:
        """Raw columns."""
        return int(self.X.shape[1])

    def front(self, chain: Chain, n_background: int | None = None) -> Front:
        """Take the rows through the steps of a chain that keep columns apart."""
        return front_of(chain, self.X, take(self.background, slice(n_background)))


def methods(game: Game) -> Iterator[Method]:
    """Give the methods that may fit a pipeline, the cheapest first; the last fits every model."""
    whole = as_sum(game.chain)
    if whole is not None:
        by_members = _by_members(game, whole)
        if by_members is not None:
            yield by_members
    else:
        exact = _exact_method(game)
        if exact is not None:
            yield exact
    n_background = n_background_for(game.n_players)
    asked = _asked(game, game.chain, n_background)
    yield _sampled(game, asked)
    if isinstance(asked, AskedTogether):
        yield _sampled(game, _asked_model(game, game.chain, n_background))


def _exact_method(game: Game) -> Method | None:
    front = game.front(game.chain)
    chain = game.chain
    if is_linear(front):
        space: OutputSpace = "margin" if chain.is_classifier else "value"
        output = margin_output(chain) if chain.is_classifier else whole_output(chain)[0]
        return _exact("linear", LinearValues(front, game.n_players), output, space, game)
    if not is_forest(front):
        return None
    values = _read(front, game.n_players)
    if values is None:
        return None
    return _exact("tree", values, forest_output(chain), space_of(chain.model), game)


def _read(front: Front, n_players: int) -> ForestValues | None:
    try:
        return ForestValues(front, n_players)
    except Exception:  # noqa: BLE001 - formats of other libraries; the model itself can be asked
        _log.debug("The trees of %s cannot be read", type(front.rest.model), exc_info=True)
        return None


def _exact(name: str, values: Exact, output: Answer, space: OutputSpace, game: Game) -> Method:
    def attribute(rows: Ints, _: int) -> Attributed:
        found = values.values(rows)
        return Attributed(values=found, squared_error=np.zeros_like(found))

    return Method(
        name=name,
        output_space=space,
        output=output,
        base_values=values.base_values,
        n_background=int(game.background.shape[0]),
        attribute=attribute,
        n_rows_at_once=ROWS_AT_ONCE if name == "linear" else ROWS_OF_A_FOREST,
        n_rows_first=ROWS_AT_ONCE if name == "linear" else FIRST_ROWS_OF_A_FOREST,
    )


def _asked(game: Game, chain: Chain, n_background: int | None) -> Asked:
    """Ask a model, or the members of an ensemble, theirs too, each behind its own first steps."""
    parts = as_parts(chain)
    if parts is None:
        return _asked_model(game, chain, n_background)
    asked = [_asked(game, member, n_background) for member in parts.members]
    return AskedTogether(parts=asked, combine=parts.combine)


def _asked_model(game: Game, chain: Chain, n_background: int | None) -> Asked:
    front = game.front(chain, n_background)
    return AskedModel(front=front, output=whole_output(accelerated(front))[0])


def _sampler(game: Game, asked: Asked) -> Sampler:
    return Sampler(asked, n_players=game.n_players, seed=game.seed, n_jobs=game.n_jobs)


def _sampled(game: Game, asked: Asked) -> Method:
    """Ask for mixed rows, in the model's own output space."""
    output, space = whole_output(game.chain)
    sampler = _sampler(game, asked)
    return Method(
        name="exact" if sampler.is_exact else "permutation",
        output_space=space,
        output=output,
        base_values=sampler.base_values,
        n_background=len(asked.rows.background),
        attribute=sampler.attribute,
        n_rows_at_once=sampler.n_rows_at_once,
        n_rows_first=FIRST_ROWS_SAMPLED,
        n_rounds=sampler.n_rounds,
    )


def _by_members(game: Game, whole: Sum) -> Method | None:
    """Add up the members of an ensemble: exact ones each by itself, all others in one sample.

    All have one background. None where the trees of a member cannot be read after all.
    """
    exact = [_is_exact(game.front(member.chain, 1)) for member in whole.members]
    n_background = None if all(exact) else n_background_for(game.n_players)
    parts: list[tuple[Exact, Floats]] = []
    asked: list[Member] = []
    for member, is_exact in zip(whole.members, exact, strict=True):
        if not is_exact:
            asked.append(member)
            continue
        front = game.front(member.chain, n_background)
        linear = is_linear(front)
        values = LinearValues(front, game.n_players) if linear else _read(front, game.n_players)
        if values is None:
            return None
        parts.append((values, member.weights))
    sampler = None
    if asked:
        added = AskedTogether(
            parts=[_asked(game, member.chain, n_background) for member in asked],
            combine=lambda answers: _added(asked, answers),
        )
        sampler = _sampler(game, added)
    return _sum_method(game, whole, parts, sampler)


def _is_exact(front: Front) -> bool:
    """Whether the answers that an ensemble adds up can be explained exactly."""
    if front.rest.is_classifier:
        return is_forest(front) and space_of(front.rest.model) == "probability"
    return is_linear(front) or is_forest(front)


def _added(members: Sequence[Member], answers: Sequence[Floats]) -> Floats:
    weighted = [answer @ one.weights for one, answer in zip(members, answers, strict=True)]
    total: Floats = np.sum(weighted, axis=0)
    return total


def _sum_method(
    game: Game, whole: Sum, parts: list[tuple[Exact, Floats]], sampler: Sampler | None
) -> Method:
    n_background = int(game.background.shape[0])
    if sampler is not None:
        n_background = min(n_background, n_background_for(game.n_players))

    def attribute(rows: Ints, n_rounds: int) -> Attributed:
        values = sum(one.values(rows) @ weights for one, weights in parts)
        if sampler is None:
            exact = np.asarray(values)
            return Attributed(values=exact, squared_error=np.zeros_like(exact))
        found = sampler.attribute(rows, n_rounds)
        return Attributed(values=found.values + values, squared_error=found.squared_error)

    # Members leave out a constant, so the base is what is left of the ensemble's own output.
    answers = whole.output(take(game.background, slice(n_background)))
    how = "" if sampler is None else "exact" if sampler.is_exact else "permutation"
    return Method(
        name="+".join(filter(None, ("members" if parts else "", how))),
        output_space=whole.space,
        output=whole.output,
        base_values=answers.mean(axis=0),
        n_background=n_background,
        attribute=attribute,
        n_rows_at_once=ROWS_OF_A_FOREST if sampler is None else sampler.n_rows_at_once,
        n_rows_first=FIRST_ROWS_OF_A_FOREST if sampler is None else FIRST_ROWS_SAMPLED,
        n_rounds=1 if sampler is None else sampler.n_rounds,
    )
