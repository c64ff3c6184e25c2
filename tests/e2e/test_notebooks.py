"""The example notebooks, top to bottom in a kernel of their own, against a real SSH server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from sshd import SshServer
from user_terminal import REPOSITORY

pytestmark = [
    # the kernel's sockets and loop are left to the garbage collector by its client
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a notebook runs, with a store of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path


def run_notebook(
    name: str, folder: Path, given: Mapping[str, object], replaced: Mapping[str, str], last: str
) -> tuple[Any, Any]:
    """Run an example.

    Args:
        name: Of its file.
        folder: Where.
        given: Values for the variables of its first cell of code.
        replaced: Text of its cells that is another here.
        last: An expression that is evaluated after the last cell.

    Returns:
        The notebook with its outputs, and the value of the expression.
    """
    notebook = nbformat.read(REPOSITORY / "examples" / name, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = "\n".join(f"{variable} = {value!r}" for variable, value in given.items())
    for cell in notebook.cells:
        for old, new in replaced.items():
            cell.source = cell.source.replace(old, new)
    asked = nbformat.v4.new_code_cell(f"import json; print(json.dumps({last}))")
    notebook.cells.append(asked)
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook, json.loads(asked.outputs[0].text)


def _outputs(notebook: Any) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


def test_the_article_runs_cell_by_cell(folder: Path, sshd: SshServer) -> None:
    """Attached, submitted, watched, one iteration cancelled, best model used and explained."""
    config = sshd.config()
    notebook, found = run_notebook(
        "article.ipynb",
        folder,
        {
            "username": config["user"],
            "address": config["host"],
            "ssh_port": sshd.port,
            "private_key_file": str(sshd.key_file),
            "known_hosts": str(sshd.known_hosts),
            "iterations": 9,
        },
        {"known_hosts=known_hosts,": "known_hosts=known_hosts, env_manager='local', "
                                     f"python={sys.executable!r},"},
        """{
            "status": details["status"],
            "right": sum(int(a == b) for a, b in zip(digits.target[:10], predicted)),
            "states": states,
            "shapes": [len(shap_values), list(shap_values[0].shape), len(expected_values),
                       len(overall_summary), len(overall_imp),
                       [len(one) for one in per_class_summary],
                       [len(one) for one in per_class_imp]],
            "falls": overall_summary == sorted(overall_summary, reverse=True),
            "each falls": all(one == sorted(one, reverse=True) for one in per_class_summary),
            "best": [best_run.id, found_again.get_best_child().id],
        }""",
    )  # fmt: skip
    assert "Completed" == found["status"]
    assert found["right"] >= 8
    states = {str(number): "Completed" for number in range(8)} | {"8": "Canceled"}
    assert states == found["states"]  # enough come before that one for it to be cancelled in time
    n_classes, shape, *lengths = found["shapes"]
    assert (10, 64) == (n_classes, shape[1])
    assert [10, 64, 64, [64] * 10, [64] * 10] == lengths
    assert found["falls"]
    assert found["each falls"]
    assert found["best"][0] == found["best"][1]
    shown = _outputs(notebook)
    assert "ITERATION   PIPELINE" in shown
    assert "Iteration 8 had not begun; it will not run." in shown
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_a_table_becomes_a_model_that_knows_unseen_rows(folder: Path, sshd: SshServer) -> None:
    """From a CSV file of mixed types over SSH to a score on customers that were kept away."""
    (folder / "churn").symlink_to(REPOSITORY / "examples" / "churn")
    notebook, found = run_notebook(
        "churn.ipynb",
        folder,
        {
            "target": sshd.config(env_manager="local", python=sys.executable),
            "iterations": 3,
            "rows": 1500,
        },
        {},
        """{
            "auc": auc,
            "status": run.status,
            "first": parts.overall_imp[:6],
            "outcome": str(decision.outcome),
            "version": version.number,
            "columns": champion.metadata.signature.inputs.input_names(),
        }""",
    )
    assert "COMPLETED" == found["status"]
    assert found["auc"] > 0.78
    assert {"Contract", "tenure"} & set(found["first"])
    assert ("promoted", 1) == (found["outcome"], found["version"])
    assert {"Contract", "tenure"} < set(found["columns"])
    assert "StandardScaler" in _outputs(notebook)
