"""Drives a harness that runs AutoML tools on the same tables, and says who won.

    python benchmarks/race.py --harness FILE --data FOLDER [--frameworks ours lgbm_es ...]
        [--tables NAME ...] [--budgets 30 60] [--seeds 0] [--results benchmarks/results]
    python benchmarks/race.py --results benchmarks/results --report

The harness is a script that takes `--framework --dataset --data --budget --seed --out` and adds a
line of JSON to the file named last: `framework`, `dataset`, `budget`, `seed`, `loss` (lower is
better), `wall_s`, `import_s`. It runs our entry, `adapter.py`, as the framework `ours`, which the
environment variables BENCH_OURS and BENCH_OURS_PYTHON name. `constant` is the zero of the regret.
`ours-PART` is our entry without a part of the engine (`ablation.py`); such lines are best kept in
a folder of results of their own.

What has a line in `race.jsonl` already is passed over, so an interrupted run goes on; `--anew
ours` runs it again. Plain boosters do not look at the budget: one line of theirs is for all.
`--run-in COMMAND` goes before each run, to keep other work away. The report is `race.md` and one
picture of ranks per budget.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
LINES = "race.jsonl"
ZERO = "constant"
UNTIMED = frozenset((ZERO, "lgbm_es", "catboost_default"))
"""Take the time that they need: a run at one budget is their run at each."""
N_DRAWS = 2000

Line = Mapping[str, Any]
Key = tuple[str, str, float, int]


@dataclass(frozen=True)
class Standing:
    """How one framework did at one budget, over the tables that all of them ran."""

    framework: str
    rank: float
    interval: tuple[float, float]
    wins: int
    regret: float
    overrun_s: float


def key_of(line: Line) -> Key:
    return (line["framework"], line["dataset"], float(line["budget"]), int(line["seed"]))


def run_of(key: Key) -> tuple[str, str, float | None, int]:
    """Say which run answers a key: of those that do not look at the budget the same for all."""
    framework, table, budget, seed = key
    return framework, table, None if framework in UNTIMED else budget, seed


def read(results: Path) -> dict[Key, Line]:
    """Give the last line of each run that ended with a loss, or where all failed, of those."""
    file = results / LINES
    lines = [json.loads(each) for each in file.read_text().splitlines()] if file.exists() else []
    failed = {key_of(line): {**line, "loss": math.inf} for line in lines if not _is_whole(line)}
    return failed | {key_of(line): line for line in lines if _is_whole(line)}


def _is_whole(line: Line) -> bool:
    return line.get("loss") is not None


def of_budget(lines: Iterable[Line], budget: float) -> list[Line]:
    """Give the lines of one budget, and of those that do not look at it."""
    return [
        {**line, "budget": budget}
        for line in lines
        if float(line["budget"]) == budget or line["framework"] in UNTIMED
    ]


def run(arguments: argparse.Namespace, key: Key) -> None:
    """Have the harness run a framework on a table."""
    framework, table, budget, seed = key
    name, _, part = framework.partition("-")
    entry = "ablation.py" if part else "adapter.py"
    ours = {"BENCH_OURS": str(HERE / entry), "BENCH_OURS_PYTHON": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / LINES
        command = [*arguments.run_in, sys.executable, str(arguments.harness.resolve())]
        command += ["--framework", name, "--dataset", table, "--data", str(arguments.data)]
        command += ["--budget", str(budget), "--seed", str(seed), "--out", str(out)]
        done = subprocess.run(
            command,
            env=ours | os.environ | {"AUTOML_RACE_WITHOUT": part},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(f"{framework} on {table}: {done.stderr[-2000:]}", file=sys.stderr)
        lines = out.read_text().splitlines() if out.exists() else []
    with (arguments.results / LINES).open("a") as file:
        for line in lines:
            file.write(json.dumps({**json.loads(line), "framework": framework}) + "\n")


def standings(lines: Iterable[Line]) -> tuple[list[Standing], int]:
    """Rank the frameworks of one budget over the tables and seeds that all of them ran.

    One that failed on a table is its last. Regret is 0 for the best of a table and 1 for a model
    that always says the same (without one, for the worst). The interval is a bootstrap over
    tables, of 95 %.
    """
    cells: dict[tuple[str, int], dict[str, Line]] = {}
    for line in lines:
        cells.setdefault((line["dataset"], line["seed"]), {})[line["framework"]] = line
    names = sorted({name for cell in cells.values() for name in cell} - {ZERO})
    whole = [cell for cell in cells.values() if set(names) <= set(cell)]
    if not whole or not names:
        return [], 0
    losses = np.array([[cell[name]["loss"] for name in names] for cell in whole])
    best = losses.min(axis=1, keepdims=True)
    worst = [
        cell[ZERO]["loss"] if ZERO in cell else max(row[np.isfinite(row)])
        for cell, row in zip(whole, losses, strict=True)
    ]
    span = np.maximum(np.array(worst)[:, None] - best, 1e-12)
    regrets = np.minimum(1.0, (losses - best) / span)
    ranks = 1 + (losses[:, :, None] > losses[:, None, :]).sum(2) + _ties(losses)
    overruns = [
        max(
            (
                cell[name]["wall_s"] - cell[name].get("import_s", 0) - cell[name]["budget"]
                for cell in whole
                if math.isfinite(cell[name]["loss"])
            ),
            default=math.nan,
        )
        for name in names
    ]
    draws = np.random.default_rng(0).integers(len(whole), size=(N_DRAWS, len(whole)))
    low, high = np.percentile(ranks[draws].mean(axis=1), [2.5, 97.5], axis=0)
    found = [
        Standing(
            framework=name,
            rank=float(ranks[:, at].mean()),
            interval=(float(low[at]), float(high[at])),
            wins=int((losses[:, at] <= best[:, 0]).sum()),
            regret=float(regrets[:, at].mean()),
            overrun_s=float(overruns[at]),
        )
        for at, name in enumerate(names)
    ]
    return sorted(found, key=lambda one: one.rank), len(whole)


def _ties(losses: np.ndarray) -> np.ndarray:
    return ((losses[:, :, None] == losses[:, None, :]).sum(2) - 1) / 2


def report(lines: Sequence[Line], results: Path) -> str:
    """Write `race.md` and the pictures; give the text."""
    parts = []
    for budget in sorted({float(line["budget"]) for line in lines}):
        own = of_budget(lines, budget)
        ranked, n_tables = standings(own)
        if not ranked:
            continue
        parts += [_summary(ranked, n_tables, budget), _losses(own, ranked)]
        _draw(ranked, n_tables, budget, results / f"ranks_{budget:g}s.png")
    text = "\n\n".join(parts) + "\n"
    (results / "race.md").write_text(text, encoding="utf-8")
    return text


def _summary(ranked: Sequence[Standing], n_tables: int, budget: float) -> str:
    rows = [f"## {budget:g} s, {n_tables} tables", ""]
    rows += ["| framework | mean rank (95 %) | wins | mean regret | longest overrun |"]
    rows += ["|" + " --- |" * 5]
    rows += [
        f"| {one.framework} | {one.rank:.2f} ({one.interval[0]:.2f} to {one.interval[1]:.2f}) "
        f"| {one.wins} | {one.regret:.4f} | {one.overrun_s:+.1f} s |"
        for one in ranked
    ]
    return "\n".join(rows)


def _losses(lines: Sequence[Line], ranked: Sequence[Standing]) -> str:
    names = [one.framework for one in ranked]
    found = {(line["dataset"], int(line["seed"]), line["framework"]): line for line in lines}
    metrics = {line["dataset"]: line.get("metric", "") for line in lines}
    rows = [f"| table (loss) | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for table, seed in sorted({(table, seed) for table, seed, _ in found}):
        cells = [found.get((table, seed, name)) for name in names]
        shown = [_shown(cell["loss"]) if cell else "" for cell in cells]
        label = f"{table}, seed {seed}" if seed else table
        rows.append(f"| {label} ({metrics[table]}) | {' | '.join(shown)} |")
    return "\n".join(rows)


def _shown(loss: float) -> str:
    return f"{loss:.5g}" if math.isfinite(loss) else "failed"


def _draw(ranked: Sequence[Standing], n_tables: int, budget: float, path: Path) -> None:
    """Draw mean ranks with their intervals, the best at the top."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.35 * len(ranked)))
    for at, one in enumerate(reversed(ranked)):
        axes.plot(one.interval, (at, at), color="#7a8894", linewidth=2)
        axes.plot(one.rank, at, "o", color="#1f6feb" if one.framework == "ours" else "#444")
    axes.set_yticks(range(len(ranked)), [one.framework for one in reversed(ranked)])
    axes.set_xlabel(f"mean rank over {n_tables} tables at {budget:g} s, and its interval of 95 %")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--harness", type=Path, help="the script that runs one framework")
    parser.add_argument("--data", type=Path, help="folder with INDEX.json and tables")
    parser.add_argument("--frameworks", nargs="+", default=["ours"])
    parser.add_argument("--tables", nargs="+", help="default: all")
    parser.add_argument("--budgets", nargs="+", type=float, default=[30.0], help="seconds")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--anew", nargs="*", default=[], help="frameworks to run again")
    parser.add_argument("--run-in", nargs="*", default=[], help="goes before each run")
    parser.add_argument("--report", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        if arguments.harness is None or arguments.data is None:
            parser.error("--harness and --data are needed to run anything")
        _run_all(arguments)
    print(report(list(read(arguments.results).values()), arguments.results))


def _run_all(arguments: argparse.Namespace) -> None:
    index = json.loads((arguments.data / "INDEX.json").read_text(encoding="utf-8"))
    tables = arguments.tables or [each["name"] for each in index]
    done = {run_of(key) for key in read(arguments.results)}
    for budget in arguments.budgets:
        for seed in arguments.seeds:
            for table in tables:
                for framework in arguments.frameworks:
                    key = (framework, table, float(budget), int(seed))
                    if run_of(key) not in done or framework in arguments.anew:
                        run(arguments, key)


if __name__ == "__main__":
    main()
