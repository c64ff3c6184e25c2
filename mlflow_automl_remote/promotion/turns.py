"""One client at a time changes a registered model: Lamport's bakery, in tags of the model.

MLflow cannot compare and set. The bakery needs no more than tags that are written and read: each
client takes a number above all that it sees, and waits until no other has a smaller one. What
needs a turn takes about a second; a claim that does not change for `STALE_S` is that of a client
that died, and is removed.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.promotion import names
from mlflow_automl_remote.promotion.registry import Registry

STALE_S: Final = 60.0
POLL_S: Final = 0.2
LIMIT_S: Final = 600.0
_CHOOSING: Final = 0


@contextlib.contextmanager
def turn(
    registry: Registry, *, stale_s: float = STALE_S, limit_s: float = LIMIT_S
) -> Iterator[Callable[[], None]]:
    """Wait for a turn, and have it until the block is left.

    Args:
        registry: Of a registered model that is there.
        stale_s: After how long a claim that does not change is taken for one of the dead.
        limit_s: The longest wait.

    Yields:
        Raises `PublishFailed` when it is called after the turn was taken away.

    Raises:
        PublishFailed: The turn did not come in time.
    """
    mine = uuid.uuid4().hex
    key = names.CLAIM + mine

    def still_mine() -> None:
        if key not in registry.tags():
            raise PublishFailed(
                f"Another client took the change of '{registry.name}' over, because this one was "
                "silent for too long. Nothing was moved; try again."
            )

    registry.set_tag(key, str(_CHOOSING))
    try:
        number = 1 + max(_claims(registry).values(), default=0)
        registry.set_tag(key, str(number))
        _wait(registry, (number, mine), stale_s=stale_s, limit_s=limit_s)
        yield still_mine
    finally:
        with contextlib.suppress(PublishFailed):  # then it is removed as one of the dead
            registry.delete_tag(key)


def _wait(registry: Registry, mine: tuple[int, str], *, stale_s: float, limit_s: float) -> None:
    since: dict[tuple[int, str], float] = {}
    deadline = time.monotonic() + limit_s
    while True:
        claims = {(number, owner) for owner, number in _claims(registry).items()}
        before = {claim for claim in claims if claim[0] == _CHOOSING or claim < mine}
        if not before:
            return
        now = time.monotonic()
        if now > deadline:
            raise PublishFailed(
                f"{len(before)} other clients change '{registry.name}' since {limit_s:.0f} s. "
                "Nothing was moved; try again."
            )
        since = {claim: since.get(claim, now) for claim in before}
        for claim, seen in since.items():
            if now - seen > stale_s:
                registry.delete_tag(names.CLAIM + claim[1])
        time.sleep(POLL_S)


def _claims(registry: Registry) -> dict[str, int]:
    return {
        key.removeprefix(names.CLAIM): int(value) if value.isdecimal() else _CHOOSING
        for key, value in registry.tags().items()
        if key.startswith(names.CLAIM)
    }
