"""The doors: what they import, which words they understand, and what they print."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from mlflow_automl_remote.arguments import parse_arguments, parse_command, read_backend_config
from mlflow_automl_remote.cli import main
from mlflow_automl_remote.compute import Liveness, Progress
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.journal.events import RequestHandled, SweepStarted
from mlflow_automl_remote.journal.replay import Iteration, SweepState
from mlflow_automl_remote.live_table import duration
from mlflow_automl_remote.mlflow_command import check, run_words
from mlflow_automl_remote.states import IterationState
from mlflow_automl_remote.terminal import SweepView, cancel_line, status_lines

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("sklearn", "optuna", "shap", "paramiko", "lightgbm", "xgboost", "matplotlib")


@pytest.mark.parametrize("module", ["backend", "cli", "mlflow_command"])
def test_a_door_is_light(module: str) -> None:
    """Importing a door imports neither the engine's libraries nor the SSH library."""
    code = f"import mlflow_automl_remote.{module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


def test_mlflow_finds_the_backend_by_its_name() -> None:
    """The entry point is what `--backend automl-remote` looks up."""
    (found,) = entry_points(group="mlflow.project_backend", name="automl-remote")
    assert found.load().__name__ == "AutoMLRemoteBackend"


def test_every_setting_is_in_the_help() -> None:
    """`automl-remote sweep --help` lists what can be set."""
    shown = CliRunner().invoke(main, ["sweep", "--help"]).output
    assert all(f"--{name.replace('_', '-')}" in shown for name in AutoMLConfig.model_fields)


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_and_is_in_the_readme(command: str) -> None:
    """A command that nobody can find is none."""
    assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0
    assert f"automl-remote {command}" in (REPOSITORY / "README.md").read_text()


def test_settings_are_words_with_two_dashes() -> None:
    """`--name value`, `--name=value`, with `-` or `_`; the command's own options are taken out."""
    asked = parse_arguments(
        ["--settings", "a/b.yaml", "--n-cross-validations=3", "--seed", "7", "--no-follow"]
    )
    assert {"n_cross_validations": "3", "seed": "7"} == asked.overrides
    assert asked.project_dir == Path("a").resolve()
    assert asked.follow is False


@pytest.mark.parametrize("words", [["seed", "7"], ["--seed"], ["--"], ["-P", "seed=7"]])
def test_other_words_are_refused(words: list[str]) -> None:
    """A word that is no option, or an option without a value."""
    with pytest.raises(ConfigurationError):
        parse_arguments(words)


def test_an_entry_point_must_be_a_sweep() -> None:
    """Quoted values are unquoted; another command is refused with what it must be."""
    asked = parse_command("automl-remote sweep --settings 'my file.yaml' --seed 1", "main")
    assert asked.settings == Path("my file.yaml")
    with pytest.raises(ConfigurationError, match="must begin with 'automl-remote sweep'"):
        parse_command("python train.py", "main")


@pytest.mark.parametrize("text", ["nowhere.json", "[1]", "{", '"vm"'])
def test_a_backend_config_is_a_json_object(text: str) -> None:
    """Missing, a list, not JSON, a string: each is refused."""
    with pytest.raises(ConfigurationError, match="backend config"):
        read_backend_config(text)


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "nowhere.json"],  # another backend
        ["-b", "local", "-c", "nowhere.json"],
        ["-b", "automl-remote"],
        ["-b", "automl-remote", "-c"],
        ["--backend=automl-remote", "--backend-config", '{"target": "local"}'],
    ],
)
def test_only_a_wrong_config_of_ours_ends_the_command(words: list[str]) -> None:
    """What another backend is given, and what MLflow says itself, is left to MLflow."""
    check([".", *words])
    with pytest.raises(SystemExit, match="'nowhere\\.json' cannot be read"):
        check([".", "-bautoml-remote", "-P", "seed=1", "--backend-config=nowhere.json"])


def test_only_mlflow_run_is_looked_at() -> None:
    """Whether it is started as a program or as a module; no other command, no other program."""
    program = ["/usr/bin/python3", "/usr/bin/mlflow", "--env-file", "x", "run", ".", "-b", "b"]
    assert run_words(program[1:], program) == [".", "-b", "b"]
    module = ["python3", "-m", "mlflow", "run", "."]
    assert run_words(["-m", "run", "."], module) == ["."]
    assert run_words(["-m", "run", "."], ["python3", "-m", "other", "run", "."]) is None
    assert run_words(["/usr/bin/mlflow", "ui"], ["python3", "/usr/bin/mlflow", "ui"]) is None
    assert run_words(["run.py", "run"], ["python3", "run.py", "run"]) is None


def state_of(*iterations: Iteration, finished: tuple[int, ...]) -> SweepState:
    started = SweepStarted(
        sweep_id="s", settings={"iterations": 3}, primary_metric="AUC_weighted",
        greater_is_better=True, package_version="0", python_version="3", host_name="vm",
        n_cores=2, memory_bytes=1,
    )  # fmt: skip
    return SweepState(
        started=started,
        started_ms=0,
        iterations={one.number: one for one in iterations},
        finished=finished,
    )


def iteration(number: int, **changes: object) -> Iteration:
    values = {
        "number": number, "scaler": "MaxAbsScaler", "model": "LightGBM", "params": {},
        "proposed_by": "portfolio", "attempt": 1, "started_ms": 0, "ended_ms": 125_000,
        "state": IterationState.COMPLETED, "score": 0.5, "best": 0.75,
    }  # fmt: skip
    return Iteration(**(values | changes))


def test_rows_appear_as_iterations_end_and_only_once() -> None:
    """Out of order, with the reason of those that failed; plain lines in a file."""
    output = io.StringIO()
    with SweepView(Console(file=output, width=200)) as view:
        late = iteration(0, state=IterationState.TIMED_OUT, score=None, reason="Killed after 5 s.")
        view.state(state_of(iteration(1), finished=(1,)))
        view.state(state_of(iteration(1), late, finished=(1, 0)))
    rows = re.findall(
        r"^ +(\d) +MaxAbsScaler LightGBM +(\S+) +(\S+) +(\S+)$", output.getvalue(), re.M
    )
    assert [("1", "0:02:05", "0.50000", "0.75000"), ("0", "0:02:05", "nan", "0.75000")] == rows
    assert "TIMED_OUT: Killed after 5 s." in output.getvalue()
    assert "AUC_weighted" in output.getvalue()


def test_a_live_line_says_what_is_going_on() -> None:
    """In a terminal the last line counts, names what runs and estimates the time left."""
    output = io.StringIO()
    console = Console(file=output, width=200, force_terminal=True)
    with SweepView(console, clock=lambda: 0.0) as view:
        running = iteration(1, state=IterationState.RUNNING, ended_ms=None, score=None, best=None)
        view.progress(
            Progress(stage="upload", text="Sending uv: 1 of 2 MB", fraction=0.5, is_detail=True)
        )
        view.state(state_of(iteration(0), running, finished=(0,)))
    shown = output.getvalue()
    assert "50%  Sending uv: 1 of 2 MB" in shown
    assert "1/3 iterations  running 1 MaxAbsScaler LightGBM" in shown
    assert "about 0:04:10 left" in shown


def test_text_from_a_target_cannot_drive_the_terminal() -> None:
    """Escape sequences in a name or reason are printed as spaces."""
    output = io.StringIO()
    with SweepView(Console(file=output, width=200)) as view:
        evil = iteration(0, state=IterationState.FAILED, score=None, reason="\x1b[2J\x07gone")
        view.state(state_of(evil, finished=(0,)))
    assert "\x1b" not in output.getvalue()
    assert "\x07" not in output.getvalue()


def test_status_and_cancel_are_told_in_words() -> None:
    """How many have ended, what runs, and what a request to cancel met."""
    running = iteration(1, state=IterationState.RUNNING, ended_ms=None, score=None)
    lines = status_lines(state_of(iteration(0), running, finished=(0,)), Liveness.ALIVE, "vm")
    assert "1 of 3 iterations have ended, 1 run." in lines
    handled = RequestHandled(request_id="r", action="cancel_iteration", outcome="queued")
    assert cancel_line(handled, "id", 2) == "Iteration 2 had not begun; it will not run."
    assert "automl-remote status id" in cancel_line(None, "id", None)
    assert ("", "1:00:01") == (duration(None), duration(3600.6))


def test_no_link_of_the_documentation_is_broken() -> None:
    """Relative links of every Markdown file lead somewhere."""
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]:
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
