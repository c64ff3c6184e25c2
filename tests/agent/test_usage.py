"""What the machines are doing while a sweep runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_automl_remote.agent.sampling import MOST_NODES, of_nodes, sampled
from mlflow_automl_remote.automl.usage import Usage


def test_a_sample_has_the_values_of_this_machine(tmp_path: Path) -> None:
    """Under the names that MLflow's own monitor uses; percentages are between 0 and 100."""
    usage = Usage(tmp_path)
    sum(range(200_000))
    values = usage.read()
    names = {
        *("cpu_utilization_percentage", "disk_usage_percentage", "disk_usage_megabytes"),
        *("system_memory_usage_percentage", "system_memory_usage_megabytes"),
        *("network_receive_megabytes", "network_transmit_megabytes", "disk_available_megabytes"),
    }
    assert names <= set(values)
    for name in names:
        limit = 100 if name.endswith("percentage") else float("inf")
        assert 0 <= values[name] <= limit
    assert values["system_memory_usage_megabytes"] > 10


def test_a_machine_that_cannot_be_read_costs_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """The sweep goes on without samples."""

    def unreadable(*_: object) -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(Usage, "__init__", unreadable)
    with sampled(None, tmp_path, dict):
        pass


def test_nodes_of_a_cluster_have_values_of_their_own_up_to_a_number(tmp_path: Path) -> None:
    """What counts of each, and the mean of all, however many there are."""
    busy = {
        f"10.0.0/{n:03d}": {"cpu_utilization_percentage": float(n), "x": 1.0} for n in range(50)
    }
    values = of_nodes(busy)
    assert len(values) == MOST_NODES + 1
    assert values["10.0.0_007/cpu_utilization_percentage"] == 7.0
    assert values["nodes/cpu_utilization_percentage"] == 24.5
    assert of_nodes({}) == {}
