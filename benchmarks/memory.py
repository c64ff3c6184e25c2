"""How much memory four iterations at a time take over a table of 1 million rows by 50 columns.

    python benchmarks/memory.py [--rows 1000000] [--iterations 4] [--seconds 200]

Says the peak of the memory of the whole process tree (PSS: pages that processes share count once),
while the data is loaded and while iterations run, as a multiple of the size of the Arrow table.
Every iteration is killed after so many seconds: the peak comes early, with the first fit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlflow_automl_remote.agent.models import load_model, save_model
from mlflow_automl_remote.automl import process_tree
from mlflow_automl_remote.automl.data_script import DataOrder, prepare_data
from mlflow_automl_remote.automl.executor import Call, Finished
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.outcome import Outcome, Silent
from mlflow_automl_remote.automl.sweep import Sweep
from mlflow_automl_remote.automl.template import PRELOAD, Template
from mlflow_automl_remote.config import AutoMLConfig

POLL_S = 0.2
AT_A_TIME = 4
MODELS = (
    *("LogisticRegression", "LightGBM", "SGD", "XGBoost"),
    *("HistGradientBoosting", "CatBoost", "DecisionTree", "BernoulliNaiveBayes"),
)


class Peak:
    """Watches the memory of this process and all of its descendants."""

    def __init__(self) -> None:
        self.bytes = 0
        self.shares: dict[str, tuple[int, int]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(POLL_S):
            pids = ["self", *map(str, process_tree.descendants())]
            shares = {pid: _pss(pid) for pid in pids}
            now = sum(own + mapped for own, mapped in shares.values())
            if now > self.bytes:
                self.bytes, self.shares = now, shares

    def told(self) -> str:
        """Say what was whose at the peak."""
        largest = sorted(self.shares.values(), key=sum, reverse=True)
        each = ", ".join(f"{own / 1e6:,.0f} + {mapped / 1e6:,.0f}" for own, mapped in largest[:6])
        return f"own and mapped memory of the largest processes then, MB: {each}"


def _pss(pid: str) -> tuple[int, int]:
    """Give the bytes that a process has allocated, and its part of mapped files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0  # it has ended
    found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    own = found.get("Pss_Anon:", 0)
    return own, found.get("Pss:", 0) - own


def make(order: tuple[int, Path]) -> int:
    """Write a table of 50 mixed columns and a label; give the bytes that it has in memory."""
    n_rows, path = order
    rng = np.random.default_rng(0)

    def names(stem: str, n_names: int) -> Any:
        chosen = pa.array(rng.integers(0, n_names, n_rows), pa.int32())
        words = pa.array([f"{stem} {number}" for number in range(n_names)])
        return pa.DictionaryArray.from_arrays(chosen, words).cast(pa.string())

    def texts() -> Any:
        said = rng.integers(0, 2_000, (n_rows, 5))
        return pa.array([" ".join(f"w{word}" for word in row) for row in said.tolist()])

    start = np.datetime64("2020-01-01", "s")
    columns: dict[str, Any] = {f"x{n}": rng.normal(size=n_rows) for n in range(25)}
    columns |= {f"count{n}": rng.integers(0, 1_000, n_rows) for n in range(5)}
    columns |= {f"flag{n}": rng.random(n_rows) < 0.5 for n in range(3)}
    columns |= {f"few{n}": names("level", 10) for n in range(5)}
    columns |= {f"many{n}": names("place", 5_000) for n in range(5)}
    columns |= {f"when{n}": start + rng.integers(0, 10**8, n_rows) for n in range(3)}
    columns |= {f"said{n}": texts() for n in range(2)}
    for n in range(2):
        gaps = rng.random(n_rows) < 0.1
        columns[f"gap{n}"] = pa.array(rng.normal(size=n_rows), mask=gaps)
    label = columns["x0"] + columns["x1"] * columns["x2"] + rng.normal(size=n_rows) > 0
    table = pa.table(columns | {"label": label})
    pq.write_table(table, path)
    return int(table.nbytes)


class Told(Silent):
    """Prints how each iteration ended."""

    def on_iteration_end(self, outcome: Outcome) -> None:
        """Print label, state and seconds."""
        seconds = (outcome.ended_at_ms - outcome.started_at_ms) / 1000
        label = f"{outcome.proposal.number} {outcome.proposal.label}"
        print(f"  {label}: {outcome.state} {seconds:.0f} s {outcome.reason}", flush=True)


def _value(finished: Finished) -> Any:
    if finished.value is None:
        sys.exit(finished.reason)
    return finished.value


def measure(arguments: argparse.Namespace, folder: Path) -> Sequence[tuple[str, int]]:
    """Give the size of the table and the two peaks, in bytes."""
    path = folder / "table.parquet"
    config = AutoMLConfig.parse(
        {
            "task": "classification",
            "training_data": str(path),
            "label_column_name": "label",
            "iterations": arguments.iterations,
            "allowed_models": MODELS,
            "iteration_timeout_minutes": arguments.seconds / 60,
            "enable_voting_ensemble": False,
        }
    )
    order = DataOrder(config=config, project=folder, folder=folder / "data")
    # Forked from this process, as an agent does: what is imported, both share.
    with LocalExecutor(
        Template.fork((*PRELOAD, "mlflow_automl_remote.agent.preload"))
    ) as executor:
        made = executor.run(Call(make, (arguments.rows, path), output_dir=folder / "log"))
        n_bytes = _value(made)
        with Peak() as loading:
            _value(executor.run(Call(prepare_data, order, output_dir=folder / "log")))
        with Peak() as searching:
            sweep = Sweep(
                config,
                folder / "data",
                folder / "work",
                executor=executor,
                callback=Told(),
                save_model=save_model,
                load_model=load_model,
            )
            sweep.plan = replace(sweep.plan, n_places=AT_A_TIME, n_threads=1)
            sweep.run()
    print(searching.told())
    return ("table", n_bytes), ("loading", loading.bytes), ("searching", searching.bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--iterations", type=int, default=AT_A_TIME)
    parser.add_argument("--seconds", type=float, default=200.0)
    arguments = parser.parse_args()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    n_bytes = found[0][1]
    for name, size in found:
        print(f"{name}: {size / 1e6:,.0f} MB, {size / n_bytes:.2f} times the table")


if __name__ == "__main__":
    main()
