"""Writes `settings.md` from the settings themselves: `python docs/generate_settings.py`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from pydantic_core import PydanticUndefined

from mlflow_automl_remote.config import METRICS, MODELS, AutoMLConfig
from mlflow_automl_remote.config.catalogue import BINARY_METRICS, SCORERS
from mlflow_automl_remote.config.names import RENAMED, RENAMED_MODELS, WITHOUT_MEANING
from mlflow_automl_remote.config.promotion import Gates, Promotion

PAGE: Final = Path(__file__).with_name("settings.md")

_LIMITS: Final = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_HEAD: Final = """# Settings

<!-- Made by docs/generate_settings.py; edit the descriptions in mlflow_automl_remote/config. -->

Settings are `name: value` lines of a YAML file, `--name value` on the command line, or keyword
arguments in Python. All but `task` have a default.

| setting | value | default | what it does |
| --- | --- | --- | --- |
"""


def page() -> str:
    """Make the whole page."""
    rows = [_row(name, field) for name, field in AutoMLConfig.model_fields.items()]
    parts = [
        _HEAD + "\n".join(rows),
        _promotion(),
        _metrics(),
        _models(),
        _renamed(),
        _without_meaning(),
    ]
    return "\n\n".join(parts) + "\n"


def _row(name: str, field: Any) -> str:
    default = field.default
    if default is PydanticUndefined:
        shown = "required"
    elif default in (None, (), "", {}):
        shown = ""
    else:
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return _line(f"`{name}`", _kind(field), shown, field.description)


def _kind(field: Any) -> str:
    """Say what a value may be: its type and its limits."""
    text = str(field.annotation).replace("typing.", "")
    if isinstance(field.annotation, type) and "[" not in text:
        text = field.annotation.__name__
    words = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "`"), text)
    words = words.replace(" | None", "")
    words = re.sub(r"Union\[bool, (.*)\]", r"true, false, \1", words)
    names = {"int": "whole number", "float": "number", "str": "text", "bool": "true, false"}
    if "dict[" in words:
        words = "`auto`, `off`, or {column: kind}"
    if words.endswith(".Promotion"):
        words = "see below"
    if "Mapping[" in words:
        words = "{metric: number}"
    if words.startswith("tuple[str"):
        words = "names"
    elif words.startswith("tuple"):
        words = "pairs of lists of rows"
    bounds = [
        f"{said} {getattr(limit, name)}"
        for limit in field.metadata
        for name, said in _LIMITS.items()
        if hasattr(limit, name)
    ]
    return ", ".join([names.get(words, words), *bounds])


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _promotion() -> str:
    """List what `promote` holds, its gates among it."""
    rows = [
        _row(f"{prefix}{name}", field)
        for prefix, fields in (("", Promotion.model_fields), ("gates.", Gates.model_fields))
        for name, field in fields.items()
        if name != "gates"
    ]
    head = "## promote\n\nSee [Promotion](promotion.md).\n\n"
    return (
        head
        + "| key | value | default | what it does |\n| --- | --- | --- | --- |\n"
        + ("\n".join(rows))
    )


def _metrics() -> str:
    lists = [
        f"- {task}: {', '.join(f'`{one}`' for one in names)}" for task, names in METRICS.items()
    ]
    binary = ", ".join(f"`{one}`" for one in BINARY_METRICS)
    lists.append(f"- classification with `positive_label`, also: {binary}")
    scorers = [
        f"- {task}: {', '.join(f'`{one}`' for one in names)}" for task, names in SCORERS.items()
    ]
    note = "Scorers of scikit-learn, recorded if one is the `primary_metric`; greater is better:"
    return "\n".join(["## Metrics", "", *lists, "", note, "", *scorers])


def _models() -> str:
    lists = [
        f"- {task}: {', '.join(f'`{one}`' for one in names)}" for task, names in MODELS.items()
    ]
    return "## Models\n\n" + "\n".join(lists)


def _renamed() -> str:
    rows = [
        _line(f"`{old}`", f"`{now.name}`", f"{now.factor:g}" if now.factor != 1 else "")
        for old, now in RENAMED.items()
    ] + [_line(f"model `{old}`", f"model `{now}`", "") for old, now in RENAMED_MODELS.items()]
    head = "## Names of earlier\n\nThey are accepted, with a notice.\n\n"
    return head + "| given | taken as | times |\n| --- | --- | --- |\n" + "\n".join(rows)


def _without_meaning() -> str:
    rows = [_line(f"`{name}`", reason) for name, reason in WITHOUT_MEANING.items()]
    head = "## Names without a meaning here\n\nThey are refused, with this reason.\n\n"
    return head + "| given | why |\n| --- | --- |\n" + "\n".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
