"""Host certificates of OpenSSH: what one says, and whether it vouches for a host.

The format is that of OpenSSH's PROTOCOL.certkeys; OpenSSH's own rules decide what is accepted.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mlflow_automl_remote.compute.host_keys import CERTIFIED, HostKey, KnownHost, fits
from mlflow_automl_remote.errors import HostKeyNotVerifiable

HOST_CERTIFICATE: Final = 2
PUBLIC_FIELDS: Final = {"ssh-ed25519": 1, "ssh-rsa": 2}
"""How many strings make up a public key after its type; two for ECDSA: curve and point."""

Signed = Callable[[HostKey, bytes, bytes], bool]
"""Whether a key has signed some bytes; given the key, the bytes and the signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says.

    Attributes:
        key: The key that it is for, without it.
        kind: 2 for a host.
        principals: Patterns of host names; none means all.
        valid_after: Seconds since 1970, and so is `valid_before`.
        critical: Options that whoever does not know them must refuse.
        authority: The key that has signed it.
        signed: The bytes that were signed.
        signature: As the authority made it.
    """

    key: HostKey
    kind: int
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical: bytes
    authority: HostKey
    signed: bytes
    signature: bytes


class _Reader:
    """Reads the wire format of SSH.

    Raises:
        ValueError: There is less than a length promises.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        return int(struct.unpack(form, self.take(size))[0])

    def string(self) -> bytes:
        return self.take(self.number(">I"))

    def take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("it is cut off")
        self.at += size
        return part


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def parse(blob: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        ValueError: It is not one.
    """
    reader = _Reader(blob)
    kind_name = reader.string().decode("ascii")
    key_type = kind_name.removesuffix(CERTIFIED)
    if key_type == kind_name:
        raise ValueError(f"{kind_name!r} is not a kind of certificate")
    reader.string()  # a nonce
    public = [reader.string() for _ in range(PUBLIC_FIELDS.get(key_type, 2))]
    reader.number(">Q")  # a serial number
    kind = reader.number(">I")
    reader.string()  # a name for logs
    principals = _strings(reader.string())
    after, before = reader.number(">Q"), reader.number(">Q")
    critical = reader.string()
    reader.string()  # extensions
    reader.string()  # what is reserved
    authority = reader.string()
    signed = blob[: reader.at]
    return Certificate(
        key=HostKey(
            key_type=key_type,
            blob=b"".join(map(_string, (key_type.encode("ascii"), *public))),
        ),
        kind=kind,
        principals=principals,
        valid_after=after,
        valid_before=before,
        critical=critical,
        authority=HostKey(
            key_type=_Reader(authority).string().decode("ascii"),
            blob=authority,
        ),
        signed=signed,
        signature=reader.string(),
    )


def _strings(data: bytes) -> tuple[str, ...]:
    reader, found = _Reader(data), []
    while reader.at < len(data):
        found.append(reader.string().decode("utf-8", "replace"))
    return tuple(found)


def verify(
    blob: bytes,
    known: KnownHost,
    host: str,
    signed: Signed,
    now_s: Callable[[], float] = time.time,
) -> None:
    """Accept the certificate that a host showed, or the key in it.

    A certificate of an authority that the files do not trust is as good as none, so that the key
    itself is looked up.

    Args:
        blob: The certificate.
        known: What the known_hosts files say of the host.
        host: Its name without the port, which is what certificates are made out to.
        signed: Verifies a signature.
        now_s: The clock, in seconds since 1970.

    Raises:
        HostKeyNotVerifiable: It is from an authority that is trusted, and still not acceptable.
    """
    try:
        certificate = parse(blob)
    except (ValueError, UnicodeDecodeError) as error:
        raise HostKeyNotVerifiable(
            f"{known.name} showed a damaged host certificate: {error}.", fingerprint=""
        ) from error
    known.refuse_revoked(certificate.key)
    known.refuse_revoked(certificate.authority)
    if certificate.authority not in known.authorities:
        known.verify(certificate.key)
        return
    reason = _objection(certificate, host, signed, now_s())
    if reason:
        raise HostKeyNotVerifiable(
            f"The host certificate of {known.name} is from an authority that is trusted, but "
            f"{reason}. Its key is {certificate.key.fingerprint}. Let whoever runs the authority "
            f"({certificate.authority.fingerprint}) make it anew.",
            fingerprint=certificate.key.fingerprint,
        )


def _objection(certificate: Certificate, host: str, signed: Signed, now_s: float) -> str:
    """Say why a certificate of a trusted authority is not acceptable, or nothing."""
    names = certificate.principals
    if certificate.kind != HOST_CERTIFICATE:
        return "it is made out to a user and not to a host"
    if certificate.critical:
        return "it has critical options, and none are known"
    if now_s < certificate.valid_after:
        return "it is not valid yet"
    if now_s >= certificate.valid_before:
        return "it has expired"
    if names and not any(fits(host.lower(), name.lower()) for name in names):
        return f"it is made out to {', '.join(names)[:200]!r} and not to {host!r}"
    if not signed(certificate.authority, certificate.signed, certificate.signature):
        return "its signature is wrong"
    return ""
