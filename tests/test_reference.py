"""The reference: its pages are built without a warning, and its examples run."""

from __future__ import annotations

import doctest
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from user_terminal import BIN, REPOSITORY

import mlflow_automl_remote
from mlflow_automl_remote import automl

IN_ORDER = (
    ("config", "AutoMLConfig"),
    ("errors", "AutoMLRemoteError"),
    ("api", "submit"),
    ("api", "attach"),
    ("submitted", "SweepRun"),
    ("explanations", "retrieve_model_explanation"),
    ("explanations", "explain_model"),
    ("promoting", "register"),
    ("promoting", "promote"),
    ("promoting", "rollback"),
    ("automl.estimator", "Sweep"),
)
"""Each public name with an example; later ones use the run of earlier ones."""


def test_the_example_of_every_public_name_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reference shows is what happens."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(REPOSITORY)
    documented = {name for _, name in IN_ORDER}
    assert {*mlflow_automl_remote.__all__, *automl.__all__} - {"__version__"} == documented
    shared: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    finder = doctest.DocTestFinder(recurse=False)
    for module_name, name in IN_ORDER:
        module = import_module(f"mlflow_automl_remote.{module_name}")
        shared.update(vars(module))
        (test,) = finder.find(getattr(module, name), name, module=False)
        assert test.examples, name
        test.globs = shared
        runner.run(test, clear_globs=False)
    assert 0 == runner.summarize().failed
    shared["run"].close()


def test_the_reference_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page, and every link between them."""
    built = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "reference" / "index.html").read_text()
    for name in mlflow_automl_remote.__all__:
        assert name in page
