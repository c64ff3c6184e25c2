"""How a sweep scales on a Ray cluster, beside Ray's own pool; and what a suggestion costs.

    python benchmarks/scale.py [--workers 1 2 4 8 16 64] [--per-worker 20] [--seconds 2]
    python benchmarks/scale.py --search

Each iteration has a fixed cost: it sleeps, and computes for a share of that which the cores of
this machine can give all workers together. Workers are logical: one node of Ray that counts as
many cores. Efficiency is the time that the iterations would take on so many workers, over the
time that they took. The node's processes are warm, as those of the pool are.

With --search no cluster is made: the sampler is told of so many finished iterations, and asked.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mlflow_automl_remote.automl.components import MODELS
from mlflow_automl_remote.automl.executor import Call, Executor
from mlflow_automl_remote.automl.sampler import Sampler

SHARE = 0.1
"""Of the cores, what the iterations of all workers compute on together."""
FINISHED = (100, 1000, 5000)
N_ASKS = 200


def work(cost: tuple[float, float]) -> None:
    """Compute for some seconds of processor time, and sleep for the rest of some seconds."""
    seconds, busy_s = cost
    begun, used = time.monotonic(), time.process_time()
    while time.process_time() - used < busy_s:
        pass
    time.sleep(max(0.0, seconds - (time.monotonic() - begun)))


def on_executor(executor: Executor, folder: Path, n_workers: int, costs: list[Any]) -> float:
    """Keep so many workers busy, as a sweep does; give the seconds until all have ended."""
    begun = time.monotonic()
    left = [(number, cost) for number, cost in enumerate(costs)]
    running = set()
    while left or running:
        while left and len(running) < n_workers:
            number, cost = left.pop()
            running.add(executor.submit(Call(work, cost, output_dir=folder / str(number))))
        running -= {each.ticket for each in executor.wait_any(tickets=running)}
    return time.monotonic() - begun


def on_pool(n_workers: int, costs: list[Any]) -> float:
    from ray.util.multiprocessing import Pool

    with Pool(n_workers) as pool:
        pool.map(work, [(0.01, 0.0)] * n_workers, chunksize=1)  # all of them are there
        begun = time.monotonic()
        for _ in pool.imap_unordered(work, costs, chunksize=1):
            pass
        return time.monotonic() - begun


def scale(arguments: argparse.Namespace) -> None:
    import ray

    from mlflow_automl_remote.automl.cluster.ray_executor import RayExecutor

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0"}
    most = max(arguments.workers)
    ray.init(
        num_cpus=most,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.2",
    )
    n_cores = len(os.sched_getaffinity(0))
    print("| workers | iterations | executor | pool | ratio |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for n_workers in arguments.workers:
            seconds = arguments.seconds
            busy_s = min(SHARE, SHARE * n_cores / n_workers) * seconds
            costs = [(seconds, busy_s)] * (arguments.per_worker * n_workers)
            ideal_s = len(costs) * seconds / n_workers
            with RayExecutor("auto", Path(folder)) as executor:
                on_executor(executor, Path(folder), n_workers, [(0.01, 0.0)] * n_workers)
                ours = ideal_s / on_executor(executor, Path(folder), n_workers, costs)
            line = f"| {n_workers} | {len(costs)} | {ours:.3f} |"
            if not arguments.no_pool:
                pool = ideal_s / on_pool(n_workers, costs)
                line += f" {pool:.3f} | {ours / pool:.3f} |"
            print(line, flush=True)
    ray.shutdown()


def search() -> None:
    print("| finished iterations | a suggestion, ms | told of one, ms |\n| --- | --- | --- |")
    for n_finished in FINISHED:
        sampler = Sampler(
            "classification", list(MODELS["classification"]), greater_is_better=True, seed=0
        )
        rng = np.random.default_rng(0)
        taken: set[tuple[object, ...]] = set()
        drawing = Sampler(
            "classification", list(MODELS["classification"]), greater_is_better=True, seed=1
        )
        for _ in range(n_finished):
            spec = drawing.ask(taken)  # without scores it draws at random
            drawing.forget(spec)
            taken.add(spec.identity)
            sampler.tell(spec, float(rng.random()))
        asked, told = [], []
        for _ in range(N_ASKS):
            begun = time.perf_counter()
            spec = sampler.ask(taken)
            middle = time.perf_counter()
            sampler.tell(spec, float(rng.random()))
            asked.append(middle - begun)
            told.append(time.perf_counter() - middle)
            taken.add(spec.identity)
        ask_ms, tell_ms = (1000 * statistics.median(each) for each in (asked, told))
        print(f"| {n_finished} | {ask_ms:.1f} | {tell_ms:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64])
    parser.add_argument("--per-worker", type=int, default=20, help="iterations for each")
    parser.add_argument("--seconds", type=float, default=2.0, help="that an iteration takes")
    parser.add_argument("--no-pool", action="store_true", help="leave Ray's own pool out")
    parser.add_argument("--search", action="store_true", help="time suggestions instead")
    arguments = parser.parse_args()
    search() if arguments.search else scale(arguments)


if __name__ == "__main__":
    main()
