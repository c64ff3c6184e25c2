"""The commands `automl-remote register`, `promote` and `rollback`."""

from __future__ import annotations

from typing import Any

import click

from mlflow_automl_remote.target_cli import REFUSED, clean_errors


@click.command()
@click.argument("run_id")
@click.option("--name", required=True, help="The registered model; made if it is not there.")
@click.option("--iteration", type=int, help="Its model.  [default: the best]")
@click.option("--metric", help="The best model by this metric.  [default: the primary one]")
def register(run_id: str, name: str, iteration: int | None, metric: str | None) -> None:
    """Make a version of a model of a sweep; the same model never has two."""
    from mlflow_automl_remote import promoting

    with clean_errors():
        version = promoting.register(run_id, name, iteration=iteration, metric=metric)
        click.echo(f"{version.name} version {version.number}: {version.uri}")


def _metric_and_number(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> Any:
    """Read METRIC=TOLERANCE words."""
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            found[name] = float(text)
        except ValueError as error:
            raise click.BadParameter(f"METRIC=TOLERANCE, such as accuracy=0.01; got {word}") from (
                error if equals else None
            )
    return found or None


@click.command()
@click.argument("run_id")
@click.option("--name", required=True, help="The registered model; made if it is not there.")
@click.option("--alias", default="champion", show_default=True, help="The alias that moves.")
@click.option("--challenger-alias", help="Alias that the challenger gets before the decision.")
@click.option("--iteration", type=int, help="Its model.  [default: the best]")
@click.option("--min-gain", type=float, help="Least gain in the primary metric.  [default: > 0]")
@click.option(
    "--confidence", type=float, help="That the gain is no chance; 0 to not ask.  [default: 0.95]"
)
@click.option(
    "--max-drop",
    "max_drops",
    multiple=True,
    callback=_metric_and_number,
    help="METRIC=TOLERANCE; may be given several times.",
)
@click.option("--group-by", help="Column by whose values the worst group may not fall.")
@click.option("--max-group-drop", type=float, help="How far it may all the same.  [default: 0]")
@click.option("--max-latency-ms", type=float, help="Of one row, on the target.")
@click.option("--max-size-mb", type=float, help="Of the model's files.")
@click.option("--max-data-age-days", type=float, help="Since the sweep loaded its data.")
@click.option("--any-signature", is_flag=True, help="Do not ask that callers need no change.")
@click.option("--to", "copy_to", help="Registered model that a promoted version is copied to.")
@click.option("--dry-run", is_flag=True, help="Print the table, and move and write nothing.")
@click.option("--force", metavar="REASON", default="", help="Promote all the same; is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
def promote(  # noqa: PLR0913 - one argument for each option that is not a gate
    run_id: str,
    *,
    name: str,
    alias: str,
    challenger_alias: str | None,
    copy_to: str | None,
    iteration: int | None,
    dry_run: bool,
    force: str,
    as_json: bool,
    any_signature: bool,
    **gates: Any,
) -> None:
    """Give a model of a sweep an alias, if it is better than the one that has it.

    Exit status: 0 promoted, or has it already; 3 refused by a gate; 1 it failed.
    """
    import json

    from mlflow_automl_remote import promoting, terminal
    from mlflow_automl_remote.following import Listener
    from mlflow_automl_remote.promotion import report

    asked = {key: value for key, value in gates.items() if value is not None}
    if asked.get("confidence") == 0:
        asked["confidence"] = None
    with clean_errors():
        given = {"name": name, "alias": alias, "challenger_alias": challenger_alias}
        with terminal.view() as view:
            decision = promoting.promote(
                run_id,
                {**given, "copy_to": copy_to, "gates": {**asked, "signature": not any_signature}},
                iteration=iteration,
                force=force,
                dry_run=dry_run,
                listener=Listener() if as_json else terminal.explaining_listener(view),
            )
        if as_json:
            click.echo(json.dumps(report.as_json(decision), indent=1))
        else:
            for line in report.lines(decision):
                click.echo(terminal.clean(line))
    if decision.outcome == "refused":
        raise click.exceptions.Exit(REFUSED)


@click.command()
@click.argument("name")
@click.option("--alias", default="champion", show_default=True, help="The alias that moves back.")
@click.option("--reason", default="", help="Why; is recorded.")
def rollback(name: str, alias: str, reason: str) -> None:
    """Give an alias back to the version that had it before."""
    from mlflow_automl_remote import promoting

    with clean_errors():
        done = promoting.rollback(name, alias, reason=reason)
        click.echo(
            f"'{alias}' of {name} is version {done.back.number} again; it was version "
            f"{done.left.number}."
        )
        if done.skipped:
            click.echo(f"Passed over, since deleted: {', '.join(map(str, done.skipped))}.")
