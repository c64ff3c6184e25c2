"""How busy this machine is, under the names that MLflow's UI knows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

_GPU_QUERY: Final = (
    "--query-gpu=utilization.gpu,memory.used,memory.total",
    "--format=csv,noheader,nounits",
)
_GPU_LIMIT_S: Final = 5.0
_MEGABYTE: Final = 1_000_000
UNREADABLE: Final = (OSError, LookupError, ValueError, ArithmeticError)
"""What a kernel or container with other counters comes to."""


class Usage:
    """Reads the counters of this machine; rates are since the reading before.

    Args:
        folder: Whose disk is looked at.
        proc: Where the kernel's counters are.
    """

    def __init__(self, folder: Path, proc: Path = Path("/proc")) -> None:
        self._folder = folder
        self._proc = proc
        self._nvidia_smi = shutil.which("nvidia-smi")
        self._busy, self._total = self._ticks()
        self._received, self._sent = self._network()

    def read(self) -> dict[str, float]:
        """Give all values by name."""
        busy, total = self._ticks()
        received, sent = self._network()
        share = (busy - self._busy) / (total - self._total) if total > self._total else 0.0
        memory = self._memory()
        disk = shutil.disk_usage(self._folder)
        used = memory["MemTotal"] - memory["MemAvailable"]
        values = {
            "cpu_utilization_percentage": 100 * share,
            "system_memory_usage_megabytes": used * 1024 / _MEGABYTE,
            "system_memory_usage_percentage": 100 * used / memory["MemTotal"],
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
            "disk_usage_percentage": 100 * disk.used / disk.total,
            "network_receive_megabytes": (received - self._received) / _MEGABYTE,
            "network_transmit_megabytes": (sent - self._sent) / _MEGABYTE,
        }
        self._busy, self._total = busy, total
        return {name: round(value, 2) for name, value in (values | self._gpus()).items()}

    def _ticks(self) -> tuple[int, int]:
        """Give the ticks in which processors were busy, and all, since the machine was started."""
        line = (self._proc / "stat").read_text(encoding="ascii").splitlines()[0]
        ticks = [int(word) for word in line.split()[1:9]]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks)

    def _memory(self) -> dict[str, int]:
        lines = (self._proc / "meminfo").read_text(encoding="ascii").splitlines()
        return {line.split(":")[0]: int(line.split()[1]) for line in lines}

    def _network(self) -> tuple[int, int]:
        """Give the bytes that came in and went out since the machine was started."""
        lines = (self._proc / "net" / "dev").read_text(encoding="ascii").splitlines()[2:]
        parts = [line.split(":") for line in lines]
        counted = [numbers.split() for name, numbers in parts if name.strip() != "lo"]
        return sum(int(each[0]) for each in counted), sum(int(each[8]) for each in counted)

    def _gpus(self) -> dict[str, float]:
        if self._nvidia_smi is None:
            return {}
        try:
            answer = subprocess.run(
                [self._nvidia_smi, *_GPU_QUERY],
                capture_output=True,
                text=True,
                timeout=_GPU_LIMIT_S,
                check=True,
            )
            lines = answer.stdout.splitlines()
            rows = [[float(word) for word in line.split(",")] for line in lines]
        except (OSError, ValueError, subprocess.SubprocessError):
            self._nvidia_smi = None  # a driver that does not answer now is not asked again
            return {}
        found: dict[str, float] = {}
        for number, (busy, used, total) in enumerate(rows):
            found[f"gpu_{number}_utilization_percentage"] = busy
            found[f"gpu_{number}_memory_usage_megabytes"] = used
            found[f"gpu_{number}_memory_usage_percentage"] = 100 * used / total
        return found
