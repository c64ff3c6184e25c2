"""How the helper lets a job be started again when the machine boots: by systemd, or by cron."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH111, PTH118

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper import files, processes
from mlflow_automl_remote.compute.helper.wire import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_automl_remote.compute.helper.wire import Header

LIMIT_S = 20.0
UNITS = "~/.config/systemd/user"
UNIT = """[Unit]
Description=Goes on with an AutoML sweep after a reboot

[Service]
ExecStart=/bin/sh {}

[Install]
WantedBy=default.target
"""


def install(request: Header) -> str:
    """See to it that a job is started at each boot until that is taken back; give what does it.

    Raises:
        Refused: The machine has neither a systemd of the account's own nor a crontab.
    """
    script = os.path.join(request["cwd"], "boot.sh")
    environment = processes.chosen_environment(request["keep"], request["env"])
    pairs = [f"{name}={value}" for name, value in sorted(environment.items())]
    command = shlex.join(["exec", "env", "-i", *pairs, *request["argv"]])
    log = shlex.quote(request["log"])
    text = "cd {} || exit\n[ -e published ] && exit\n{} >>{} 2>&1 </dev/null\n"
    content = text.format(shlex.quote(request["cwd"]), command, log)
    files.put(script, content.encode("utf-8", "surrogateescape"), 0o700)
    remove(request["name"])
    if _works(["systemctl", "--user", "show-environment"]) and _works(
        ["loginctl", "enable-linger"]
    ):
        unit = _unit(request["name"])
        files.put(os.path.expanduser(f"{UNITS}/{unit}"), _unit_text(script).encode(), 0o600)
        if _works(["systemctl", "--user", "enable", unit]):
            return "systemd"
    if shutil.which("crontab"):
        line = f"@reboot /bin/sh {_cron_quoted(script)} {_mark(request['name'])}"
        if _write_crontab([*_crontab(), line]):
            return "cron"
    raise Refused("neither systemd nor cron can start a job of this account at boot")


def remove(name: str) -> None:
    """Take back what `install` did; nothing happens where it did nothing."""
    unit = _unit(name)
    place = os.path.expanduser(f"{UNITS}/{unit}")
    if os.path.exists(place):  # noqa: PTH110 - as above
        _works(["systemctl", "--user", "disable", unit])
        files.remove(place)
    if shutil.which("crontab"):
        try:
            lines = _crontab()
        except Refused:
            return
        others = [line for line in lines if not line.endswith(_mark(name))]
        if others != lines:
            _write_crontab(others)


def _unit(name: str) -> str:
    return f"automl-remote-{name}.service"


def _unit_text(script: str) -> str:
    quoted = script.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return UNIT.format(f'"{quoted}"')


def _mark(name: str) -> str:
    return f"# automl-remote {name}"


def _cron_quoted(path: str) -> str:
    """Quote a path for sh, and `%` for cron, which takes it for the end of the command."""
    return shlex.quote(path).replace("%", "\\%")


def _run(argv: Sequence[str], told: bytes = b"") -> subprocess.CompletedProcess[bytes] | None:
    """Run a program of the machine's; nothing for one that is not there or does not answer."""
    try:
        return subprocess.run(
            list(argv), input=told, capture_output=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _works(argv: Sequence[str], told: bytes = b"") -> bool:
    done = _run(argv, told)
    return done is not None and done.returncode == 0


def _crontab() -> list[str]:
    """Give the lines of the account's crontab.

    Raises:
        Refused: They cannot be read; so they must not be written either.
    """
    done = _run(["crontab", "-l"])
    if done is not None and done.returncode == 0:
        return done.stdout.decode("utf-8", "surrogateescape").splitlines()
    if done is None or b"no crontab" not in done.stderr.lower():
        raise Refused("the crontab of this account cannot be read")
    return []


def _write_crontab(lines: Sequence[str]) -> bool:
    text = "".join(f"{line}\n" for line in lines)
    return _works(["crontab", "-"], text.encode("utf-8", "surrogateescape"))
