"""How long a browser takes to show a sweep of 1,000 iterations in the widget, and an update of it.

    python benchmarks/widget.py [--iterations 1000] [--pictures FOLDER]

The widget's own files in a page of a headless chromium, with a model as JupyterLab gives it one.
Times are those of the browser, style, layout and paint included, without the way from the kernel.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By

from mlflow_automl_remote.notebook import widget

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,900")
METRICS = ["AUC_weighted", *(f"metric_{number}" for number in range(20))]
PARAMS = [[f"model__param_{number}", "0.123456789"] for number in range(20)]
FOLDS = [[name, *["0.91234"] * 5] for name in METRICS]
MODELS = ("LightGBM", "SVM", "LogisticRegression", "KNN", "XGBoost")
PAGE = """<!doctype html><meta charset=utf-8><style>{css}</style>
<body style="margin:0;background:{ground};{variables}"><div id=here></div>
<script type=module>{esm}
const values = {values};
const heard = {{}};
window.model = {{
  get: (name) => values[name], set: (name, value) => {{ values[name] = value; }}, send() {{}},
  on: (name, f) => {{ (heard[name] ||= []).push(f); }}, off() {{}},
  tell: (name, value) => (heard[name] || []).forEach((f) => f(value)),
}};
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
window.first = async () => {{
  const begin = performance.now();
  render({{ model, el: document.getElementById("here") }});
  await painted();
  return performance.now() - begin;
}};
window.update = async (rows) => {{
  const begin = performance.now();
  model.tell("msg:custom", {{ type: "rows", rows }});
  model.tell("change:head");
  await painted();
  return performance.now() - begin;
}};
</script>"""
DARK = (
    "--jp-ui-font-color1:#e6e6e6;--jp-ui-font-color2:#a8a8a8;--jp-layout-color1:#111;"
    "--jp-layout-color2:#242424;--jp-border-color2:#444"
)


def row(number: int, best: float) -> list[object]:
    """Give an iteration as the widget is sent it."""
    if number % 29 == 17:
        failed = [number, "StandardScaler MLP", "MLP", "TIMED_OUT", 60.0, None, best]
        return [*failed, "It took longer than iteration_timeout_minutes.", None, PARAMS, []]
    score = 0.8 + 0.19 * ((number * 7919) % 997) / 997
    model = MODELS[number % 5]
    values = [score - 0.01 * at for at in range(len(METRICS))]
    return [
        *(number, f"MaxAbsScaler {model}", model, "COMPLETED", 1.5 + number % 7, score),
        *(max(score, best), "", values, PARAMS, FOLDS),
    ]


def page(n: int, *, dark: bool = False) -> str:
    """Give a page that holds a sweep and shows it when it is told to."""
    rows: list[Any] = []
    for number in range(n):
        rows.append(row(number, rows[-1][6] if rows else 0.0))
    best = max((one for one in rows if one[5]), key=lambda one: one[5])
    head = {
        "text": f"RUNNING - {n} of {n + 20} iterations - 2 running - best: AUC_weighted "
        f"{best[5]:.5f} (iteration {best[0]}, {best[1]}) - about 0:01:10 left",
        "total": n + 20,
        "finished": n,
        "running": True,
        "best": best[0],
        "metric": "AUC_weighted",
        "metrics": METRICS,
        "lower": [],
        "url": "",
        "run_id": "",
    }
    importance = [["Contract", 0.31, "Month-to-month raises it"], ["tenure", 0.2, "lowers it"]]
    values = {"rows": rows, "head": head, "importance": importance}
    return PAGE.format(
        css=widget._static("widget.css"),
        esm=widget._static("widget.js").replace("export default { render };", ""),
        values=json.dumps(values),
        ground="#111" if dark else "#fff",
        variables=DARK if dark else "",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "page.html")
        file.write_text(page(given.iterations))
        browser.get(file.as_uri())
        first = browser.execute_async_script("first().then(arguments[0])")
        times = {}
        for column in ("0", "5"):  # by number, where rows are added; by score, where they move
            button = f".automl-remote th[data-column='{column}'] button"
            if column != "0":
                browser.find_element(By.CSS_SELECTOR, button).click()
            times[column] = [
                browser.execute_async_script(
                    "update(arguments[0]).then(arguments[1])",
                    [row(given.iterations + step, 0.99), row(step, 0.99)],
                )
                for step in range(20)
            ]
        for name, dark in (("widget-light.png", False), ("widget-dark.png", True)):
            if given.pictures is None:
                continue
            file.write_text(page(40, dark=dark))
            browser.get(file.as_uri())
            browser.execute_async_script("first().then(arguments[0])")
            browser.find_element(By.CSS_SELECTOR, ".automl-remote").screenshot(
                str(given.pictures / name)
            )
    browser.quit()
    print(f"{given.iterations} iterations: first paint {first:.0f} ms")
    for column, name in (("0", "by number"), ("5", "by score")):
        middle, most = statistics.median(times[column]), max(times[column])
        print(f"update, sorted {name}: {middle:.0f} ms, at most {most:.0f} ms")


if __name__ == "__main__":
    main()
