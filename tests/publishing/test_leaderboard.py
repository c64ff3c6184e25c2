"""The leaderboard: harmless whatever the target wrote, and at work inside MLflow's sandbox."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import running_browser

from mlflow_automl_remote.publishing.leaderboard import to_csv, to_html
from mlflow_automl_remote.publishing.note import MAX_NOTE, to_markdown
from mlflow_automl_remote.publishing.view import View
from mlflow_automl_remote.states import IterationState

EVIL = "</script><img src=x onerror=document.title='evil'><!--"


@pytest.fixture
def view(new_sweep: Any) -> View:
    """A sweep of eight iterations, two of them with hostile names."""
    sweep = new_sweep().start()
    for number in range(8):
        changes = {6: {"model": EVIL}, 7: {"scaler": "=cmd|' /C calc'!A0"}}.get(number, {})
        sweep.begin(number, **changes)
        if number == 2:
            sweep.end(number, IterationState.FAILED, reason=f"ValueError: {EVIL}")
        elif number == 6:
            sweep.end(number, hyperparameters={EVIL: EVIL}, metrics={"AUC_weighted": 0.1, EVIL: 1})
        else:
            sweep.end(number)
    state = sweep.finish(explained=False).state
    return View(state=state, facts=sweep.facts, children={}, unpublished={})


def test_no_text_of_a_target_ends_the_script(view: View) -> None:
    """The data of the page holds no character that HTML knows."""
    page = to_html(view)
    assert page.count("</script>") == 1
    data = page.split("const sweep = ", 1)[1].split(";\n", 1)[0]
    assert not set("<>&") & set(data)
    assert len(json.loads(data)["rows"]) == 8


def test_no_cell_of_text_is_a_formula(view: View) -> None:
    """A spreadsheet that opens the CSV computes nothing; numbers stay numbers."""
    rows = list(csv.DictReader(io.StringIO(to_csv(view))))
    assert len(rows) == 8
    for row in rows:
        assert not any(value.startswith(("=", "+", "@")) for value in row.values())
    assert {row["scaler"] for row in rows} >= {"'=cmd|' /C calc'!A0"}
    assert float(rows[0]["AUC_weighted"]) == view.state.best.score


def test_the_note_is_bounded_and_shows_hostile_text_as_text(view: View) -> None:
    """MLflow cuts long notes off, so they are shorter; HTML and Markdown in names are escaped."""
    note = to_markdown(view, "1")
    assert len(note) <= MAX_NOTE
    assert "<" not in note


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    with running_browser(tmp_path / "chromium") as started:
        yield started


def open_as_mlflow_does(browser: Any, page: str, folder: Path) -> None:
    """Show a page from a blob URL in a frame that may run scripts and nothing else."""
    content = json.dumps(page).replace("<", "\\u003c")
    outer = folder / "outer.html"
    outer.write_text(
        "<iframe sandbox='allow-scripts' style='width:1240px;height:860px'></iframe><script>"
        f"const page = new Blob([{content}], {{type: 'text/html'}});"
        "document.querySelector('iframe').src = URL.createObjectURL(page);</script>",
        encoding="utf-8",
    )
    browser.implicitly_wait(10)
    browser.get(outer.as_uri())
    browser.switch_to.frame(0)


@pytest.mark.browser
def test_the_leaderboard_sorts_and_filters_in_the_sandbox(
    view: View, browser: Any, tmp_path: Path
) -> None:
    """No network, no storage, no error in the console; hostile names are shown as they are."""
    open_as_mlflow_does(browser, to_html(view), tmp_path)

    def column(number: int) -> list[str]:
        cells = browser.find_elements("css selector", f"tr.row td:nth-child({number})")
        return [cell.text for cell in cells]

    assert len(column(1)) == 8
    assert column(1)[:3] == ["1", "2", "3"]
    browser.find_element("css selector", "th:nth-child(2) button").click()
    assert column(2) == [str(number) for number in range(8)]
    browser.find_element("css selector", "th:nth-child(2) button").click()
    assert column(2) == [str(number) for number in reversed(range(8))]
    assert EVIL in column(3)[1]

    browser.find_element("id", "filter").send_keys("valueerror")
    assert column(2) == ["2"]
    browser.find_element("css selector", "tr.row").click()
    assert "model__C" in browser.find_element("css selector", "tr.detail").text
    assert not browser.find_elements("css selector", "img")

    requests = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = {
        one["params"]["request"]["url"].split(":")[0]
        for one in requests
        if one["method"] == "Network.requestWillBeSent"
    }
    assert urls <= {"file", "blob", "data", "chrome"}  # the last for the looks of form fields
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
