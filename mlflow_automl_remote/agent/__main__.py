"""The command that a job runs on the target: `python -m mlflow_automl_remote.agent WORKSPACE`."""

import sys
from pathlib import Path

from mlflow_automl_remote.agent.main import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
