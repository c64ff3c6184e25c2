"""Which host keys the known_hosts files vouch for, read as OpenSSH reads them.

paramiko's own reader raises on marked lines, takes patterns for names, and refuses a host with an
old and a new key of one type, so it never sees these files.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlflow_automl_remote.errors import HostKeyNotVerifiable

SIGNATURES: Final = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""The algorithms by which a host can prove that it has a key of a type, in order of preference."""
CERTIFIED: Final = "-cert-v01@openssh.com"
"""What the names of algorithms and types end with where a certificate goes with the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """A public key: its type and the bytes that are compared."""

    key_type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The key as `ssh-keygen -l` shows it: SHA256:..."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """What the files say of one host.

    Attributes:
        name: As known_hosts spells it: `host`, or `[host]:port`.
        keys: The keys it may show.
        revoked: Keys that must not be accepted from any host they are listed for.
        files: The files that were looked at; the first is where a new key belongs.
        authorities: Keys whose certificates are accepted for it.
    """

    name: str
    keys: tuple[HostKey, ...]
    revoked: tuple[HostKey, ...]
    files: tuple[Path, ...]
    authorities: tuple[HostKey, ...] = ()

    def signatures(self) -> tuple[str, ...]:
        """Return the algorithms to ask for, so that the host shows a key that is known."""
        types = {key.key_type for key in self.keys}
        known = [name for kind, names in SIGNATURES.items() if kind in types for name in names]
        every = [name for names in SIGNATURES.values() for name in names]
        certified = [name + CERTIFIED for name in every] if self.authorities else []
        return (*certified, *(known or every))

    def refuse_revoked(self, shown: HostKey) -> None:
        """Refuse a key, of a host or of an authority, that is marked @revoked.

        Raises:
            HostKeyNotVerifiable: It is.
        """
        if shown in self.revoked:
            where = " or ".join(map(str, self.files))
            raise HostKeyNotVerifiable(
                f"The {shown.key_type} host key of {self.name} ({shown.fingerprint}) is marked "
                f"@revoked in {where}. Do not use this machine until it has a new one.",
                fingerprint=shown.fingerprint,
            )

    def verify(self, shown: HostKey) -> None:
        """Accept the key that the host showed.

        Raises:
            HostKeyNotVerifiable: It is revoked, unknown, or not the known one.
        """
        self.refuse_revoked(shown)
        if shown in self.keys:
            return
        if self.keys:
            raise HostKeyNotVerifiable(self._changed(shown), fingerprint=shown.fingerprint)
        body = base64.b64encode(shown.blob).decode("ascii")
        raise HostKeyNotVerifiable(
            self._unknown(shown),
            fingerprint=shown.fingerprint,
            line=f"{self.name} {shown.key_type} {body}",
        )

    def _changed(self, shown: HostKey) -> str:
        where = " or ".join(map(str, self.files))
        known = ", ".join(f"{key.fingerprint} ({key.key_type})" for key in self.keys)
        return (
            f"The host key of {self.name} has changed: it showed {shown.fingerprint} "
            f"({shown.key_type}), but {where} has {known}. Either the machine was made anew or "
            "somebody answers in its place. When its owner confirms the new key, remove the old "
            f"one with: ssh-keygen -R '{self.name}' -f {self.files[0]}"
        )

    def _unknown(self, shown: HostKey) -> str:
        host, _, port = self.name.removeprefix("[").partition("]:")
        option = f"-p {port} " if port else ""
        kind = shown.key_type.removeprefix("ssh-").partition("-")[0]
        authority = " A @cert-authority line covers it, but it has no certificate of that one."
        return (
            f"The host key of {self.name} is not known. It showed {shown.fingerprint} "
            f"({shown.key_type}).{authority if self.authorities else ''} Compare this "
            "fingerprint with the machine's own ('ssh-keygen -l -f /etc/ssh/ssh_host_"
            f"{kind}_key.pub' there); if it is the same, add the key with: "
            f"ssh-keyscan {option}-t {kind} {host} >> {self.files[0]}"
        )


def known_host(host: str, port: int, files: Sequence[Path]) -> KnownHost:
    """Look a host up in known_hosts files; files that are not there are empty."""
    name = host.lower() if port == 22 else f"[{host.lower()}]:{port}"
    found: dict[str, list[HostKey]] = {"": [], "@revoked": [], "@cert-authority": []}
    for marker, patterns, key in _lines(files):
        if marker in found and _matches(name, patterns):
            found[marker].append(key)
    revoked = tuple(found["@revoked"])
    return KnownHost(
        name=name,
        keys=tuple(key for key in dict.fromkeys(found[""]) if key not in revoked),
        revoked=revoked,
        files=tuple(files),
        authorities=tuple(dict.fromkeys(found["@cert-authority"])),
    )


def remember(line: str, file: Path) -> None:
    """Add a line to a known_hosts file; a new one is for this account only."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags, 0o600), "r+b") as known:
        content = known.read()
        before = b"\n" if content and not content.endswith(b"\n") else b""
        known.write(before + line.encode() + b"\n")


def _lines(files: Iterable[Path]) -> Iterator[tuple[str, str, HostKey]]:
    """Give (marker, host patterns, key) of every line that has them; skip all others."""
    for path in files:
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            fields = line.split()
            marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
            if len(fields) >= 3 and not fields[0].startswith("#"):
                try:
                    blob = base64.b64decode(fields[2], validate=True)
                except (binascii.Error, ValueError):
                    continue
                yield marker, fields[0], HostKey(key_type=fields[1], blob=blob)


def _matches(name: str, patterns: str) -> bool:
    if patterns.startswith("|1|"):
        return _matches_hash(name, patterns)
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        if fits(name, pattern.removeprefix("!")):
            if negated:
                return False
            found = True
    return found


def fits(name: str, pattern: str) -> bool:
    """Compare with `*` and `?` only; brackets are part of `[host]:port`, not a set."""
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _matches_hash(name: str, entry: str) -> bool:
    try:
        salt, wanted = (base64.b64decode(part) for part in entry.split("|")[2:4])
    except (ValueError, binascii.Error):
        return False
    # known_hosts is defined with SHA-1; it hides names here and proves nothing
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), wanted)
