"""What the user's OpenSSH configuration says of a host, asked of OpenSSH itself (`ssh -G`).

Where there is no `ssh`, paramiko reads the file.
"""

from __future__ import annotations

import logging
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
MAX_INCLUDES: Final = 16
"""Files that include one another, as in OpenSSH."""
DEFAULT_KNOWN_HOSTS: Final = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
DEFAULT_KEYS: Final = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
SYSTEM_KNOWN_HOSTS: Final = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """What OpenSSH would use to reach a host.

    Attributes:
        host: The name or address to connect to.
        user: None when the configuration was not asked.
        key_files: Keys to offer, those that exist.
        known_hosts: The files that vouch for host keys, the user's first.
        host_key_alias: The name under which the host key is known, or None.
        proxy_command: Command whose standard input and output is the connection, or None.
    """

    host: str
    port: int
    user: str | None
    key_files: tuple[Path, ...]
    known_hosts: tuple[Path, ...]
    host_key_alias: str | None
    proxy_command: str | None


def host_settings(
    host: str, user: str | None, port: int | None, proxy_jump: str | None = None
) -> HostSettings:
    """Ask OpenSSH for the settings of a host; without an OpenSSH client, read its file.

    Args:
        host: A name, an address, or an alias of `~/.ssh/config`.
        user: What the caller wants in any case, so that `Match user` and `%r` see it.
        port: The same.
        proxy_jump: The same: hosts to go through, as `ssh -J` takes them.
    """
    answers = _ask(host, user, port)
    if proxy_jump is not None:
        answers = {**answers, "proxyjump": [proxy_jump]}
    key_files = answers.get("identityfile", DEFAULT_KEYS)
    return HostSettings(
        host=answers.get("hostname", [host])[0],
        port=port or int(answers.get("port", ["22"])[0]),
        user=user or answers.get("user", [None])[0],
        key_files=tuple(path for path in map(_path, key_files) if path.is_file()),
        known_hosts=_known_hosts(answers),
        host_key_alias=answers.get("hostkeyalias", [None])[0],
        proxy_command=_proxy_command(answers),
    )


def _proxy_command(answers: Mapping[str, list[str]]) -> str | None:
    """Give the ProxyCommand; a ProxyJump becomes the command that OpenSSH makes of it."""
    *before, last = answers.get("proxyjump", ["none"])[0].split(",")
    if last != "none":
        via = ("-J", ",".join(before)) if before else ()
        jump = ["ssh", *_config_file(), "-o", "BatchMode=yes", *via, "-W", "[%h]:%p"]
        return shlex.join([*jump, f"ssh://{last.removeprefix('ssh://')}"])
    command = answers.get("proxycommand", ["none"])[0]
    return None if command == "none" else command


def _known_hosts(answers: Mapping[str, list[str]]) -> tuple[Path, ...]:
    user = answers.get("userknownhostsfile", [" ".join(DEFAULT_KNOWN_HOSTS)])[0].split()
    system = answers.get("globalknownhostsfile", [" ".join(SYSTEM_KNOWN_HOSTS)])[0].split()
    return tuple(_path(name) for name in (*user, *system) if name not in ("none", "/dev/null"))


def _path(name: str) -> Path:
    """Expand `~`, which OpenSSH may have done already, by the account and not by $HOME."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    return Path(
        f"~/{name.removeprefix(f'{home}/')}" if name.startswith(f"{home}/") else name
    ).expanduser()


def _config_file() -> tuple[str, ...]:
    """Name the configuration file; OpenSSH looks in the account's home, all others in $HOME."""
    file = Path.home() / ".ssh" / "config"
    other_home = Path.home() != Path(pwd.getpwuid(os.getuid()).pw_dir)
    return ("-F", str(file) if file.exists() else os.devnull) if other_home else ()


def _ask(host: str, user: str | None, port: int | None) -> dict[str, list[str]]:
    """Return the lines of `ssh -G`, by keyword in lower case; nothing when it cannot be asked."""
    program = shutil.which("ssh")
    if program is None:
        return _read(host)
    options = [
        *_config_file(),
        *(("-l", user) if user else ()),
        *(("-p", str(port)) if port else ()),
    ]
    try:
        answer = subprocess.run(
            [program, "-G", *options, "--", host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("The OpenSSH configuration of %s was not read: %s", host, error)
        return {}
    answers: dict[str, list[str]] = {}
    for line in answer.splitlines():
        keyword, _, value = line.partition(" ")
        answers.setdefault(keyword.lower(), []).append(value)
    return answers


def _read(host: str) -> dict[str, list[str]]:
    """Read the user's file with paramiko, which knows no Include: that is done here."""
    import paramiko  # takes 0.1 s to import

    text = "\n".join(_lines(Path.home() / ".ssh" / "config", MAX_INCLUDES))
    try:
        found = paramiko.SSHConfig.from_text(text).lookup(host)
    except (paramiko.ssh_exception.ConfigParseError, ValueError, ImportError) as error:
        _log.warning("The OpenSSH configuration of %s was not read: %s", host, error)
        return {}
    return {
        key: [str(each) for each in value] if isinstance(value, list) else [str(value)]
        for key, value in found.items()
    }


def _lines(file: Path, depth: int) -> Iterator[str]:
    """Give the lines of a file and of those that it includes; a missing one has none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() != "include" or depth == 0:
            yield line
            continue
        for name in shlex.split(rest):
            pattern = Path(name).expanduser()
            for path in sorted(Path("/").glob(str(Path.home() / ".ssh" / pattern)[1:])):
                yield from _lines(path, depth - 1)
