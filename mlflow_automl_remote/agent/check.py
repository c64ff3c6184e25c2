"""Looks the data of a project over on the target, for `automl-remote check`; no sweep is begun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pydantic import TypeAdapter

from mlflow_automl_remote.agent.lifecycle import write_aside
from mlflow_automl_remote.automl.data_script import DataSummary, load_data, summarize
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

RESULT = "check.json"
"""Of the workspace: `{"summary": ...}`, or `{"error": "..."}` for data that cannot be used."""


def main(workspace: Path) -> int:
    """Load and check the data of a workspace, and write down what came out."""
    config = AutoMLConfig.from_json((workspace / "settings.json").read_bytes())
    project = workspace / "project"
    os.chdir(project)
    try:
        summary = summarize(load_data(config, project))
        result = {"summary": TypeAdapter(DataSummary).dump_python(summary, mode="json")}
    except DataError as error:
        result = {"error": str(error)}
    write_aside(workspace / RESULT, json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
