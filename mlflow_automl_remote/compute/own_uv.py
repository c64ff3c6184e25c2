"""The uv program that was installed with this package, and what it says of itself."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Final

from mlflow_automl_remote.compute.recipe import DIGEST_LENGTH

HELP_S: Final = 10.0


def uv_digest() -> str:
    """Name the client's own uv by what it is; empty where there is none."""
    program = find_uv()
    if program is None:
        return ""
    return hashlib.sha256(program.read_bytes()).hexdigest()[:DIGEST_LENGTH]


def default_index() -> str:
    """Give the address of the package index that uv uses where none is chosen, as its help says.

    Empty where there is no uv, or where its help says it no longer.
    """
    program = find_uv()
    if program is None:
        return ""
    done = subprocess.run(
        [str(program), "pip", "install", "--help", "--color", "never"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HELP_S,
        check=False,
    )
    found = re.search(
        r"--default-index.*?by default:\s*<(https?://[^>\s]+)>", done.stdout, re.DOTALL
    )
    return "" if found is None else found[1]


def find_uv() -> Path | None:
    """Find the uv program that was installed with this package."""
    try:
        from uv import find_uv_bin
    except ImportError:
        return None
    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        return None
