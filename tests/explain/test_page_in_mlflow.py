"""The page works inside MLflow's own artifact viewer, with many rows and with hostile names."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from mlflow import MlflowClient
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from mlflow_automl_remote.explain import Explanation, write

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

START_S = 90
WAIT_S = 60
HOSTILE = (
    "</script><script>document.body.remove()</script>",
    "<img src=x onerror=document.body.remove()>",
    "\"quotes\" & 'more' `ticks`",
    "emoji \U0001f600 \u0e44\u0e17\u0e22",
    "x" * 300,
    "line\u2028and\u2029paragraph\nbreak",
)


def explanation(n_rows):
    """Hostile names, classes and categories; 50 columns, three classes."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(n_rows, 50))
    data[:, 0] = rng.integers(0, len(HOSTILE), n_rows)
    return Explanation(
        values=rng.normal(size=(n_rows, 50, 3)) * np.linspace(3, 1, 50)[:, np.newaxis],
        base_values=np.array([0.2, 0.3, 0.5]),
        data=data,
        levels={0: HOSTILE},
        rows=np.arange(n_rows),
        feature_names=(*HOSTILE, *(f"column {at}" for at in range(len(HOSTILE), 50))),
        class_names=HOSTILE[:3],
        pipeline="StandardScaler > <b>SVC",
        explainer="permutation",
        output_space="probability",
        n_background=20,
        n_requested=n_rows,
        seed=0,
        elapsed_s=1.5,
        standard_error=0.01,
        complete=True,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's server with one run for each number of rows: its address, and the runs."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port),
        "--host", "127.0.0.1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    try:
        _wait_until_it_answers(process, address)
        client = MlflowClient(address)
        runs = {}
        for n_rows in (20, 200, 2000):
            write(explanation(n_rows), folder / f"{n_rows}")
            run = client.create_run("0", run_name=f"{n_rows} rows")
            client.log_artifacts(run.info.run_id, str(folder / f"{n_rows}"), "explanation")
            client.set_terminated(run.info.run_id)
            runs[n_rows] = run.info.run_id
        yield address, runs
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _wait_until_it_answers(process, address):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail("the server did not answer")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-sync", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1600,1000")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def until(browser, condition):
    return WebDriverWait(browser, WAIT_S, poll_frequency=0.1).until(lambda _: condition())


@pytest.mark.parametrize("n_rows", [20, 200, 2000])
def test_the_page_works_in_mlflows_viewer(n_rows, server, browser):
    """It draws, chooses a class, a feature and a row, and no name does any harm."""
    address, runs = server
    browser.get("about:blank")
    browser.get(
        f"{address}/#/experiments/0/runs/{runs[n_rows]}/artifacts/explanation/explanation.html"
    )
    frame = until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "iframe[sandbox]"))[0]
    browser.switch_to.frame(frame)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#waterfall rect"))
    names = [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#bars .name")]
    assert len(names) == 50
    assert "<img src=x onerror=document.body.remove()>" in names
    buttons = browser.find_elements(By.CSS_SELECTOR, "#class-chooser button")
    assert len(buttons) == 4
    before = browser.execute_script("return document.getElementById('swarm').toDataURL()")
    buttons[2].send_keys(Keys.ENTER)
    until(
        browser,
        lambda: (
            before != browser.execute_script("return document.getElementById('swarm').toDataURL()")
        ),
    )
    browser.find_elements(By.CSS_SELECTOR, "#bars button")[0].send_keys(Keys.ENTER)
    browser.find_element(By.ID, "next").send_keys(Keys.ENTER)
    assert browser.find_element(By.ID, "row").get_attribute("value") == "2"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#waterfall rect")) > 2
    if folder := os.environ.get("SCREENSHOTS"):
        browser.switch_to.default_content()
        browser.save_screenshot(f"{folder}/mlflow-{n_rows}.png")
