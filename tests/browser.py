"""A headless chromium for tests, and what they do with MLflow's pages in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

_T = TypeVar("_T")

WAIT_S = 90
NEEDED = [
    pytest.mark.browser,
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of modules that use it."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def running_browser(profile: Path, size: str = "1500,1000") -> Iterator[Any]:
    """Run a browser that keeps its files in a folder.

    Args:
        profile: The folder.
        size: Width and height of the window.
    """
    program = shutil.which("chromedriver")
    if program is None:
        pytest.skip("chromedriver is not installed")
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--window-size={size}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program))
    try:
        yield driver
    finally:
        driver.quit()


def until(browser: Any, condition: Callable[[], _T | None], what: str = "") -> _T:
    """Wait until something is the case, and give it."""
    found: _T = WebDriverWait(browser, WAIT_S, 0.1).until(lambda _: condition(), what)
    return found


def text_of(browser: Any) -> str:
    """Give all that a page shows."""
    return str(browser.find_element(By.TAG_NAME, "body").text)


def see(browser: Any, address: str, *texts: str) -> str:
    """Open a page of MLflow's UI, and wait until it shows all texts; give all that it shows."""
    browser.switch_to.default_content()
    browser.get("about:blank")
    browser.get(f"{address}{'&' if '?' in address else '?'}workflowType=machine_learning")

    def shown() -> str | None:
        text = text_of(browser)
        return text if all(one in text for one in texts) else None

    return until(browser, shown, f"{texts} are not at {address}")


def frame(browser: Any, address: str, selector: str) -> Sequence[Any]:
    """Open an artifact, and give elements of the frame that MLflow shows it in."""
    see(browser, address)

    def found() -> Sequence[Any]:
        browser.switch_to.default_content()
        for one in browser.find_elements(By.TAG_NAME, "iframe"):
            browser.switch_to.frame(one)
            if elements := browser.find_elements(By.CSS_SELECTOR, selector):
                return list(elements)
            browser.switch_to.default_content()
        return []

    return until(browser, found, f"no {selector} at {address}")


def keep(browser: Any, pytestconfig: pytest.Config, name: str) -> None:
    """Keep a picture of what is shown, if somebody wants it: --screenshots FOLDER."""
    if wanted := pytestconfig.getoption("--screenshots"):
        folder = Path(wanted)
        folder.mkdir(parents=True, exist_ok=True)
        browser.switch_to.default_content()
        browser.save_screenshot(str(folder / name))
