"""The page works inside MLflow's own artifact viewer, with many rows and with hostile names."""

from __future__ import annotations

import numpy as np
import pytest
from browser import NEEDED, frame, keep, running_browser, until
from mlflow import MlflowClient
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mlflow_automl_remote.explain import Explanation, write

pytestmark = NEEDED

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
def runs(server, tmp_path_factory):
    """Addresses of the artifacts of one run for each number of rows."""
    folder = tmp_path_factory.mktemp("pages")
    client = MlflowClient(server)
    experiment_id = client.create_experiment(f"pages {folder}")
    found = {}
    for n_rows in (20, 200, 2000):
        write(explanation(n_rows), folder / f"{n_rows}")
        run_id = client.create_run(experiment_id, run_name=f"{n_rows} rows").info.run_id
        client.log_artifacts(run_id, str(folder / f"{n_rows}"), "explanation")
        client.set_terminated(run_id)
        found[n_rows] = f"{server}/#/experiments/{experiment_id}/runs/{run_id}/artifacts"
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with running_browser(tmp_path_factory.mktemp("profile"), size="1600,1000") as started:
        yield started


@pytest.mark.parametrize("n_rows", [20, 200, 2000])
def test_the_page_works_in_mlflows_viewer(n_rows, runs, browser, pytestconfig):
    """It draws, chooses a class, a feature and a row, and no name does any harm."""
    frame(browser, f"{runs[n_rows]}/explanation/explanation.html", "#waterfall rect")
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
    keep(browser, pytestconfig, f"explanation-{n_rows}-rows.png")
