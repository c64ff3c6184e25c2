"""What recording, isolation and MLflow cost: the digits sweep beside a bare loop of the same fits.

    python benchmarks/overhead.py [--rounds 3] [--ssh] [--charts]

Each round times, one after the other and each as a whole process: the bare loop (bare_loop.py),
the sweep on this machine, and with --ssh the sweep on a loopback sshd whose environment is warm.
Explaining the best model, ensembles and charts are left out, since the loop does not have them;
with --charts each iteration draws its charts. A sweep before the rounds makes the tracking store
and gives the pipelines.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
import mlflow.sklearn
from sklearn.base import clone

from mlflow_automl_remote.automl.machine import n_cores

REPOSITORY = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
N_ITERATIONS = 20
ALIKE = [
    *("--model-explainability", "false"),
    *("--enable-voting-ensemble", "false"),
    *("--enable-stack-ensemble", "false"),
    *("--charts", "none"),
]
"""What the bare loop does not do either."""


def write_pipelines(folder: Path) -> None:
    """Pickle, unfitted, the pipelines of a sweep that has just been published."""
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    children = [
        run
        for run in mlflow.MlflowClient(uri).search_runs(["0"], max_results=200)
        if "automl_remote.iteration" in run.data.tags
    ]
    children.sort(key=lambda run: int(run.data.tags["automl_remote.iteration"]))
    models = [run.outputs.model_outputs[0].model_id for run in children]
    built = [clone(mlflow.sklearn.load_model(f"models:/{model_id}")) for model_id in models]
    (folder / "pipelines.pickle").write_bytes(pickle.dumps(built))


def timed(argv: list[str | Path], folder: Path) -> float:
    """Give the seconds that a command takes as a whole process."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    began = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in argv], env=environment, cwd=folder, capture_output=True, text=True
    )
    if done.returncode != 0:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began


def sweep(folder: Path, *options: str | Path) -> float:
    """Time `automl-remote sweep`."""
    command = [BIN / "automl-remote", "sweep", "--settings", REPOSITORY / "automl.yaml"]
    return timed([*command, *ALIKE, *options], folder)


def parts(folder: Path) -> str:
    """Say what an iteration took beside fitting and predicting, from the last sweep's runs."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = [
        run.data.metrics
        for run in client.search_runs(["0"], max_results=200)
        if "duration_s" in run.data.metrics
    ]
    beside = [run["duration_s"] - run["fit_time_s"] - run["predict_time_s"] for run in runs]
    return f"{statistics.mean(beside):.2f} s mean, {max(beside):.2f} s most"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ssh", action="store_true")
    parser.add_argument("--charts", action="store_true")
    asked = parser.parse_args()
    if asked.charts:
        ALIKE[-1] = "all"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep(folder)
        write_pipelines(folder)
        if asked.ssh:
            sys.path.insert(0, str(REPOSITORY / "tests"))
            from sshd import running_sshd

            with running_sshd(folder / "vm") as server:
                (folder / "vm.json").write_text(json.dumps(server.config()))
                sweep(folder, "--backend-config", "vm.json", "--iterations", "1")
                measure(folder, asked.rounds, with_ssh=True)
        else:
            measure(folder, asked.rounds, with_ssh=False)


def measure(folder: Path, n_rounds: int, *, with_ssh: bool) -> None:
    """Run the rounds and print medians and ratios."""
    bare_argv = [sys.executable, REPOSITORY / "benchmarks/bare_loop.py", "pipelines.pickle"]
    rows: dict[str, list[float]] = {"bare": [], "local": []} | ({"ssh": []} if with_ssh else {})
    for _ in range(n_rounds):
        rows["bare"].append(timed([*bare_argv, str(n_cores())], folder))
        rows["local"].append(sweep(folder))
        if with_ssh:
            rows["ssh"].append(sweep(folder, "--backend-config", "vm.json"))
        print("  ".join(f"{key} {values[-1]:.1f} s" for key, values in rows.items()), flush=True)
    bare = statistics.median(rows["bare"])
    for key, values in rows.items():
        middle = statistics.median(values)
        ratios = [value / base for value, base in zip(values, rows["bare"], strict=True)]
        print(
            f"{key:6} median {middle:6.1f} s   ratio {statistics.median(ratios):.2f}   "
            f"beside the loop {(middle - bare) / N_ITERATIONS:.2f} s per iteration"
        )
    print(f"an iteration beside fit and predict: {parts(folder)}")


if __name__ == "__main__":
    main()
