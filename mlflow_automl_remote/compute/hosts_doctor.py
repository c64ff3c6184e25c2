"""Looks several hosts over as one target: each by itself, then what has to hold between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mlflow_automl_remote.compute import doctor, hosts
from mlflow_automl_remote.compute.checks import Check, ok, problem, warning
from mlflow_automl_remote.compute.own_uv import default_index
from mlflow_automl_remote.compute.recipe import NOTHING
from mlflow_automl_remote.compute.target import Connection, connect
from mlflow_automl_remote.compute.targets import TargetSpec
from mlflow_automl_remote.errors import AutoMLRemoteError

MAX_APART_S: Final = 5.0
"""Between clocks; the order of what happened on two hosts is read from them."""


def examine_all(
    spec: TargetSpec, *, max_concurrent: int | None = None
) -> Iterator[tuple[str, list[Check]]]:
    """Look a target over that may be several hosts.

    Args:
        spec: The target.
        max_concurrent: Iterations at a time that somebody has in mind; of several hosts, the
            cluster decides.

    Yields:
        A heading, empty for a single host, and the checks below it.
    """
    if not spec.others:
        yield "", doctor.examine(spec, max_concurrent=max_concurrent)
        return
    for each in (replace(spec, others=()), *spec.others):
        yield each.label, doctor.examine(each)
    yield "between them", list(_between(spec))


def _between(spec: TargetSpec) -> Iterator[Check]:
    with contextlib.ExitStack() as stack:
        try:
            head, *others = [
                stack.enter_context(connect(each))
                for each in (replace(spec, others=()), *spec.others)
            ]
        except AutoMLRemoteError as error:
            yield problem("hosts", str(error), "All of them are needed for a sweep to begin.")
            return
        yield _versions(head, others)
        yield _ports(head, others)
        yield _clocks([head, *others])


def _versions(head: Connection, others: Sequence[Connection]) -> Check:
    unlike = hosts.differences(head, others, NOTHING)
    if unlike:
        remedy = "Give them the same, or leave 'env_manager' out, so that uv gets the Python."
        return problem("versions", "; ".join(unlike), remedy)
    return ok(
        "versions", f"all run Python {hosts.python_of(head, NOTHING)}, and the same packages"
    )


def _ports(head: Connection, others: Sequence[Connection]) -> Check:
    try:
        cluster = hosts.agree(head, others)[0]
    except AutoMLRemoteError as error:
        return problem("ports", str(error), "Ray needs 6379 and 10002 to 19999, both ways.")
    return ok("ports", f"all reach the head at {cluster.host}, and are reached by it")


def _clocks(all_of_them: Sequence[Connection]) -> Check:
    ahead = [each.probe(default_index())[1] for each in all_of_them]
    text = f"{max(ahead) - min(ahead):.1f} s apart"
    if max(ahead) - min(ahead) > MAX_APART_S:
        remedy = "Times of iterations will not fit together. Start a time service (timesyncd)."
        return warning("clocks", text, remedy)
    return ok("clocks", text)
