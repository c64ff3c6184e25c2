"""The user's get_data.py, and what is said when it does not work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.data_script import DataOrder, load_data_script, prepare_data
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def _script(folder: Path, text: str) -> Path:
    path = folder / "get_data.py"
    path.write_text(text)
    return path


def test_a_script_may_import_its_neighbours(tmp_path: Path) -> None:
    """Its folder is importable, as if it had been run there."""
    (tmp_path / "neighbour_of_the_script.py").write_text("ROWS = [[1.0], [2.0]]\n")
    path = _script(
        tmp_path,
        "from neighbour_of_the_script import ROWS\ndef get_data():\n"
        "    return {'X': ROWS, 'y': [0, 1]}\n",
    )
    assert load_data_script(path) == {"X": [[1.0], [2.0]], "y": [0, 1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"'get_data.py' has no function get_data\(\)"),
        ("def get_data():\n    return [1]\n", "must return a dict .* Got a list instead"),
        ("def get_data():\n    return 1 / 0\n", "ZeroDivisionError at .*get_data.py, line 2: div"),
        (
            "import json\ndef get_data():\n    return json.loads('{')\n",
            "raised JSONDecodeError at .*get_data.py, line 3",
        ),
        ("import no_such_module\n", "importing get_data.py raised ModuleNotFoundError .* line 1"),
        ("def get_data(:\n", "raised SyntaxError at .*get_data.py, line 1"),
        ("import sys\ndef get_data():\n    sys.exit(3)\n", "raised SystemExit .* line 3: 3"),
    ],
)
def test_a_broken_script_is_named_with_file_and_line(
    tmp_path: Path, text: str, message: str
) -> None:
    """One line says which exception was raised, and where in the user's own file."""
    with pytest.raises(DataError, match=message) as caught:
        load_data_script(_script(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(DataError, match=r"nowhere\.py' does not exist"):
        load_data_script(tmp_path / "nowhere.py")


def test_running_out_of_memory_is_not_taken_for_an_error_of_the_script(tmp_path: Path) -> None:
    """It passes through, so that the executor can tell."""
    with pytest.raises(MemoryError):
        load_data_script(_script(tmp_path, "def get_data():\n    raise MemoryError\n"))


def test_prepared_data_can_be_opened(tmp_path: Path) -> None:
    """The summary says what the folder holds."""
    _script(
        tmp_path, "def get_data():\n    return {'X': [[1], [2], [3], [4]], 'y': list('abab')}\n"
    )
    config = AutoMLConfig.parse({"task": "classification"})
    order = DataOrder(config=config, project=tmp_path, folder=tmp_path / "data")
    summary = prepare_data(order)
    assert (summary.n_rows, summary.n_features, summary.n_classes) == (4, 1, 2)
    assert summary.digest == data.open_dataset(tmp_path / "data").digest
