"""What a person sees of a decision on MLflow's own page of a version, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from .conftest import House, Told

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

WAIT_S = 90
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1500,1300",
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless chromium of its own."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    try:
        yield driver
    finally:
        driver.quit()


def see(browser: Any, address: str, *texts: str) -> None:
    """Open a page, and wait until it shows all texts."""
    browser.get("about:blank")
    browser.get(address)

    def shows(_: Any) -> bool:
        text = browser.find_element(By.TAG_NAME, "body").text
        return all(one in text for one in texts)

    WebDriverWait(browser, WAIT_S).until(shows, f"{texts} are not at {address}")


def test_versions_aliases_tags_and_report_are_shown(
    house: House, server: str, browser: Any, pytestconfig: pytest.Config
) -> None:
    house.promote(house.sweep())
    house.promote(house.sweep(), gates={"max_drops": {"accuracy": 0.05}})
    house.promote(house.sweep(), Told(gain=-0.1), challenger_alias="challenger")
    wanted = pytestconfig.getoption("--screenshots")
    page = f"{server}/#/models/{house.name}"
    see(browser, page, "Version 1", "Version 2", "Version 3", "@ champion", "@ challenger")
    if wanted:
        browser.save_screenshot(f"{wanted}/registered-model.png")
    told = ("Promoted: version 2 as 'champion'", "drop of accuracy", "standard error 0.01")
    see(browser, f"{page}/versions/2", *told, "automl_remote.decision", "promoted as champion")
    if wanted:
        browser.save_screenshot(f"{wanted}/champion.png")
    see(browser, f"{page}/versions/3", "Refused: version 3 as 'champion'", "failed")
