"""Keys of created machines: one lets their user in, one is their SSH server's."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """An ed25519 key in OpenSSH's formats.

    Attributes:
        private: The whole file.
        public: `ssh-ed25519 BASE64`.
    """

    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


def make_key() -> KeyPair:
    """Make a new key."""
    key = Ed25519PrivateKey.generate()
    return KeyPair(
        private=key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
        public=key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    )


def public_half(private: str) -> str:
    """Give `ssh-ed25519 BASE64` of a private key in OpenSSH's format."""
    key = load_ssh_private_key(private.encode(), None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
