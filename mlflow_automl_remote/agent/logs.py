"""What the agent writes to its logs, as the settings say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow_automl_remote.config import AutoMLConfig

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PACKAGE: Final = "mlflow_automl_remote"


def set_up_logs(config: AutoMLConfig, workspace: Path) -> None:
    """Write what `verbosity` lets through to the log, and all of ours to `debug_log` if asked."""
    for handler in logging.getLogger().handlers:
        handler.setLevel(config.verbosity)
    if config.debug_log is not None:
        everything = logging.FileHandler(workspace / config.debug_log)
        everything.setFormatter(logging.Formatter(LOG_FORMAT))
        logging.getLogger(_PACKAGE).setLevel(logging.DEBUG)
        logging.getLogger(_PACKAGE).addHandler(everything)
    elif config.verbosity == "DEBUG":
        logging.getLogger(_PACKAGE).setLevel(logging.DEBUG)
