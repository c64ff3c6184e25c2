"""Where this package keeps what is its user's on the client: saved targets and host keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

CONFIG_VARIABLE: Final = "AUTOML_REMOTE_CONFIG_DIR"
"""Names another folder than the platform's own."""


def config_folder() -> Path:
    """Return the folder, which need not be there: `~/.config/automl-remote` on Linux."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else Path(click.get_app_dir("automl-remote"))


def own_known_hosts() -> Path:
    """Return our own file of host keys, which is read beside OpenSSH's."""
    return config_folder() / "known_hosts"
