"""How calls on a cluster ended, as whoever submitted them is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow_automl_remote.automl.cluster import located
from mlflow_automl_remote.automl.cluster.node import NodeAnswer
from mlflow_automl_remote.automl.executor import Finished, Ticket, loaded
from mlflow_automl_remote.states import IterationState


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """What is known of a call before it ends.

    Attributes:
        ticket: Of the call.
        node: Name of the node that it was given to; empty if none was.
        at_ms: When it was submitted, in milliseconds since 1970.
    """

    ticket: Ticket
    node: str
    at_ms: int


def finished(began: Began, answer: NodeAnswer, root: Path) -> Finished:
    """Say how a call ended that a node has answered for.

    Args:
        began: The call.
        answer: Of the node.
        root: That paths in the result are below here.
    """
    payload: Any = answer.done.value
    done = replace(answer.done, ticket=began.ticket, node=began.node, value=None)
    return loaded(done, lambda: located.loads(payload, root))


def ended(began: Began, state: IterationState, reason: str, *, is_lost: bool = False) -> Finished:
    """Say how a call ended that no node has answered for."""
    return Finished(
        ticket=began.ticket,
        state=state,
        reason=reason,
        started_at_ms=began.at_ms,
        ended_at_ms=now_ms(),
        node=began.node,
        is_lost=is_lost,
    )


def is_loss(error: BaseException | None) -> bool:
    """Whether an error of a call says that its node, or what runs calls there, is gone."""
    from ray.exceptions import RayError, RayTaskError

    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def now_ms() -> int:
    """Give the milliseconds since 1970."""
    return time.time_ns() // 1_000_000
