"""Bad input at the doors: one line that says what is wrong, and no run is left RUNNING."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_scripts import WINE
from sshd import SshServer, fingerprint, make_key
from user_terminal import Terminal


def assert_clean_failure(terminal: Terminal, outcome: tuple[int, str], expected: str) -> None:
    """Check for one line of ours, no traceback, and no run that seems to go on."""
    status, output = outcome
    assert status != 0
    assert expected in output
    assert "Traceback" not in output
    assert not [run for run in terminal.runs() if run.info.status == "RUNNING"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"iteratons": 3},
            "Unknown setting 'iteratons'. Did you mean 'iterations'? Known settings",
        ),
        ({"primary_metric": "r2_score"}, "The 'primary_metric' setting must be one of AUC_macro"),
        ({"data_script": "other.py"}, "The data script 'other.py' is missing from the project"),
        ({"iterations": "many"}, "The 'iterations' setting must be"),
    ],
)
def test_wrong_settings(
    terminal: Terminal,
    make_project: Callable[..., Path],
    params: dict[str, object],
    expected: str,
) -> None:
    """Settings are checked before anything is contacted; no run is made."""
    outcome = terminal.mlflow_run(make_project(WINE), {"host": "127.0.0.1", "port": 1}, **params)
    assert_clean_failure(terminal, outcome, expected)
    assert terminal.runs() == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("missing.json", "The backend config 'missing.json' cannot be read: No such file"),
        ("[1]", "must be a JSON object"),
        ("{host: vm}", "The backend config is not JSON"),
        ('{"hots": "vm"}', "Unknown key 'hots' in the backend config. Known keys: host"),
        ('{"host": "vm", "key_file": "nowhere"}', "there is no file"),
        ('{"host": "127.0.0.1", "port": 1}', "127.0.0.1"),
    ],
)
def test_wrong_backend_configs(
    terminal: Terminal, make_project: Callable[..., Path], config: str, expected: str
) -> None:
    """A backend config that is missing, no JSON, a list, or that names no machine."""
    settings = f"{make_project(WINE)}/automl.yaml"
    outcome = terminal.automl_remote("sweep", "--settings", settings, "--backend-config", config)
    assert_clean_failure(terminal, outcome, expected)
    assert terminal.runs() == []


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("missing.json", "The backend config 'missing.json' cannot be read: No such file"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_backend_configs_that_mlflow_itself_stumbles_over(
    terminal: Terminal, make_project: Callable[..., Path], config: str, expected: str
) -> None:
    """MLflow reads the config before it asks the backend, and would show a stack trace."""
    outcome = terminal.run(*terminal.mlflow_run_argv(make_project(WINE)), "-c", config)
    assert_clean_failure(terminal, outcome, expected)
    assert terminal.runs() == []


def test_an_unknown_host_key(
    terminal: Terminal, make_project: Callable[..., Path], vm: SshServer, tmp_path: Path
) -> None:
    """The connection is refused with the key's fingerprint and what to do."""
    (tmp_path / "known_hosts").touch()
    config = vm.config(known_hosts=str(tmp_path / "known_hosts"))
    outcome = terminal.mlflow_run(make_project(WINE), config)
    assert_clean_failure(terminal, outcome, fingerprint(vm.host_key))
    assert "ssh-keyscan" in outcome[1]
    assert terminal.runs() == []


def test_a_wrong_key(
    terminal: Terminal, make_project: Callable[..., Path], vm: SshServer, tmp_path: Path
) -> None:
    """The message names the user, the host and the key."""
    key = make_key(tmp_path / "other_key")
    outcome = terminal.mlflow_run(make_project(WINE), vm.config(key_file=str(key)))
    assert_clean_failure(terminal, outcome, "other_key")
    assert terminal.runs() == []


def test_no_python_on_the_machine(
    terminal: Terminal, make_project: Callable[..., Path], vm: SshServer
) -> None:
    """The message says that python3 is missing there, and how to get it."""
    outcome = terminal.mlflow_run(make_project(WINE), vm.config(python="python3-missing"))
    assert_clean_failure(terminal, outcome, "python3-missing")
    assert terminal.runs() == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (None, "The data script 'get_data.py' is missing from the project"),
        ("def get_data():\n    raise OSError('no disk')\n", "get_data.py, line 2: no disk"),
        ("def get_data():\n    return {'X': [[1], [2]], 'y': [0]}\n", "X has 2 rows and y has 1"),
        ("X = 1\n", "no function get_data()"),
    ],
)
def test_a_wrong_data_script(
    terminal: Terminal, make_project: Callable[..., Path], script: str | None, expected: str
) -> None:
    """What get_data does wrong is said once, and the parent run is FAILED, not RUNNING."""
    outcome = terminal.mlflow_run(make_project(script))
    assert_clean_failure(terminal, outcome, expected)
    assert {run.info.status for run in terminal.runs()} <= {"FAILED"}


def test_a_run_that_is_no_sweep(terminal: Terminal) -> None:
    """`follow` of an unknown id, or of somebody else's run, says so."""
    other = terminal.client.create_run("0").info.run_id
    terminal.client.set_terminated(other)
    for run_id, expected in (
        (other, "is not the parent run of a sweep"),
        ("f" * 32, "cannot be read"),
    ):
        status, output = terminal.automl_remote("follow", run_id)
        assert status == 1
        assert expected in output
        assert "Traceback" not in output
