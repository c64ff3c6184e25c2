"""Self-contained HTML pages: what all of them share. Knows nothing of what they show."""

from __future__ import annotations

import html
import json
from functools import cache
from importlib.resources import files
from typing import Final

_ESCAPES: Final = {ord(each): f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"}
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""
_END: Final = "</body>\n</html>\n"


def document(title: str, style: str, body: str) -> str:
    """Give a page without a script; title and style are its author's, not a target's."""
    return _HEAD.format(title=html.escape(title), style=style) + body + _END


@cache
def frame(package: str, title: str, scripts: tuple[str, ...]) -> tuple[str, str]:
    """Give what comes before the data of an interactive page, and what comes after it.

    Args:
        package: Has `page.css`, `body.html` and the scripts in its folder `static`.
        title: Of the page.
        scripts: Names of files; each uses those before it. They find the data, as text, in the
            element `data`, and what `canvas.js` defines.
    """
    style = _read(__package__, "page.css") + _read(package, "page.css")
    code = [_read(__package__, "canvas.js"), *(_read(package, name) for name in scripts)]
    before = _HEAD.format(title=html.escape(title), style=style) + _read(package, "body.html")
    script = "\n".join(code)
    return (
        f'{before}<script id="data" type="application/json">',
        f"</script>\n<script>\n{script}</script>\n{_END}",
    )


def embedded(content: object) -> str:
    """Write JSON that is safe inside a script element."""
    return safe(json.dumps(content, allow_nan=False, ensure_ascii=False))


def safe(text: str) -> str:
    """Escape JSON: it stays JSON, and no string in it can end the script element around it."""
    return text.translate(_ESCAPES)


def _read(package: str, name: str) -> str:
    return files(package).joinpath("static", name).read_text(encoding="utf-8")
