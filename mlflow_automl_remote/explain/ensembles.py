"""Ensembles as functions of their members' answers, and as weighted sums where they are that.

A soft vote is the weighted mean of its members' probabilities, so its SHAP values are the weighted
mean of theirs. The margins of a stacked model whose last step is linear are a weighted sum of what
its members answer, and so are its values. Others can only be asked; each member then from behind
the steps that keep columns apart, which need not be gone through for every question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlflow_automl_remote.explain.chains import Chain, chain_of
from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.outputs import Answer, Combine, margin_output, whole_output


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """A model in an ensemble.

    Attributes:
        chain: From the ensemble's rows on.
        weights: What its outputs add to those of the ensemble, (its outputs, outputs).
    """

    chain: Chain
    weights: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sum:
    """An ensemble whose output is a weighted sum, but for a constant.

    Attributes:
        members: Those that count.
        output: Raw rows to (rows, outputs), by the ensemble itself.
        space: What it answers in.
    """

    members: tuple[Member, ...]
    output: Answer
    space: OutputSpace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """An ensemble whose output, as `whole_output` gives it, is a function of its members'.

    Attributes:
        members: From the ensemble's rows on.
        combine: From the members' outputs, in order, to the ensemble's.
    """

    members: tuple[Chain, ...]
    combine: Combine


def as_parts(chain: Chain) -> Parts | None:
    """Give what an ensemble asks, and what it makes of that; None where this is not one."""
    members = _members(chain)
    if members is None:
        return None
    if _is_stack(chain):
        return Parts(members=members, combine=_final(chain))
    shares = _shares(chain.model)
    return Parts(members=members, combine=lambda answers: np.tensordot(shares, answers, axes=1))


def _members(chain: Chain) -> tuple[Chain, ...] | None:
    """Give the members of an ensemble that knows nothing but their probabilities or numbers."""
    name, model = type(chain.model).__name__, chain.model
    if name in ("VotingClassifier", "VotingRegressor"):
        is_plain = getattr(model, "voting", "soft") == "soft"
    elif _is_stack(chain):
        method = "predict_proba" if chain.is_classifier else "predict"
        is_plain = set(model.stack_method_) == {method} and not model.passthrough
    else:
        return None
    members = tuple(_member(chain, one) for one in model.estimators_) if is_plain else ()
    if any(one.is_classifier and not one.has("predict_proba") for one in members):
        return None
    return members or None


def _is_stack(chain: Chain) -> bool:
    return type(chain.model).__name__ in ("StackingClassifier", "StackingRegressor")


def _final(chain: Chain) -> Combine:
    """Give what a stacked model makes of its members' answers."""
    last = chain_of(chain.model.final_estimator_)
    output = whole_output(last)[0]
    first = 1 if chain.is_classifier and chain.n_outputs == 2 else 0
    return lambda answers: output(np.hstack([answer[:, first:] for answer in answers]))


def _shares(model: Any) -> Floats:
    weights = np.asarray(model.weights or np.ones(len(model.estimators_)), dtype=np.float64)
    shares: Floats = weights / weights.sum()
    return shares


def as_sum(chain: Chain) -> Sum | None:
    """Give the members of an ensemble; None where this is not one, or not a weighted sum."""
    members = _members(chain)
    if members is None:
        return None
    return _of_stack(chain, members) if _is_stack(chain) else _of_vote(chain, members)


def _of_vote(chain: Chain, members: Sequence[Chain]) -> Sum:
    shares = _shares(chain.model)
    output, space = whole_output(chain)
    return Sum(
        members=tuple(
            Member(chain=one, weights=share * np.eye(one.n_outputs))
            for one, share in zip(members, shares, strict=True)
            if share
        ),
        output=output,
        space=space,
    )


def _of_stack(chain: Chain, chains: Sequence[Chain]) -> Sum | None:
    slopes = _final_slopes(chain.model.final_estimator_)
    if slopes is None:
        return None
    members, start = [], 0
    for member in chains:
        n_outputs = member.n_outputs
        n_fed = 1 if n_outputs == 2 else n_outputs
        weights = np.zeros((n_outputs, slopes.shape[1]))
        weights[n_outputs - n_fed :] = slopes[start : start + n_fed]
        members.append(Member(chain=member, weights=weights))
        start += n_fed
    if start != len(slopes):
        return None
    is_margin = chain.is_classifier
    return Sum(
        members=tuple(members),
        output=margin_output(chain) if is_margin else whole_output(chain)[0],
        space="margin" if is_margin else "value",
    )


def _final_slopes(final: Any) -> Floats | None:
    """Give the slopes of a linear model behind scalers, (what it is fed, outputs)."""
    last = chain_of(final)
    if "coef_" not in vars(last.model):
        return None
    slopes = np.atleast_2d(np.asarray(last.model.coef_, dtype=np.float64)).T
    for step in reversed(last.steps):
        if type(step).__name__ != "StandardScaler":
            return None
        if step.scale_ is not None:
            slopes = slopes / step.scale_[:, np.newaxis]
    if last.is_classifier and slopes.shape[1] == 1:
        slopes = np.hstack([-slopes, slopes])
    return slopes


def _member(chain: Chain, model: Any) -> Chain:
    """Give a member from the ensemble's rows on."""
    inner = chain_of(model)
    steps: Sequence[Any] = (*chain.steps, *inner.steps)
    return Chain(steps=tuple(steps), model=inner.model)
