"""Records how busy the machines of a sweep are while it runs."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.automl.usage import UNREADABLE, Usage
from mlflow_automl_remote.journal.events import MachineSampled

if TYPE_CHECKING:
    from mlflow_automl_remote.agent.recorder import Recorder

FIRST_INTERVAL_S: Final = 10.0
N_SAMPLES: Final = 200
"""The time between two samples grows with the sweep, so that it has only few times as many."""
MOST_NODES: Final = 32
"""Of a cluster, those that have values of their own; beyond that there is a mean of all."""
_OF_NODES: Final = ("cpu_utilization_percentage", "system_memory_usage_percentage")

OfNodes = Mapping[str, Mapping[str, float]]

_log = logging.getLogger(__name__)


@contextmanager
def sampled(recorder: Recorder, folder: Path, nodes: Callable[[], OfNodes]) -> Iterator[None]:
    """Record samples from another thread until the block is left; one at its end in any case.

    Args:
        recorder: Where they are recorded.
        folder: Whose disk is looked at.
        nodes: Says how busy the other machines are, by their name.
    """
    try:
        usage = Usage(folder)
    except UNREADABLE:
        _log.exception("This machine cannot be sampled.")
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_sample, args=(usage, nodes, recorder, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _record(usage, {}, recorder)


def of_nodes(found: OfNodes) -> dict[str, float]:
    """Name what counts of the nodes of a cluster as MLflow names it, `node/value`.

    Args:
        found: By the name of the node.
    """
    values = {
        f"{node.replace('/', '_')}/{name}": of_node[name]
        for node, of_node in sorted(found.items())[:MOST_NODES]
        for name in _OF_NODES
        if name in of_node
    }
    for name in _OF_NODES:
        known = [of_node[name] for of_node in found.values() if name in of_node]
        if known:
            values[f"nodes/{name}"] = round(statistics.fmean(known), 2)
    return values


def _sample(
    usage: Usage, nodes: Callable[[], OfNodes], recorder: Recorder, stop: threading.Event
) -> None:
    begun = time.monotonic()
    while not stop.wait(max(FIRST_INTERVAL_S, (time.monotonic() - begun) / N_SAMPLES)):
        _record(usage, nodes(), recorder)


def _record(usage: Usage, nodes: OfNodes, recorder: Recorder) -> None:
    try:
        values = usage.read()
    except UNREADABLE:
        _log.exception("The machine could not be sampled.")
        return
    try:
        recorder.record(MachineSampled(values=values | of_nodes(nodes)))
    except OSError:
        _log.exception("A sample of the machine could not be written.")
