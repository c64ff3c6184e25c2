"""The command with which a created machine learns when it is to switch itself off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.providers import watch
from mlflow_automl_remote.providers.base import MachineOrder

PROGRAM: Final = "/usr/local/lib/automl-remote/watch.py"
UNIT: Final = "automl-remote-watch.service"
_ACCOUNT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")  # is a word of a unit's shell


def watch_program() -> str:
    """Read the program that ends when a machine is to be switched off."""
    return Path(watch.__file__).read_text(encoding="utf-8")


def watch_argv(program: str, account: str, order: MachineOrder) -> list[str]:
    """Give the command that runs it, for a machine that has it as the file `program`."""
    argv = ["python3", program, "--account", account]
    if order.ttl_hours:
        argv += ["--ttl-hours", f"{order.ttl_hours:g}"]
    if order.idle_minutes:
        argv += ["--idle-minutes", f"{order.idle_minutes:g}"]
    return argv


def watch_unit(order: MachineOrder, account: str) -> Mapping[str, object]:
    """Give what cloud-init has to do for it: a unit of systemd; nothing where not wished for.

    Raises:
        ConfigurationError: The account has a name that no account has.
    """
    if not order.ends_itself:
        return {}
    if not _ACCOUNT.fullmatch(account):
        raise ConfigurationError(f"The option 'user' must be an account's name. Got {account!r}.")
    command = " ".join(watch_argv(PROGRAM, account, order))
    unit = f"""[Unit]
Description=Switches this machine off when it is not needed any more
[Service]
ExecStart=/bin/sh -c '{command} && exec systemctl poweroff'
Restart=on-failure
RestartSec=10
[Install]
WantedBy=multi-user.target
"""
    return {
        "write_files": [
            {"path": PROGRAM, "content": watch_program()},
            {"path": f"/etc/systemd/system/{UNIT}", "content": unit},
        ],
        "runcmd": [["systemctl", "enable", "--now", UNIT]],
    }
