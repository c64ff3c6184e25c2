"""The page works where MLflow shows it: in a sandboxed frame, from a blob, without a network."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import mlflow_automl_remote
from mlflow_automl_remote.explain import Explanation
from mlflow_automl_remote.explain.page import page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOMS = ("charts", "explain", "pages")
"""Whose files the pages are made of."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,800",
)
FRAME = """<body style="margin:0"><iframe sandbox="allow-scripts"
style="border:0;width:100vw;height:95vh"></iframe><script>
const bytes = Uint8Array.from(atob("{page}"), (c) => c.charCodeAt(0));
const blob = new Blob([bytes], {{type: "text/html"}});
document.querySelector("iframe").src = URL.createObjectURL(blob);
</script>"""
WAIT_S = 20
EVIL = "</script><img src=x onerror=document.body.remove()>"


def explanation(n_classes, n_rows=80, n_columns=12):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_rows, n_columns, n_classes or 1))
    return Explanation(
        values=values if n_classes else values[:, :, 0],
        base_values=np.linspace(0.2, 0.4, n_classes or 1),
        data=rng.normal(size=(n_rows, n_columns)),
        rows=np.arange(n_rows),
        feature_names=(EVIL, *(f"column {i}" for i in range(1, n_columns))),
        class_names=tuple(f"<b>class {k}" for k in range(n_classes)) or None,
        pipeline="StandardScaler > KNeighborsClassifier",
        explainer="permutation",
        output_space="probability" if n_classes else "value",
        n_background=20,
        n_requested=n_rows + 5,
        seed=0,
        elapsed_s=3.2,
        standard_error=0.0123,
        complete=False,
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser, tmp_path):
    def opened(what):
        encoded = base64.b64encode(page(what).encode()).decode()
        (tmp_path / "host.html").write_text(FRAME.format(page=encoded))
        browser.get((tmp_path / "host.html").as_uri())
        browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
        until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#waterfall rect"))
        return browser

    yield opened
    assert browser.get_log("browser") == []


def until(browser, condition):
    return WebDriverWait(browser, WAIT_S, poll_frequency=0.05).until(lambda _: condition())


def picture(browser, name):
    """What is drawn, as text that differs when the drawing does."""
    script = {
        "waterfall": "return document.getElementById('waterfall').innerHTML",
        "bars": "return document.getElementById('bars').innerText",
    }.get(name, f"return document.getElementById('{name}').toDataURL()")
    return browser.execute_script(script)


def pictures(browser):
    return {name: picture(browser, name) for name in ("bars", "swarm", "scatter", "waterfall")}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_choosing_a_class_redraws_everything(open_page):
    """Importances, swarm, scatter and waterfall are those of the chosen class."""
    browser = open_page(explanation(3))
    buttons = browser.find_elements(By.CSS_SELECTOR, "#class-chooser button")
    assert [b.text for b in buttons] == ["Overall", "<b>class 0", "<b>class 1", "<b>class 2"]
    # In the overall view the waterfall is for the class that the model gave the row.
    given = browser.execute_script("return numbers.predicted[0]")
    chosen = buttons[1 + (given + 1) % 3]
    before = pictures(browser)
    chosen.click()
    assert {"bars", "swarm", "scatter", "waterfall"} == changed(before, pictures(browser))
    assert chosen.get_attribute("aria-pressed") == "true"


def test_choosing_a_feature_redraws_its_scatter(open_page):
    """The scatter is that of the chosen feature; the row stays."""
    browser = open_page(explanation(0))
    before = pictures(browser)
    browser.find_elements(By.CSS_SELECTOR, "#bars button")[3].send_keys(Keys.ENTER)
    after = pictures(browser)
    assert {"scatter", "swarm"} == changed(before, after)
    named = browser.find_elements(By.CSS_SELECTOR, "#bars .name")[3].text
    assert named == browser.find_element(By.ID, "scatter-title").text


def test_stepping_through_the_rows_redraws_the_waterfall(open_page):
    """Next, previous and a typed number choose the row; before the first comes the last."""
    browser = open_page(explanation(2))
    first = picture(browser, "waterfall")
    browser.find_element(By.ID, "next").click()
    assert first != picture(browser, "waterfall")
    browser.find_element(By.ID, "previous").click()
    assert first == picture(browser, "waterfall")
    browser.find_element(By.ID, "previous").click()
    row = browser.find_element(By.ID, "row")
    assert row.get_attribute("value") == "80"
    row.clear()
    row.send_keys("999", Keys.ENTER)
    until(browser, lambda: row.get_attribute("value") == "80")


def test_colouring_by_another_feature_redraws_the_scatter_alone(open_page):
    """The dots keep their places and change their colours."""
    browser = open_page(explanation(2))
    before = pictures(browser)
    Select(browser.find_element(By.ID, "colour")).select_by_value("7")
    by_seven = pictures(browser)
    Select(browser.find_element(By.ID, "colour")).select_by_value("-1")
    assert {"scatter"} == changed(by_seven, pictures(browser))
    assert changed(before, by_seven) <= {"scatter"}


def test_a_dot_that_is_clicked_becomes_the_row(open_page):
    """Pointing shows the row's value, clicking chooses it."""
    browser = open_page(explanation(0))
    before = picture(browser, "waterfall")
    x, y = browser.execute_script(
        "const box = document.getElementById('swarm').getBoundingClientRect();"
        "const spot = swarm.spots.find((s) => s.row === 40);"
        "return [box.left + spot.x, box.top + spot.y]"
    )
    webdriver.ActionChains(browser).move_by_offset(x, y).click().perform()
    until(browser, lambda: browser.find_element(By.ID, "tip").is_displayed())
    assert before != picture(browser, "waterfall")
    webdriver.ActionChains(browser).move_by_offset(-x, -y).perform()


def test_the_numbers_on_the_page_add_up(open_page):
    """What the page unpacks is what was packed, to the digits that it shows."""
    what = explanation(3)
    browser = open_page(what)
    outputs = browser.execute_script(
        "return [0, 1, 2].map((k) => [0, 7, 79].map((r) => numbers.outputOf(k, r)))"
    )
    expected = (what.values.sum(axis=1) + what.base_values)[[0, 7, 79]].T
    np.testing.assert_allclose(outputs, expected, atol=2e-3)


def test_names_are_shown_as_text_and_doubts_are_stated(open_page):
    """Markup in names stays text; the budget and the sampling error are on the page."""
    browser = open_page(explanation(2, n_columns=150))
    names = browser.find_element(By.ID, "bars").text
    assert EVIL in names or "column" in names
    assert browser.find_elements(By.TAG_NAME, "img") == []
    assert "after 80 of 85 rows" in browser.find_element(By.ID, "warning").text
    assert "standard error of about 0.012" in browser.find_element(By.ID, "note").text
    assert "30 less important" in browser.find_element(By.ID, "hidden-features").text


def test_the_page_refers_to_nothing_outside_itself():
    """No link, source, import or storage in any of its parts."""
    package = Path(mlflow_automl_remote.__file__).parent
    parts = [path for room in ROOMS for path in sorted((package / room / "static").iterdir())]
    text = "".join(path.read_text() for path in parts)
    for word in ("src=", "href=", "@import", "url(", "fetch(", "localStorage", "innerHTML"):
        assert word not in text
