"""Secrets of a login. They go to the SSH library alone: into no argv, log, tag or target."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

PASSWORD_VARIABLE: Final = "AUTOML_REMOTE_PASSWORD"  # noqa: S105 - a name, no secret
PASSPHRASE_VARIABLE: Final = "AUTOML_REMOTE_KEY_PASSPHRASE"  # noqa: S105 - a name, no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a login may need beside keys; shows nothing of it when printed.

    Attributes:
        password: Of the account; None when there is none.
        passphrase: Of encrypted key files; None when there is none.
    """

    password: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls) -> Credentials:
        """Read them from the variables that may hold them."""
        return cls(
            password=os.environ.get(PASSWORD_VARIABLE),
            passphrase=os.environ.get(PASSPHRASE_VARIABLE),
        )

    def or_else(self, other: Credentials) -> Credentials:
        """Fill in what is missing from others."""
        return Credentials(
            password=other.password if self.password is None else self.password,
            passphrase=other.passphrase if self.passphrase is None else self.passphrase,
        )
