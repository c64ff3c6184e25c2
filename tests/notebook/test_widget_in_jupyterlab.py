"""The widget in a real JupyterLab in a real browser, while the article's sweep runs over SSH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from sshd import SshServer, free_port
from user_terminal import BIN, REPOSITORY

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WAIT_S = 240
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
}
TABLE = ".automl-remote .rows tbody tr"


@dataclass(frozen=True)
class Lab:
    """A JupyterLab, and the folder that it shows."""

    address: str
    folder: Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A server of this test's own, with a tracking store beside it."""
    folder, config = tmp_path / "notebooks", tmp_path / "jupyter"
    folder.mkdir()
    for name, content in SETTINGS.items():
        file = config / "lab" / "user-settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "JUPYTER_CONFIG_DIR": str(config),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    argv = [
        *(BIN / "jupyter-lab", "--no-browser", "--allow-root", "--expose-app-in-browser"),
        *(f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}"),
        *("--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1"),
    ]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + WAIT_S
        while not _answers(address):
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "lab.log").read_text()
            time.sleep(0.2)
        yield Lab(address, folder)
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}api/status", timeout=2).ok
    except requests.RequestException:
        return False


def article(folder: Path, sshd: SshServer, iterations: int) -> None:
    """Put the article's notebook there, as a person who names a machine would have it."""
    notebook = nbformat.read(REPOSITORY / "examples" / "article.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    config = sshd.config()
    first.source = (
        f"username, address, ssh_port = {config['user']!r}, {config['host']!r}, {sshd.port}\n"
        f"private_key_file, known_hosts = {str(sshd.key_file)!r}, {str(sshd.known_hosts)!r}\n"
        f"iterations = {iterations}"
    )
    replaced = {
        "known_hosts=known_hosts,": "known_hosts=known_hosts, env_manager='local', "
        f"python={sys.executable!r},",
        "data[10:, :]": "data[10:200, :]",
        "target[10:]": "target[10:200]",
        '"n_cross_validations": 5': '"n_cross_validations": 2',
    }
    for cell in notebook.cells:
        for old, new in replaced.items():
            cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, folder / "article.ipynb")


class Page:
    """A notebook in JupyterLab, as a person uses it."""

    def __init__(self, browser: Any, lab: Lab) -> None:
        self.browser = browser
        self._lab = lab

    def open(self) -> None:
        self.browser.get(f"{self._lab.address}lab/tree/article.ipynb?reset")
        self.until(
            lambda _: self.browser.execute_script(
                "return !!window.jupyterapp && document.querySelectorAll('.jp-Cell').length > 9"
            )
        )

    def command(self, name: str, **arguments: object) -> None:
        self.browser.execute_script(
            "void window.jupyterapp.commands.execute(arguments[0], arguments[1])", name, arguments
        )

    def save(self) -> None:
        """Save the notebook once no cell runs, and return when the server has it."""
        self.until(lambda _: "| Idle" in self.body().text, "the cells do not end")
        self.browser.execute_async_script(
            "window.jupyterapp.commands.execute('docmanager:save').then(arguments[0])"
        )

    def until(self, condition: Any, message: str = "") -> Any:
        return WebDriverWait(self.browser, WAIT_S, poll_frequency=0.1).until(condition, message)

    def one(self, selector: str) -> Any:
        return self.browser.find_element(By.CSS_SELECTOR, f".automl-remote {selector}")

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements(By.CSS_SELECTOR, selector))

    def body(self) -> Any:
        return self.browser.find_element(By.TAG_NAME, "body")

    def rows(self) -> list[list[str]]:
        found = self.browser.execute_script(
            f"return [...document.querySelectorAll('{TABLE}')].map("
            "tr => [...tr.children].map(td => td.textContent))"
        )
        return list(found)

    def click(self, element: Any) -> None:
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def button(self, text: str) -> Any:
        return self.until(
            lambda _: next(
                (
                    one
                    for one in self.browser.find_elements(By.CSS_SELECTOR, ".automl-remote button")
                    if one.text == text
                ),
                None,
            ),
            f"no button {text}",
        )

    def picture(self, folder: Path | None, name: str) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.browser.execute_script(
                "document.querySelector('.automl-remote').scrollIntoView({block: 'start'})"
            )
            self.one("svg")
            self.browser.find_element(By.CSS_SELECTOR, ".automl-remote").screenshot(
                str(folder / name)
            )


@pytest.mark.timeout(600)
def test_the_widget_shows_the_articles_sweep_and_does_what_is_clicked(
    lab: Lab, browser: Any, sshd: SshServer, pytestconfig: pytest.Config
) -> None:
    """Rows come while it runs; sort, filter, click, metric, cancel; a reloaded page has it all."""
    wanted = pytestconfig.getoption("--screenshots")
    folder = Path(wanted) if wanted else None
    article(lab.folder, sshd, iterations=300)
    page = Page(browser, lab)
    page.open()
    page.until(lambda _: "| Idle" in page.body().text, "the kernel does not start")
    page.command("notebook:run-all-cells")
    rows_come(page)
    rows_are_sorted_and_filtered(page)
    metric_is_chosen(page)
    details_are_shown(page, 0)
    page.picture(folder, "widget-light.png")
    sweep_is_cancelled(page)
    page.save()
    n_rows = len(page.rows())
    page.open()
    page.until(lambda _: len(page.rows()) == n_rows, "the reloaded page has no rows")
    assert "CANCELLED" in page.one(".status").text
    page.command("apputils:change-theme", theme="JupyterLab Dark")
    page.until(lambda _: "Dark" in page.body().get_attribute("data-jp-theme-name"))
    details_are_shown(page, 1)
    page.until(lambda _: page.all(".automl-remote.dark"))
    page.picture(folder, "widget-dark.png")


def rows_come(page: Page) -> None:
    page.until(lambda _: len(page.rows()) >= 4, "no rows came")
    assert "RUNNING" in page.one(".status").text
    n_before = len(page.rows())
    page.until(lambda _: len(page.rows()) > n_before, "the table does not grow")
    assert page.one("progress").get_attribute("value") != "0"
    page.until(lambda _: sum(row[4] != "" for row in page.rows()) >= 4)


def rows_are_sorted_and_filtered(page: Page) -> None:
    page.click(page.button("Score"))
    scores = [float(row[4]) for row in page.rows() if row[4]]
    assert scores == sorted(scores, reverse=True)
    page.one("th[data-column='5'] button").send_keys(Keys.ENTER)
    scores = [float(row[4]) for row in page.rows() if row[4]]
    assert scores == sorted(scores)
    assert "ascending" == page.one("th[data-column='5']").get_attribute("aria-sort")
    page.one("input[type=search]").send_keys("logistic")
    assert {"LogisticRegression"} == {row[1].split()[-1] for row in page.rows()}
    page.one("input[type=search]").send_keys(Keys.CONTROL, "a", Keys.DELETE)


def metric_is_chosen(page: Page) -> None:
    assert page.one("svg").get_attribute("aria-label").startswith("AUC_weighted over ")
    Select(page.one("select")).select_by_value("log_loss")
    assert page.one("svg").get_attribute("aria-label").startswith("log_loss over ")


def details_are_shown(page: Page, number: int) -> None:
    """What is here at once; what the kernel has to give comes, whatever cell it runs."""
    page.click(page.one(f"tr[data-number='{number}']"))
    assert "Parameters" in page.one(".detail").text
    answered = "http://127.0.0.1:5000/#/experiments/1/runs/"
    page.until(lambda _: answered in page.one(".detail").text, "the kernel does not answer")
    assert "Asking for it." not in page.one(".detail pre").text
    assert "Scores of the folds" in page.one(".detail").text
    assert f"Iteration {number}" in page.one(".detail").text


def sweep_is_cancelled(page: Page) -> None:
    page.click(page.button("Cancel sweep"))
    page.click(page.button("Keep it"))
    assert "RUNNING" in page.one(".status").text
    page.click(page.button("Cancel sweep"))
    page.click(page.button("Really cancel the sweep"))
    page.until(lambda _: "CANCELLED" in page.one(".status").text, "it is not cancelled")
    assert not page.one(".top button").is_displayed()
