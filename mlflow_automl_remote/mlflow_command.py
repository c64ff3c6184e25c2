"""Refuses in one line a backend config that `mlflow run` would answer with a stack trace.

MLflow reads the file of `--backend-config` before it asks any backend, and lets what goes wrong
there fall through. Providers of run context are the plug-ins that it looks for before that. So
this is one, of no context: it looks at the command once, when MLflow is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


class CommandCheck:
    """Ends an `mlflow run --backend automl-remote` whose backend config cannot be read.

    A provider of run context by what it has, not by its base: MLflow, which looks for it while it
    is imported itself, is not imported here.
    """

    def __init__(self) -> None:
        words = run_words(sys.argv, sys.orig_argv)
        if words is not None:
            check(words)

    def in_context(self) -> bool:
        """Give False: it has no tags for any run."""
        return False

    def tags(self) -> dict[str, str]:
        """Give none."""
        return {}


def run_words(argv: Sequence[str], orig_argv: Sequence[str]) -> Sequence[str] | None:
    """Give what follows `mlflow run`, or None where this process is another command.

    Args:
        argv: As `sys.argv`; its first word is `-m` while `python -m mlflow` imports MLflow.
        orig_argv: As `sys.orig_argv`.
    """
    program = Path(argv[0]).stem if argv else ""
    is_module = program == "-m" and "mlflow" in orig_argv[: len(orig_argv) - len(argv) + 1]
    if (program == "mlflow" or is_module) and "run" in argv[1:]:
        return argv[argv.index("run", 1) + 1 :]
    return None


def check(words: Sequence[str]) -> None:
    """End the process with a message if these words of an `mlflow run` have a wrong config."""
    import argparse  # MLflow is imported by much that is no `mlflow run`

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-b", "--backend")
    parser.add_argument("-c", "--backend-config")
    try:
        asked, _ = parser.parse_known_args(list(words))
    except argparse.ArgumentError:
        return  # an option without its value: MLflow says so
    if asked.backend != "automl-remote" or asked.backend_config is None:
        return
    from mlflow_automl_remote.arguments import read_backend_config
    from mlflow_automl_remote.errors import ConfigurationError

    try:
        read_backend_config(asked.backend_config)
    except ConfigurationError as error:
        sys.exit(f"Error: {error}")
