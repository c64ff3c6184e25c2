"""What a provider has to be able to do, whatever it makes machines from."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

Say = Callable[[str], None]
"""Gets a line for a person, for each step of something that takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOrder:
    """What a machine is to be, and how it is known again.

    Attributes:
        name: Of the target.
        token: Names this machine and no other; what is made carries it from the start, so that a
            client that dies in between can find it again.
        owner: Names the user and config folder that it belongs to.
        public_key: Lets its user in, as a line of `authorized_keys`.
        host_key: Private key, in OpenSSH's format, that its SSH server can be given, so that it
            is known from the first packet on.
        ttl_hours: After which it switches itself off; 0 for never.
        idle_minutes: Without use, after which it does so; 0 for never.
    """

    name: str
    token: str
    owner: str
    public_key: str
    host_key: str
    ttl_hours: float = 0.0
    idle_minutes: float = 0.0

    @property
    def ends_itself(self) -> bool:
        """Whether it is to switch itself off at some time."""
        return bool(self.ttl_hours or self.idle_minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeMachine:
    """A machine that a provider made.

    Attributes:
        token: Of its order.
        name: Of its target.
        is_running: Whether it can be connected to.
        host: Where its SSH server listens.
        port: Of its SSH server.
        user: Account on it.
        host_key: Public key of its SSH server, `TYPE BASE64`; empty if it has that of the order.
        size: What it costs by, in words, such as `2 cores, 4 GiB`.
        details: The provider's own.
    """

    token: str
    name: str
    is_running: bool = True
    host: str = ""
    port: int = 22
    user: str = ""
    host_key: str = ""
    size: str = ""
    details: str = ""


class Provider(Protocol):
    """Makes machines. Every method finds machines by their tokens, never by an earlier answer."""

    name: str

    @property
    def options(self) -> Mapping[str, str]:
        """What leads to the same machines from any shell: as given, and what settings added.

        Raises:
            ConfigurationError: Something is neither given nor in any settings.
        """

    def create(self, order: MachineOrder, say: Say) -> MadeMachine:
        """Make a machine and wait until it runs.

        Raises:
            ConfigurationError: An option is missing or wrong; nothing has been made.
            ProviderFailed: It could not be made.
        """

    def find(self, token: str, details: str) -> MadeMachine | None:
        """Give a machine as it is now; None if there is none.

        Args:
            token: Of its order.
            details: What `create` gave, empty if it never ended.
        """

    def start(self, token: str, details: str) -> None:
        """Start a stopped machine and wait until it runs."""

    def stop(self, token: str, details: str) -> None:
        """Stop a machine; its disk stays."""

    def destroy(self, token: str, details: str) -> None:
        """Take a machine away for good; one that is gone already is no error."""

    def mine(self, owner: str) -> tuple[MadeMachine, ...]:
        """List the machines of an owner, also those that nobody remembers."""


def answers(host: str, port: int) -> bool:
    """Whether an SSH server answers there, and not only a proxy before it."""
    try:
        with socket.create_connection((host, port), timeout=1.0) as sock:
            return sock.recv(4) == b"SSH-"
    except OSError:
        return False
