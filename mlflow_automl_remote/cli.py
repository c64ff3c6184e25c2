"""The door of the command line, `automl-remote`: one function a command."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from functools import partial

import click

from mlflow_automl_remote import __version__, arguments, machine_cli, registry_cli, target_cli
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.target_cli import clean_errors

CANCEL_WAIT_S = 20.0
"""How long `cancel` waits for the agent's answer."""


@click.group()
@click.version_option(__version__, package_name="mlflow-automl-remote")
def main() -> None:
    """Run AutoML sweeps on a remote Linux machine over SSH, recorded as nested MLflow runs."""


def _settings_help() -> str:
    """List every setting for `sweep --help`."""
    rows = [
        f"  --{name.replace('_', '-'):<28} {field.description}"
        for name, field in AutoMLConfig.model_fields.items()
    ]
    return "\b\nSettings, which win over the settings file:\n" + "\n".join(rows)


def _given(options: Mapping[str, str | None]) -> list[str]:
    """Give the options of a command that are there as words again."""
    return [
        word
        for name, value in options.items()
        if value is not None
        for word in (f"--{name}", value)
    ]


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog=_settings_help(),
)
@click.option("--settings", help="Settings file.  [default: automl.yaml]")
@click.option("--project", help="Project folder.  [default: that of the settings file]")
@click.option(
    "--backend-config",
    help="Where to run: a JSON object or file, such as the one for mlflow run. "
    "[default: this machine]",
)
@click.option("--experiment-name", help="MLflow experiment.  [default: the current one]")
@click.option("--run-name", help="Name of the parent run.")
@click.option("--no-follow", is_flag=True, help="Return once the sweep has started.")
@click.pass_context
def sweep(context: click.Context, /, no_follow: bool, **options: str | None) -> None:
    """Search for the best pipeline, here or on a machine over SSH."""
    from mlflow_automl_remote import compute, sweep_run, terminal

    begun_at_ms = time.time_ns() // 1_000_000
    with clean_errors():
        asked = arguments.parse_arguments([*_given(options), *context.args])
        settings = asked.config()
        config = arguments.read_backend_config(asked.backend_config)
        no_follow |= arguments.take_follow(config) is False
        target = compute.parse_target(config)
        with terminal.view() as view:
            submitted = sweep_run.submit(
                settings,
                target,
                asked.project_dir,
                open_run=partial(_open_run, asked, begun_at_ms),
                listener=terminal.listener(view),
            )
            if no_follow:
                view.say(f"Follow it: automl-remote follow {submitted.run_id}")
            else:
                terminal.follow(submitted, view)


def _open_run(asked: arguments.SweepArguments, begun_at_ms: int) -> str:
    from mlflow_automl_remote.publishing import parent_run  # with MLflow, which takes seconds

    return parent_run.open_parent(
        experiment_name=asked.experiment_name, run_name=asked.run_name, begun_at_ms=begun_at_ms
    )


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--settings", help="Settings file.  [default: automl.yaml]")
@click.option("--project", help="Project folder.  [default: that of the settings file]")
@click.option("--backend-config", help="Where to load it.  [default: this machine]")
@click.pass_context
def check(context: click.Context, /, **options: str | None) -> None:
    """Load the data where a sweep would, and say what it would make of it, without a sweep.

    Other options are settings, as for `sweep`.
    """
    from mlflow_automl_remote import compute, sweep_run, terminal
    from mlflow_automl_remote.automl import data_script
    from mlflow_automl_remote.data_lines import data_lines

    with clean_errors():
        asked = arguments.parse_arguments([*_given(options), *context.args])
        settings = asked.config()
        project = asked.project_dir
        config = arguments.read_backend_config(asked.backend_config)
        arguments.take_follow(config)  # means nothing here
        target = compute.parse_target(config)
        if target.is_local and target.container is None:
            with contextlib.chdir(project):  # as on a target
                summary = data_script.summarize(data_script.load_data(settings, project))
        else:
            with terminal.view() as view:
                summary = sweep_run.check(settings, target, project, terminal.listener(view))
        for line in data_lines(summary):
            click.echo(terminal.clean(line))


main.add_command(target_cli.target)
machine_cli.add_commands(target_cli.target)
for command in (registry_cli.register, registry_cli.promote, registry_cli.rollback):
    main.add_command(command)


@main.command()
@click.argument("run_id")
@click.option("--take-over", is_flag=True, help="Publish from here even if another client does.")
def follow(run_id: str, *, take_over: bool) -> None:
    """Follow a sweep and publish it, from any machine that reaches store and target."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors(), terminal.view() as view:
        terminal.follow(sweep_run.attach(run_id), view, take_over=take_over)


@main.command()
@click.argument("run_id")
def status(run_id: str) -> None:
    """Say where a sweep stands now."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors():
        sweep = sweep_run.attach(run_id)
        state, liveness = sweep.state()
        for line in terminal.status_lines(state, liveness, sweep.facts.target):
            click.echo(line)


@main.command()
@click.argument("run_id")
@click.option("--iteration", type=int, help="Cancel this iteration only.")
def cancel(run_id: str, iteration: int | None) -> None:
    """Stop a sweep, or one iteration of it; what is finished is kept."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors():
        handled = sweep_run.attach(run_id).cancel(iteration, wait_s=CANCEL_WAIT_S)
        click.echo(terminal.cancel_line(handled, run_id, iteration))


@main.command()
@click.argument("run_id")
@click.option("--iteration", type=int, help="The log of this iteration.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the sweep has ended.")
def logs(run_id: str, iteration: int | None, follow: bool) -> None:
    """Print the log of the agent, or of one iteration."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors():
        for piece in sweep_run.attach(run_id).log(iteration, follow=follow):
            sys.stdout.write(terminal.clean(piece.decode("utf-8", errors="replace")))
        sys.stdout.flush()


@main.command()
@click.argument("run_id")
def resume(run_id: str) -> None:
    """Go on with a sweep that was paused, or whose agent died; what is finished is kept."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors(), terminal.view() as view:
        sweep = sweep_run.attach(run_id)
        sweep.resume(terminal.listener(view))
        terminal.follow(sweep, view)


@main.command()
@click.argument("run_id")
@click.argument("host")
def join(run_id: str, host: str) -> None:
    """Let one more HOST take part in a sweep on several: a name, or {"host": ...} in JSON."""
    from mlflow_automl_remote import compute, sweep_run, terminal

    with clean_errors(), terminal.view() as view:
        spec = compute.parse_joining(host)
        sweep_run.attach(run_id).join(spec, terminal.listener(view))
        view.say(f"{spec.label} takes part as soon as Ray has started there.")


@main.command()
@click.argument("run_id")
def pause(run_id: str) -> None:
    """Begin no more iterations until `resume`; those that run go on to their end."""
    from mlflow_automl_remote import sweep_run, terminal

    with clean_errors():
        handled = sweep_run.attach(run_id).pause(wait_s=CANCEL_WAIT_S)
        click.echo(terminal.pause_line(handled, run_id))


@main.command("continue")
@click.argument("run_id")
@click.option("--iterations", type=int, default=0, help="How many more.")
@click.option("--minutes", type=float, help="Time from now on.  [default: what it had]")
@click.option("--exit-score", type=float, help="End when the primary metric reaches this.")
def continue_(
    run_id: str, *, iterations: int, minutes: float | None, exit_score: float | None
) -> None:
    """Go on with a sweep that has ended: more iterations, or more time."""
    from mlflow_automl_remote import continuing, sweep_run, terminal

    with clean_errors(), terminal.view() as view:
        sweep = sweep_run.attach(run_id)
        continuing.continue_sweep(
            sweep, iterations=iterations, minutes=minutes, exit_score=exit_score
        )
        terminal.follow(sweep, view)


@main.command()
@click.argument("run_id")
@click.option("--iteration", type=int, help="This one only, even if it was cancelled.")
def retry(run_id: str, iteration: int | None) -> None:
    """Run iterations that failed once more, when the sweep has ended."""
    from mlflow_automl_remote import continuing, sweep_run, terminal

    with clean_errors(), terminal.view() as view:
        sweep = sweep_run.attach(run_id)
        continuing.retry(sweep, iteration)
        terminal.follow(sweep, view)


@main.command()
@click.argument("run_id")
@click.option("--iteration", type=int, help="Explain this iteration.  [default: the best]")
def explain(run_id: str, iteration: int | None) -> None:
    """Explain the model of an iteration, on the target, and publish it."""
    from mlflow_automl_remote import explanation_request, terminal

    with clean_errors():
        with terminal.view() as view:
            found = explanation_request.explain_run(
                run_id, iteration, terminal.explaining_listener(view)
            )
        for line in terminal.explanation_lines(found, run_id):
            click.echo(line)
        if not found.is_known or (found.finished is not None and found.finished.reason):
            raise click.exceptions.Exit(1)
