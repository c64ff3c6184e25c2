"""The widget where the kernel hears nothing: a notebook without subshells, while a cell runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.notebook import content, widget

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed"),
    # selenium leaves its log and sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PAGE = """<!doctype html><meta charset=utf-8><style>{css}</style><body><div id=here></div>
<script type=module>{esm}
const values = {values};
const model = {{ get: (name) => values[name], on() {{}}, off() {{}}, send() {{}} }};
render({{ model, el: document.getElementById("here") }});
</script>"""


def page_of(state: SweepState) -> str:
    """Give a page with the widget, whose kernel never answers."""
    sweep: Any = SimpleNamespace(url="", run_id="run7", state=state)
    metrics = content.metric_names(state)
    values: Mapping[str, object] = {
        "rows": [content.row(one, metrics) for one in state.iterations.values()],
        "head": content.head(state, metrics, sweep),
        "importance": [],
    }
    return PAGE.format(
        css=widget._static("widget.css"),
        esm=widget._static("widget.js").replace("export default { render };", ""),
        values=json.dumps(values),
    )


def test_a_click_shows_what_is_known_and_says_that_the_rest_must_wait(
    browser: Any, tmp_path: Path
) -> None:
    """Params and scores at once; of log and cancelling it is told when, and what goes at once."""
    one = Iteration(
        number=3,
        scaler="StandardScaler",
        model="SVM",
        params={},
        proposed_by="portfolio",
        attempt=1,
        started_ms=0,
        hyperparameters={"model__C": 2.5},
        fold_metrics={"accuracy": (0.5, 0.75)},
    )
    file = tmp_path / "page.html"
    file.write_text(page_of(SweepState(iterations={3: one})))
    browser.get(file.as_uri())

    def find(selector: str) -> Any:
        return browser.find_element(By.CSS_SELECTOR, f".automl-remote {selector}")

    def wait_for(words: str) -> None:
        WebDriverWait(browser, 20, poll_frequency=0.1).until(lambda _: words in find("").text)

    find("tbody tr").click()
    detail = find(".detail").text
    assert "model__C 2.5" in detail
    assert "accuracy 0.50000 0.75000" in detail
    assert "Asking for it." in detail
    wait_for("The kernel is busy with a cell; log and charts come when that has ended.")
    for label in ("Cancel this iteration", "Really cancel iteration 3"):
        find(".detail").find_element(By.XPATH, f".//button[text()='{label}']").click()
    assert "Asked to cancel." in find("").text
    wait_for("automl-remote cancel run7 --iteration 3")
