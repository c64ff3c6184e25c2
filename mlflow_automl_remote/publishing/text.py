"""Makes text that came from a target fit for MLflow: bounded, on one line, with allowed names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, TypeVar

MAX_NAME: Final = 120
MAX_REASON: Final = 1000
MAX_TAG: Final = 5000
MAX_PARAM: Final = 6000
MAX_KEY: Final = 240
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_NOT_IN_KEYS: Final = re.compile(r"[^A-Za-z0-9_\-. ]")

_T = TypeVar("_T")


def printable(text: str) -> str:
    """Replace control characters, and those that turn the direction of text, by spaces."""
    return _UNPRINTABLE.sub(" ", text)


def one_line(text: str, limit: int = MAX_REASON) -> str:
    """Give text without control characters and in at most `limit` characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def key(name: str) -> str:
    """Give a name that MLflow takes for a param or a metric."""
    allowed = _NOT_IN_KEYS.sub("_", name)[:MAX_KEY].strip()
    return f"_{allowed}" if not allowed or allowed.startswith(".") else allowed


def with_keys(values: Mapping[str, _T]) -> dict[str, _T]:
    """Give values under allowed names, no two of which are the same."""
    named: dict[str, _T] = {}
    for name, value in values.items():
        allowed = candidate = key(name)
        n_seen = 1
        while candidate in named:
            n_seen += 1
            candidate = f"{allowed}_{n_seen}"
        named[candidate] = value
    return named


def as_script(content: object) -> str:
    """Write JSON that may stand in a script: no string in it can end it or begin a comment."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def cell(value: object) -> object:
    """Guard text against being read as a formula by a spreadsheet."""
    if not isinstance(value, str):
        return value
    text = printable(value).strip()
    return f"'{text}" if text.startswith(_FORMULA) else text
