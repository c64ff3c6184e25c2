"""What a target says of itself when the channel to it is opened."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

from mlflow_automl_remote.errors import ConnectionLost

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.control import Control


MEMORY_PER_ITERATION_BYTES: Final = 512 * 1024**2
"""What an iteration of a middling table takes beside what it shares with the agent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A target, as its helper sees it.

    Attributes:
        label: The machine, as a person would name it.
        python: Version of the interpreter that runs the helper.
        executable: Its path.
        home: Home of the account.
        boot_id: Names the current boot of its kernel.
        n_cores: That the account may use.
        memory_bytes: Physical memory.
        system: Such as "Linux".
        machine: Such as "x86_64".
        libc: Name and version of the C library, such as "glibc-2.36".
        image: Id of the image, where it is a container.
    """

    label: str
    python: tuple[int, ...]
    executable: str
    home: str
    boot_id: str
    n_cores: int
    memory_bytes: int
    system: str
    machine: str
    libc: str
    image: str = ""

    @classmethod
    def ask(cls, control: Control, label: str) -> Self:
        """Ask the helper.

        Raises:
            ConnectionLost: The answer makes no sense.
        """
        reply = control.request("hello")[0]
        try:
            return cls(
                label=label,
                python=tuple(int(part) for part in reply["python"]),
                executable=str(reply["executable"]),
                home=str(reply["home"]),
                boot_id=str(reply["boot_id"]),
                n_cores=int(reply["n_cores"]),
                memory_bytes=int(reply["memory_bytes"]),
                system=str(reply["system"]),
                machine=str(reply["machine"]),
                libc=str(reply["libc"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionLost(
                f"{label} described itself in an unknown way: {error}."
            ) from error

    def within(self, memory_gib: float | None, n_cores: int | None) -> Self:
        """Give what a container with these limits has of it; None is no limit."""
        return replace(
            self,
            n_cores=min(self.n_cores, n_cores or self.n_cores),
            memory_bytes=int(min(self.memory_bytes, (memory_gib or math.inf) * 2**30)),
        )

    @property
    def max_concurrent(self) -> int:
        """How many iterations its cores and memory can carry at a time; at least one."""
        return max(1, min(self.n_cores, self.memory_bytes // MEMORY_PER_ITERATION_BYTES))

    @property
    def runs_our_binaries(self) -> bool:
        """Whether a program of the client's machine runs there, as far as its platform says."""
        ours = (platform.system(), platform.machine(), platform.libc_ver()[0])
        return ours == (self.system, self.machine, self.libc.partition("-")[0])

    def describe(self) -> str:
        """Say in a line what it is."""
        return (
            f"{self.system} {self.machine}, {self.n_cores} cores, "
            f"{self.memory_bytes / 2**30:.1f} GiB of memory, "
            f"Python {'.'.join(map(str, self.python))}"
        )
