"""What a person sees in MLflow's own UI, in a real browser against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import NEEDED, frame, keep, running_browser, see, text_of, until
from mlflow import MlflowClient
from selenium.webdriver.common.by import By

from mlflow_automl_remote import charts
from mlflow_automl_remote.journal.events import MachineSampled

from .conftest import START_MS, Store, SyntheticSweep

pytestmark = NEEDED

MIN_WIDTH = 300
"""Pixels; MLflow's own pictures are smaller."""
EXPANDERS = "button[data-component-id*='runnamecellrenderer']"
CLICK = "arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))"


@dataclass(frozen=True)
class Shown:
    """A sweep in a server.

    Attributes:
        page: Address of the experiment in the UI.
        parent: Of a finished sweep.
        running: Parent of one that has just begun.
        children: Runs by number of their iteration.
    """

    page: str
    parent: str
    running: str
    children: dict[int, str]


def charts_of(sweep: Any, number: int) -> list[Any]:
    """Draw the charts of an iteration, as an agent does."""
    rng = np.random.default_rng(number)
    codes = rng.integers(0, 3, 300)
    p = rng.random((300, 3)) + (0.4 + 0.2 * number) * np.eye(3)[codes]
    made = charts.of_classifier(
        codes, p / p.sum(axis=1, keepdims=True), classes=("setosa", "<b>versicolor", "virginica")
    )
    inside = f"iterations/{number:03d}/charts"
    charts.write(made, sweep.root / inside, title=f"pipeline {number}")
    return [
        sweep.write(f"{inside}/{path.name}", path.read_bytes())
        for path in sorted((sweep.root / inside).iterdir())
    ]


@pytest.fixture(scope="module")
def shown(server: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Publish a finished sweep with charts, and one whose first iteration runs."""

    def new_sweep(name: str) -> SyntheticSweep:
        root = tmp_path_factory.mktemp(f"target-{name}")
        return SyntheticSweep(root=root, model=model_folder, sweep_id=name)

    client = MlflowClient(tracking_uri=server)
    store = Store(
        client, server, client.create_experiment(f"what the UI shows {time.monotonic_ns()}")
    )
    sweep = new_sweep("shown").start()
    for number in range(3):
        sweep.begin(number)
        log = sweep.write(f"iterations/{number:03d}/iteration.log", b"fitted\n")
        success = sweep._success(number, log)
        sweep.end(number, files=(*success["files"], *charts_of(sweep, number)))
        sweep.add(MachineSampled(values={"cpu_utilization_percentage": 40.0 + number}))
    parent = store.new_parent()
    with sweep.publisher(client, parent) as publisher:
        publisher.publish(sweep.finish().state)
    begun = new_sweep("begun").start()
    begun.begin(0)
    running = client.create_run(
        store.experiment_id, start_time=START_MS + 1, run_name="a sweep that runs"
    ).info.run_id
    begun.publisher(client, running).publish(begun.state)
    runs = client.search_runs(
        [store.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=10
    )
    return Shown(
        page=f"{server}/#/experiments/{store.experiment_id}",
        parent=parent,
        running=running,
        children={int(run.data.tags["automl_remote.iteration"]): run.info.run_id for run in runs},
    )


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with running_browser(tmp_path / "chromium") as started:
        yield started


def pictures_of(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    """Paths of all PNG artifacts of a run."""
    found: list[str] = []
    for file in client.list_artifacts(run_id, folder):
        if file.is_dir:
            found += pictures_of(client, run_id, file.path)
        elif file.path.endswith(".png"):
            found.append(file.path)
    return found


def looked_at(browser: Any, address: str) -> int:
    """Open a picture in the artifact view, and give its width once it is decoded."""
    see(browser, address)
    name = address.rpartition("/")[2]
    script = (
        "return Math.max(0, ...[...document.querySelectorAll('img')]"
        ".filter(one => one.complete).map(one => one.naturalWidth))"
    )

    def width() -> int | None:
        found = int(browser.execute_script(script))
        return found if found > MIN_WIDTH else None

    return until(browser, width, f"no picture {name} at {address}")


def asked_outside(browser: Any, server: str) -> list[str]:
    """Give addresses that frames of ours asked for, and that are not the server's own."""
    found = []
    for line in browser.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] != "Network.requestWillBeSent":
            continue
        url, origin = message["params"]["request"]["url"], message["params"]["documentURL"]
        if origin.startswith("blob:") and not url.startswith((server, "blob:", "data:")):
            found.append(url)
    return found


def test_a_sweep_is_found_and_looked_at_in_mlflows_ui(
    shown: Shown, server: str, browser: Any, pytestconfig: pytest.Config
) -> None:
    """Runs, params, metrics, model and every page of ours; nothing in them asks a network."""
    see(browser, f"{shown.page}/runs", "a sweep that runs", "sweep")
    keep(browser, pytestconfig, "runs.png")
    for at in range(2):  # the table is drawn anew each time
        browser.execute_script(CLICK, browser.find_elements(By.CSS_SELECTOR, EXPANDERS)[at])
    until(browser, lambda: text_of(browser).count(" MaxAbsScaler LightGBM") == 2, "no children")
    keep(browser, pytestconfig, "children.png")
    child = f"{shown.page}/runs/{shown.children[1]}"
    see(browser, child, "model__C", "AUC_weighted", "model__p11")
    keep(browser, pytestconfig, "child.png")
    assert len(frame(browser, f"{child}/artifacts/charts/charts.html", ".plot canvas")) == 12
    keep(browser, pytestconfig, "charts.png")
    parent = f"{shown.page}/runs/{shown.parent}"
    assert len(frame(browser, f"{parent}/artifacts/leaderboard.html", "tr.row")) == 3
    keep(browser, pytestconfig, "leaderboard.png")
    circles = frame(browser, f"{parent}/artifacts/overview.html", "svg circle")
    assert len(circles) == 3 + 3 + 1, "by time, by speed, and the ring of the best"
    text = text_of(browser)
    assert "<no>" in text
    assert "95.1 %" in text
    keep(browser, pytestconfig, "overview.png")
    see(browser, f"{parent}/system-metrics", "cpu_utilization_percentage")
    keep(browser, pytestconfig, "system-metrics.png")
    see(browser, f"{shown.page}/models", "LogisticRegression", "LightGBM", "RandomForest")
    keep(browser, pytestconfig, "models.png")
    ours = [line["message"] for line in browser.get_log("browser") if "blob:" in line["message"]]
    assert not [text for text in ours if "rror" in text]
    assert asked_outside(browser, server) == []


def test_every_picture_is_shown(shown: Shown, server: str, browser: Any) -> None:
    """PNG artifacts of the sweep and of its iterations, in the artifact view."""
    client = MlflowClient(tracking_uri=server)
    for run_id in (shown.parent, *shown.children.values()):
        for path in pictures_of(client, run_id):
            assert looked_at(browser, f"{shown.page}/runs/{run_id}/artifacts/{path}")
    assert pictures_of(client, shown.children[0]) == ["charts/charts.png"]


def test_two_children_compare(shown: Shown, browser: Any, pytestconfig: pytest.Config) -> None:
    """MLflow's page of comparison shows the values of both."""
    runs = json.dumps([shown.children[0], shown.children[1]])
    experiment = shown.page.rsplit("/", 1)[1]
    address = f'{shown.page.split("#")[0]}#/compare-runs?runs={runs}&experiments=["{experiment}"]'
    text = see(browser, address, "model__C", "AUC_weighted", "000 Max", "001 Standard")
    assert "1.5" in text
    keep(browser, pytestconfig, "compare.png")
