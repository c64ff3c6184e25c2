"""What a project's conda.yaml or python_env.yaml has to say about its environment."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from mlflow_automl_remote.compute.requirements import agent_requirements
from mlflow_automl_remote.compute.wanted import Wanted, read_wanted
from mlflow_automl_remote.errors import ConfigurationError

CONDA = """
name: project
channels: [conda-forge]
dependencies:
  - python=3.12
  - numpy=2.1
  - conda-forge::pytorch>=2.4
  - pip
  - pip:
      - scikit-learn==1.7.1
      - mlflow>=2.1
      - -e .
      - ./wheels/ours.whl
      - -r more.txt
"""


def test_a_project_without_such_a_file_wants_nothing(tmp_path: Path) -> None:
    assert read_wanted(tmp_path) == Wanted()


def test_conda_yaml(tmp_path: Path) -> None:
    """Python, conda's packages in the words of Python's index, pip's, and those of its files."""
    (tmp_path / "conda.yaml").write_text(CONDA)
    (tmp_path / "more.txt").write_text("# more\nlightgbm>=4.5  # boosters\n\n")
    wanted = read_wanted(tmp_path)
    assert wanted.python == "3.12"
    assert wanted.channels == ("conda-forge",)
    assert wanted.conda == ("numpy=2.1", "conda-forge::pytorch>=2.4")
    assert wanted.requirements == ("scikit-learn==1.7.1", "mlflow>=2.1", "lightgbm>=4.5")
    assert set(wanted.all_requirements) > {"numpy==2.1.*", "torch>=2.4"}
    assert Wanted.from_json(wanted.as_json().encode()) == wanted


def test_python_env_yaml_and_what_mlproject_names(tmp_path: Path) -> None:
    """MLproject decides; without it python_env.yaml comes first."""
    (tmp_path / "conda.yaml").write_text(CONDA.replace("-r more.txt", "tqdm"))
    (tmp_path / "python_env.yaml").write_text(
        'python: "3.11.7"\nbuild_dependencies: [wheel]\ndependencies: [polars==1.9.0]\n'
    )
    assert read_wanted(tmp_path) == Wanted(python="3.11", requirements=("wheel", "polars==1.9.0"))
    (tmp_path / "MLproject").write_text("conda_env: conda.yaml\n")
    assert read_wanted(tmp_path).python == "3.12"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dependencies: [python=3.8]", "wants Python 3.8, and the agent needs 3.11"),
        ("dependencies: {a: [", "cannot be read"),
        ("just words", "it has no keys"),
        ("dependencies: [{pip: [-r none.txt]}]", "none.txt' cannot be read"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "conda.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        read_wanted(tmp_path)


def test_what_a_project_wants_of_a_package_of_ours_counts_within_our_bounds() -> None:
    """Its version for ours, ours for the rest; MLflow writes for this client."""
    found = agent_requirements(["scikit-learn==1.7.1", "mlflow==2.1", "polars==1.9.0"])
    assert "scikit-learn==1.7.1" in found
    assert [line for line in found if line.startswith("scikit-learn>=")], "our own bound"
    assert "polars==1.9.0" in found
    assert f"mlflow-skinny=={metadata.version('mlflow-skinny')}" in found
    assert f"numpy=={metadata.version('numpy')}" in found
    assert not [line for line in found if line.startswith("mlflow==")]


def test_written_down_nonsense_is_nothing() -> None:
    for text in (b"", b"[]", b'{"python": 1}', b"[" * 100_000):
        assert Wanted.from_json(text) == Wanted()
