"""Places of a cluster: cores and memory of some node that Ray reserves for one call at a time.

Each is a placement group of one bundle, which costs no process. Whoever uses it holds a lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ray.util import placement_group, placement_group_table, remove_placement_group

IDLE_S: Final = 5.0
"""A place that nobody has used for so long is given back to the cluster."""
_NODE_ID: Final = "ray.io/node-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a call reserves.

    Attributes:
        n_cores: Of one node.
        memory_bytes: Of the same; 0 for none in particular.
    """

    n_cores: int
    memory_bytes: int = 0

    def as_bundle(self) -> dict[str, float]:
        """Give it in Ray's words."""
        return {"CPU": float(self.n_cores)} | (
            {"memory": float(self.memory_bytes)} if self.memory_bytes else {}
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Place:
    """One place.

    Attributes:
        group: Of Ray.
        shape: What it reserves.
        node_id: Where; empty as long as the cluster has no room for it.
        is_used: Whether a call runs in it.
        since: When it was last used or made.
    """

    group: Any
    shape: Shape
    node_id: str = ""
    is_used: bool = False
    since: float = field(default_factory=time.monotonic)


class Places:
    """All places of an executor.

    Args:
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._places: list[Place] = []
        self._clock = clock

    def take(self, shape: Shape, nodes: Collection[str]) -> Place | None:
        """Give a free place on one of some nodes, and mark it as used; None if there is none."""
        for place in self._places:
            if not place.is_used and place.shape == shape and place.node_id in nodes:
                place.is_used = True
                return place
        return None

    def free(self, place: Place) -> None:
        """Let another call have a place."""
        place.is_used = False
        place.since = self._clock()

    def want(
        self, wanted: Mapping[Shape, int], nodes: Collection[str], not_on: Collection[str]
    ) -> None:
        """Ask the cluster for places that calls wait for.

        Args:
            wanted: How many calls wait for which.
            nodes: Where calls can run now.
            not_on: Nodes that are of no use.
        """
        free = [place for place in self._places if not place.is_used]
        for place in free:
            if wanted and place.shape not in wanted:
                self._remove(place)  # its cores may be what others wait for
        selector = [{_NODE_ID: f"!in({','.join(sorted(not_on))})"}] if not_on else None
        for shape, n_calls in wanted.items():
            coming = sum(
                place.shape == shape and place.node_id not in nodes
                for place in free
                if place in self._places
            )
            for _ in range(n_calls - coming):
                group = placement_group([shape.as_bundle()], bundle_label_selector=selector)
                self._places.append(Place(group=group, shape=shape, since=self._clock()))

    def look(self, nodes: Collection[str]) -> None:
        """Find out where places are that were nowhere, or where calls cannot run yet."""
        for place in self._places:
            if not place.is_used and place.node_id not in nodes:
                about = placement_group_table(place.group)
                is_there = about.get("state") == "CREATED"
                place.node_id = about["bundles_to_node_id"][0] if is_there else ""

    def give_back(self) -> None:
        """Give places back that nobody has used for a while."""
        for place in list(self._places):
            if not place.is_used and self._clock() - place.since > IDLE_S:
                self._remove(place)

    def lose(self, node_id: str) -> None:
        """Forget the places of a node that is gone."""
        for place in list(self._places):
            if place.node_id == node_id:
                self._remove(place)

    def close(self) -> None:
        """Give all of them back."""
        for place in list(self._places):
            self._remove(place)

    def _remove(self, place: Place) -> None:
        self._places.remove(place)
        remove_placement_group(place.group)
