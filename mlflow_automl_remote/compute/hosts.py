"""Makes several hosts one Ray cluster: its head beside the agent on the first, a node on others.

What each of them is told is in its workspace: where the head is, and a word that lets it in. The
client only begins it; from then on each host looks after its own node, and ends it by itself.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mlflow_automl_remote.compute.job import Job, Liveness
from mlflow_automl_remote.compute.progress import Progress
from mlflow_automl_remote.compute.ray_cluster import requirement
from mlflow_automl_remote.compute.recipe import agent_recipe
from mlflow_automl_remote.compute.target import Connection, connect
from mlflow_automl_remote.errors import (
    AutoMLRemoteError,
    ConnectFailed,
    ConnectionLost,
    EnvironmentSetupFailed,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.progress import OnProgress
    from mlflow_automl_remote.compute.targets import TargetSpec
    from mlflow_automl_remote.compute.wanted import Wanted

_Each = TypeVar("_Each")
_Result = TypeVar("_Result")

NODE_MODULE: Final = "mlflow_automl_remote.agent.ray_node"
FIRST_PORT: Final = 6379
"""Of the head, where it is free; Ray's own choice."""
CALL_S: Final = 3.0
"""For one host to reach another; longer, and Ray would take it for lost all the time."""
MOST_AT_ONCE: Final = 16
"""Hosts that are made ready at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster of several hosts.

    Attributes:
        host: Address of the head, as the others reach it.
        port: Of the head.
        token: Lets a host in.
    """

    host: str
    port: int
    token: str

    @property
    def address(self) -> str:
        """Give it in Ray's words."""
        return f"{self.host}:{self.port}"


def bring_up(
    head: Connection,
    sweep_id: str,
    wanted: Wanted,
    on_progress: OnProgress,
    *,
    needs_all: bool,
) -> None:
    """Write the cluster of a sweep down on its first host, and begin the nodes of the others.

    What is there already is used again: a host whose node lives is left alone.

    Args:
        head: Connection to the first host, whose agent is started after this.
        sweep_id: Names the workspaces.
        wanted: By the project, of the environment.
        on_progress: Is told what is being done.
        needs_all: Whether a host that cannot be reached is an error; or the sweep does without.

    Raises:
        ConnectFailed: A host cannot be reached from here, or by the others.
        EnvironmentSetupFailed: The environment of one could not be built, or has another Python.
    """
    with contextlib.ExitStack() as stack:
        others = _connected(head.spec.others, stack, on_progress, needs_all=needs_all)
        _prepare(head, others, wanted)
        cluster = _known(head, sweep_id)
        alive = head.job(sweep_id).liveness() is Liveness.ALIVE
        if cluster is None or not alive:
            cluster, own = agree(head, others, cluster)
            _tell(head, sweep_id, cluster, cluster.host)
        else:
            own = [_own_address(other, cluster) for other in others]
        _begin(list(zip(others, own, strict=True)), sweep_id, cluster)


def join(
    head: Connection, spec: TargetSpec, sweep_id: str, wanted: Wanted, on_progress: OnProgress
) -> None:
    """Let one more host take part in a sweep that runs on several.

    Raises:
        ConnectFailed: It cannot be reached, or does not reach the head.
        EnvironmentSetupFailed: Its environment could not be built, or has another Python.
        AutoMLRemoteError: The sweep has no cluster of its own.
    """
    cluster = _known(head, sweep_id)
    if cluster is None:
        raise AutoMLRemoteError(
            "The sweep does not run on several hosts of its own, so no other can join it. Only "
            'one that was submitted with "hosts" can be joined.'
        )
    with contextlib.ExitStack() as stack:
        others = _connected([spec], stack, on_progress, needs_all=True)
        _prepare(head, others, wanted)
        _begin([(others[0], _own_address(others[0], cluster))], sweep_id, cluster)


def abandon(specs: Sequence[TargetSpec], sweep_id: str) -> None:
    """End the nodes of a sweep that did not begin, and remove what they have of it."""
    for spec in specs:
        with contextlib.suppress(AutoMLRemoteError), connect(spec) as connection:
            _remove(connection.job(sweep_id))


def differences(head: Connection, others: Sequence[Connection], wanted: Wanted) -> list[str]:
    """Say in what the hosts differ that has to be the same: Python and the processor's kind."""
    python = python_of(head, wanted)
    found = []
    for other in others:
        own = python_of(other, replace(wanted, python=python))
        if own != python:
            found.append(f"{other.spec.label} would run Python {own}, {head.spec.label} {python}")
        if other.machine.machine != head.machine.machine:
            found.append(
                f"{other.spec.label} is {other.machine.machine}, {head.spec.label} "
                f"{head.machine.machine}"
            )
    return found


def python_of(connection: Connection, wanted: Wanted) -> str:
    """Give the version of Python that a host would run, such as "3.11"."""
    if connection.spec.env_manager == "local":
        return ".".join(map(str, connection.machine.python[:2]))
    return agent_recipe(connection.machine, wanted).python


def _connected(
    specs: Sequence[TargetSpec],
    stack: contextlib.ExitStack,
    on_progress: OnProgress,
    *,
    needs_all: bool,
) -> list[Connection]:
    lock = threading.Lock()
    undo = contextlib.ExitStack()

    def one(spec: TargetSpec) -> Connection | None:
        tell = _named(spec, on_progress, lock)
        try:
            connection = connect(spec, tell)
        except ConnectFailed as error:
            if needs_all:
                raise
            tell(Progress(stage="connect", text=f"The sweep goes on without it. {error}"))
            return None
        with lock:
            undo.push(connection)
        return connection

    with undo:
        found = _all(one, specs)
        stack.push(undo.pop_all())
    return [connection for connection in found if connection is not None]


def _named(spec: TargetSpec, on_progress: OnProgress, lock: threading.Lock) -> OnProgress:
    """Let news of a host say which it is; they come from several threads."""

    def tell(progress: Progress) -> None:
        with lock:
            on_progress(replace(progress, text=f"{spec.host}: {progress.text}", fraction=None))

    return tell


def _all(function: Callable[[_Each], _Result], each: Sequence[_Each]) -> list[_Result]:
    """Do something for all hosts at once, each to its end; then raise what went wrong first."""
    with ThreadPoolExecutor(max(1, min(MOST_AT_ONCE, len(each)))) as pool:
        futures = [pool.submit(function, one) for one in each]
    return [future.result() for future in futures]


def _prepare(head: Connection, others: Sequence[Connection], wanted: Wanted) -> None:
    """Build the environments, all with the Python of the head."""
    unlike = differences(head, others, wanted)
    if unlike:
        raise EnvironmentSetupFailed(
            f"The hosts cannot be one cluster: {'; '.join(unlike)}. Give them the same, or leave "
            "'env_manager' out, so that uv gets the Python."
        )
    same = replace(
        wanted,
        python=python_of(head, wanted),
        requirements=(*wanted.requirements, requirement()),
    )
    _all(lambda other: other.prepare(same), others)


def _known(head: Connection, sweep_id: str) -> Cluster | None:
    """Read what cluster a sweep was begun with; None for one that has none of its own."""
    job = head.job(sweep_id)
    with head.control() as control:
        reply = control.request("status", paths=[str(job.workspace.ray_token)])[0]
    if not reply["exist"][0]:
        return None
    token = job.read_file(job.workspace.ray_token).decode("ascii", "replace")
    try:
        about = json.loads(job.read_file(job.workspace.ray))
        host, _, port = str(about["address"]).rpartition(":")
        return Cluster(host=str(ip_address(host)), port=int(port), token=token)
    except (ValueError, KeyError, TypeError):
        return None


def agree(
    head: Connection, others: Sequence[Connection], before: Cluster | None = None
) -> tuple[Cluster, list[str]]:
    """Find an address at which all reach the head, and of each other one that it reaches.

    Args:
        head: Connection to the first host.
        others: To the others.
        before: What they agreed on earlier.

    Raises:
        ConnectFailed: There is none.

    Returns:
        The cluster, and the addresses of the others in it.
    """
    word = secrets.token_hex(16)
    first_port = FIRST_PORT if before is None else before.port
    with _listening(head, head.spec.address, first_port, word) as (addresses, head_port):
        asked = head.spec.address is not None
        candidates = [each for each in addresses if asked or _is_private(each)]
        call = {"addresses": candidates, "port": head_port, "word": word}
        heard = _all(lambda other: _called(other, call), others)
    host = next((each for each in candidates if all(each in own for own in heard)), None)
    if host is None:
        raise _unreachable(head, others, candidates, heard)
    own = [each[host] for each in heard]
    for other, address in zip(others, own, strict=True):
        with _listening(other, address, FIRST_PORT, word) as (_, port):
            if not _called(head, {"addresses": [address], "port": port, "word": word}):
                raise ConnectFailed(
                    f"{other.spec.label} reaches {head.spec.label}, but is not reached by it at "
                    f"{address}, as Ray needs. Look at the firewall between them."
                )
    token = before.token if before is not None else secrets.token_hex(32)
    return Cluster(host=host, port=head_port, token=token), own


def _own_address(other: Connection, cluster: Cluster) -> str:
    """Give the address of a host, as seen from a head that runs."""
    call = {"addresses": [cluster.host], "port": cluster.port, "word": ""}
    heard = _called(other, call)
    if not heard:
        raise ConnectFailed(
            f"{other.spec.label} does not reach the head of the cluster at {cluster.address}. "
            "Look at the firewall between them, and at whether the sweep still runs."
        )
    return heard[cluster.host]


def _called(caller: Connection, call: Mapping[str, Any]) -> dict[str, str]:
    """Have a host call addresses; give those that answered, each with the caller's own there."""
    source = caller.spec.address or ""
    with caller.control() as control:
        reply = control.request("call", **call, timeout_s=CALL_S, source=source)[0]
    return {
        str(each["address"]): _address(caller, each["own"])
        for each in reply["reached"]
        if each["address"] in call["addresses"]
    }


@contextlib.contextmanager
def _listening(
    host: Connection, address: str | None, port: int, word: str
) -> Iterator[tuple[list[str], int]]:
    """Have a host listen, at one address or at all that it has."""
    addresses = [] if address is None else [address]
    with host.control() as control:
        reply = control.request("listen", addresses=addresses, port=port, word=word)[0]
        try:
            yield [_address(host, each) for each in reply["addresses"]], int(reply["port"])
        finally:
            if not control.is_broken:
                control.request("listen_no_more")


def _address(host: Connection, said: object) -> str:
    """Give an address that a host has said; nothing else may get into the command line of Ray.

    Raises:
        ConnectionLost: It is none.
    """
    try:
        return str(ip_address(str(said)))
    except ValueError as error:
        raise ConnectionLost(f"{host.spec.label} said '{said!s:.80}' for an address.") from error


def _is_private(address: str) -> bool:
    """Whether an address is none of the open internet's: private, or a carrier's own."""
    return not ip_address(address).is_global


def _unreachable(
    head: Connection,
    others: Sequence[Connection],
    candidates: Sequence[str],
    heard: Sequence[Mapping[str, str]],
) -> ConnectFailed:
    deaf = [other.spec.label for other, own in zip(others, heard, strict=True) if not own]
    who = ", ".join(deaf) or "the others together"
    tried = ", ".join(candidates) or "none: it has no private address"
    return ConnectFailed(
        f"{head.spec.label} cannot be reached by {who}; tried {tried}. Look at the firewall "
        f'between them, or name the address that they reach it by: {{"host": '
        f'"{head.spec.host}", "address": "10.0.0.1"}}.'
    )


def _tell(connection: Connection, sweep_id: str, cluster: Cluster, own: str) -> None:
    """Write down on a host which cluster it is part of."""
    workspace = connection.job(sweep_id).workspace
    about = {"address": cluster.address, "own": own, "n_cores": connection.machine.n_cores}
    with connection.control() as control:
        for path, content in (
            (workspace.ray_token, cluster.token.encode()),
            (workspace.ray, json.dumps(about).encode()),
        ):
            control.request("put", content, path=str(path), mode=0o600)


def _begin(members: Sequence[tuple[Connection, str]], sweep_id: str, cluster: Cluster) -> None:
    """Begin the nodes of hosts; all of them, or none."""

    def one(member: tuple[Connection, str]) -> None:
        connection, own = member
        job = connection.job(sweep_id)
        if job.liveness() is Liveness.ALIVE:
            if _known(connection, sweep_id) == cluster:
                return
            job.kill()
        _tell(connection, sweep_id, cluster, own)
        with connection.control() as control:  # there is nothing in it that would be missed
            control.request("put", b"", path=str(job.workspace.published), mode=0o600)
        job.start(connection.prepare(), NODE_MODULE)

    try:
        _all(one, members)
    except BaseException:
        for connection, _ in members:
            with contextlib.suppress(AutoMLRemoteError):
                _remove(connection.job(sweep_id))
        raise


def _remove(job: Job) -> None:
    job.kill(grace_s=2.0)
    job.remove()
