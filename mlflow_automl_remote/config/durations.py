"""Durations as people write them: a number of minutes, or `90s`, `1h30m`, `1.5h`."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(min|s|m|h|d)")


def minutes(text: str) -> float | None:
    """Read a duration with units in minutes; None if it is not one."""
    total_s, at = 0.0, 0
    while at < len(text.rstrip()):
        part = _PART.match(text, at)
        if part is None:
            return None
        total_s += float(part[1]) * _SECONDS[part[2]]
        at = part.end()
    return total_s / 60 if at else None
