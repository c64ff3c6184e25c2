"""What `automl-remote check` says of data, in lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data_script import DataSummary

_COLUMN: Final = "{:<40} {:<9} {:>9} {:>10}  {}"
_MAX_COLUMNS: Final = 200


def data_lines(summary: DataSummary) -> list[str]:
    """Describe data that has passed the checks: its size, its columns, what was found."""
    classes = "" if summary.n_classes is None else f", {summary.n_classes} classes"
    lines = [f"{summary.n_rows:,} rows, {summary.n_features:,} columns{classes}"]
    shown = summary.columns[:_MAX_COLUMNS]
    if shown:
        lines.append(_COLUMN.format("COLUMN", "KIND", "MISSING", "DIFFERENT", "LEFT OUT"))
    lines += [
        _COLUMN.format(
            column.name[:40],
            column.kind,
            column.n_missing,
            column.n_unique,
            column.dropped_reason or "",
        ).rstrip()
        for column in shown
    ]
    if len(summary.columns) > len(shown):
        lines.append(f"... and {len(summary.columns) - len(shown):,} more columns")
    lines += [
        f"{finding.severity:<8} {finding.id:<18} "
        + (f"{finding.column}: " if finding.column else "")
        + finding.text
        for finding in summary.findings
    ]
    return [*lines, "The data can be trained on."]
