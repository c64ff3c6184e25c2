"""Looks a target over before a night depends on it: what is fine, what is not, what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote.compute.checks import FEW_BYTES, Check, ok, problem, warning
from mlflow_automl_remote.compute.machine import MEMORY_PER_ITERATION_BYTES
from mlflow_automl_remote.compute.own_uv import default_index, find_uv
from mlflow_automl_remote.compute.recipe import MIN_AGENT_PYTHON
from mlflow_automl_remote.compute.target import connect
from mlflow_automl_remote.errors import (
    AuthenticationFailed,
    AutoMLRemoteError,
    ConnectFailed,
    EnvironmentSetupFailed,
    HostKeyNotVerifiable,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.credentials import Credentials
    from mlflow_automl_remote.compute.target import Connection
    from mlflow_automl_remote.compute.targets import TargetSpec

    Facts = Mapping[str, Any]  # as the helper's probe documents them

MAX_SKEW_S: Final = 60.0
NEEDED_SESSIONS: Final = 3
"""What a client uses at a time: news, a transfer, and a request beside them."""
TRIED_SESSIONS: Final = 6


def examine(
    spec: TargetSpec, credentials: Credentials | None = None, *, max_concurrent: int | None = None
) -> list[Check]:
    """Connect to a target and look it over; what keeps us out is a check like any other.

    Args:
        spec: The target.
        credentials: Secrets of the login; None takes those of the target.
        max_concurrent: Iterations at a time that somebody has in mind.
    """
    begin = time.monotonic()
    try:
        connection = connect(spec, credentials=credentials)
    except AutoMLRemoteError as error:
        return _kept_out(error)
    with connection:
        text = f"{spec.label} answered in {time.monotonic() - begin:.2f} s"
        checks = [ok("reachability", text)]
        if connection.fingerprint:
            checks.append(ok("host key", f"{connection.fingerprint} is known"))
            checks.append(ok("login", f"as {spec.user}"))
        return [*checks, *_machine_checks(connection, max_concurrent)]


_STAGES: Final = (
    (ConnectFailed, "reachability", "Check host and port, and that a firewall lets you through."),
    (HostKeyNotVerifiable, "host key", "Only its owner can tell whether the key is right."),
    (AuthenticationFailed, "login", "Check user and keys."),
    (EnvironmentSetupFailed, "python3", "Install Python 3.8 or newer there."),
)


def _kept_out(error: AutoMLRemoteError) -> list[Check]:
    """Say at which stage a connection failed; those before it went well."""
    checks: list[Check] = []
    for kind, name, remedy in _STAGES:
        if isinstance(error, kind):
            return [*checks, problem(name, str(error), remedy)]
        checks.append(ok(name, ""))
    remedy = "Look at what the machine's own start-up files and disk are up to."
    return [problem("connection", str(error), remedy)]


def _machine_checks(connection: Connection, max_concurrent: int | None) -> Iterator[Check]:
    facts, skew_s = connection.probe(default_index())
    yield from _clock(skew_s)
    yield from _system(connection, facts)
    yield from _size(connection, facts)
    if max_concurrent is not None:
        yield _concurrency(connection, max_concurrent)
    for name in ("root", "tmp"):
        yield from _disk(name, facts[name])
    yield from _python(connection)
    container = connection.spec.container
    if container is None:
        state = {"ok": "it answers", "no access": "it is there, but not for this account"}
        yield ok("docker", state.get(facts["docker"], "none; it is not needed"))
        yield ok("gpu", _gpus(facts) or "none; it is not needed")
    else:
        from mlflow_automl_remote.compute.container_doctor import container_checks

        yield from container_checks(connection, container, _gpus(facts))
    yield _ray_ports(facts)
    yield from _index(facts)
    yield from _shell(connection)


def _clock(skew_s: float) -> Iterator[Check]:
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if abs(skew_s) > MAX_SKEW_S:
        remedy = "Times in MLflow will be wrong. Set it, or start its time service (timesyncd)."
        yield warning("clock", text, remedy)
    else:
        yield ok("clock", text)


def _system(connection: Connection, facts: Facts) -> Iterator[Check]:
    machine = connection.machine
    text = f"{facts['release'] or machine.system}, {machine.machine}, {machine.libc}"
    if machine.system != "Linux":
        yield problem("system", text, "Only Linux can be a target.")
    elif find_uv() is None or not machine.runs_our_binaries:
        remedy = "This client's uv does not run there: install uv on it."
        yield warning("system", text, remedy)
    else:
        yield ok("system", text)


def _size(connection: Connection, facts: Facts) -> Iterator[Check]:
    machine = connection.machine
    memory, free = machine.memory_bytes / 2**30, facts["memory_free_bytes"]
    available = "" if free is None else f", {free / 2**30:.1f} GiB of it available"
    yield ok("cores", f"{machine.n_cores}")
    text = f"{memory:.1f} GiB{available}; at most {machine.max_concurrent} iterations at a time"
    if machine.max_concurrent < machine.n_cores or (
        free is not None and free < MEMORY_PER_ITERATION_BYTES
    ):
        remedy = "Free some, or take a machine with more: memory decides how much runs at a time."
        yield warning("memory", text, remedy)
    else:
        yield ok("memory", text)


def _concurrency(connection: Connection, asked: int) -> Check:
    most = connection.machine.max_concurrent
    text = f"{asked} iterations at a time"
    if asked <= most:
        return ok("concurrency", text)
    remedy = f"Set 'max_concurrent_iterations' to {most}; a sweep does not run more."
    return warning("concurrency", f"{text} are more than it can carry", remedy)


def _disk(name: str, disk: Facts) -> Iterator[Check]:
    text = f"{disk['path']}: {disk['free_bytes'] / 1e9:.1f} GB free"
    if not disk["writable"]:
        yield problem(name, f"{text}, not writable", _ELSEWHERE[name])
    elif disk["noexec"] and name == "root":
        yield problem(name, f"{text}, mounted noexec", _ELSEWHERE[name])
    elif disk["noexec"]:
        yield warning(name, f"{text}, mounted noexec", _ELSEWHERE[name])
    elif disk["free_bytes"] < FEW_BYTES:
        remedy = "Make room: automl-remote target clean NAME removes what is not needed any more."
        yield warning(name, text, remedy)
    else:
        yield ok(name, text)


_ELSEWHERE: Final = {
    "root": "Set 'root' to a folder on another file system.",
    "tmp": "Set TMPDIR in the account's environment to a folder on another file system.",
}


def _python(connection: Connection) -> Iterator[Check]:
    machine = connection.machine
    text = f"{machine.executable} is {'.'.join(map(str, machine.python))}"
    if machine.python < MIN_AGENT_PYTHON and connection.spec.env_manager == "uv":
        remedy = "uv will download a newer one for sweeps; without egress install 3.11 or newer."
        yield warning("python3", text, remedy)
    else:
        yield ok("python3", text)


def _gpus(facts: Facts) -> str:
    return ", ".join(facts["gpus"])[:200]


def _ray_ports(facts: Facts) -> Check:
    """Say whether a sweep on several machines finds its ports free."""
    busy = facts["busy_ports"]
    if not busy:
        return ok("ray ports", "free")
    shown = ", ".join(map(str, busy[:5])) + (", ..." if len(busy) > 5 else "")
    remedy = "Only for sweeps on several machines: end what listens there."
    return warning("ray ports", f"in use: {shown}", remedy)


def _index(facts: Facts) -> Iterator[Check]:
    if facts["index_error"]:
        remedy = "Give the account a proxy or an index of its own (UV_DEFAULT_INDEX)."
        yield warning("package index", facts["index_error"], remedy)
    elif not facts["index"]:
        yield ok("package index", "not asked: there is no uv here to say which it is")
    else:
        yield ok("package index", "it answers")


def _shell(connection: Connection) -> Iterator[Check]:
    noise = connection.noise()
    if noise:
        remedy = "It does no harm here, but to other programs: let it print only to terminals."
        first = noise.decode("utf-8", "replace").strip().splitlines()
        yield warning(
            "shell", f"start-up files print {len(noise)} bytes: {first[:1]!r:.80}", remedy
        )
    else:
        yield ok("shell", "start-up files are quiet")
    if connection.spec.is_local:
        return
    n_sessions = connection.n_sessions(TRIED_SESSIONS)
    if n_sessions < NEEDED_SESSIONS:
        remedy = f"Set MaxSessions to {NEEDED_SESSIONS} or more in its sshd_config."
        yield warning("sessions", f"only {n_sessions} at a time", remedy)
    else:
        yield ok("sessions", f"{n_sessions} or more at a time")
