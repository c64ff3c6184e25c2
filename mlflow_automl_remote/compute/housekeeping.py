"""Finds out what of ours takes up room on a target, and removes what is not needed any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_automl_remote.compute.job import Liveness
from mlflow_automl_remote.compute.launching import COOKIE
from mlflow_automl_remote.compute.workspace import ray_folder
from mlflow_automl_remote.errors import CommandFailed, ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_automl_remote.compute.control import Control
    from mlflow_automl_remote.compute.workspace import Root


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSweep:
    """A workspace on a target.

    Attributes:
        sweep_id: Names it.
        run_id: The parent run; empty when its client never wrote it down.
        liveness: Of its agent.
        finished: Whether its journal has its last event.
        published: Whether a client has brought all of it to MLflow.
        python: Interpreter of an agent that lives.
        n_bytes: What it takes on disk.
    """

    sweep_id: str
    run_id: str
    liveness: Liveness
    finished: bool
    published: bool
    python: str
    n_bytes: int

    @property
    def is_lost(self) -> bool:
        """Whether its agent died before the end, so that it waits to be resumed."""
        return self.liveness is Liveness.DEAD and not self.finished and bool(self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What of ours is on a target.

    Attributes:
        sweeps: The workspaces.
        shared: (kind, name, bytes) of what sweeps share.
    """

    sweeps: tuple[StoredSweep, ...]
    shared: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What cleaning has done.

    Attributes:
        removed: (what, bytes) of each thing that is gone.
        kept: (what, why) of each sweep that stays.
    """

    removed: tuple[tuple[str, int], ...]
    kept: tuple[tuple[str, str], ...]

    @property
    def n_bytes(self) -> int:
        """What was freed."""
        return sum(n_bytes for _, n_bytes in self.removed)


def take_inventory(control: Control, root: Root) -> Inventory:
    """Ask the helper what there is.

    Raises:
        ConnectionLost: The answer makes no sense.
    """
    reply = control.request("inventory", root=str(root.path))[0]
    try:
        return Inventory(
            sweeps=tuple(_sweep(each) for each in reply["sweeps"]),
            shared=tuple(
                (str(each["kind"]), str(each["name"]), int(each["n_bytes"]))
                for each in reply["shared"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConnectionLost(
            f"The target described its disk in an unknown way: {error}."
        ) from error


def _sweep(facts: Mapping[str, Any]) -> StoredSweep:
    return StoredSweep(
        sweep_id=str(facts["sweep_id"]),
        run_id=str(facts["run_id"]),
        liveness=Liveness(facts["liveness"]),
        finished=bool(facts["finished"]),
        published=bool(facts["published"]),
        python=str(facts["python"]),
        n_bytes=int(facts["n_bytes"]),
    )


def clean(control: Control, root: Root, current: Collection[str], *, discard: bool) -> Cleaned:
    """Remove published workspaces, and what no sweep and not this client needs.

    Args:
        control: The helper on the target.
        root: Our folder there.
        current: Names, among what sweeps share, of what this client would use again.
        discard: Whether dead sweeps go that nobody has published.
    """
    found = take_inventory(control, root)
    removed: list[tuple[PurePosixPath, str, int]] = []
    kept: list[tuple[str, str]] = []
    for sweep in found.sweeps:
        reason = _why_kept(sweep, discard=discard)
        what = f"sweep {sweep.sweep_id}"
        if reason:
            kept.append((what, reason))
        else:
            removed.append((root.sweeps / sweep.sweep_id, what, sweep.n_bytes))
    names = [path.name for path, _, _ in removed]
    control.request("boot_remove", names=names)
    places = [str(path) for path, _, _ in removed]
    control.request("remove_containers", workspaces=places)
    for place in places:  # daemons may have outlived what kept them
        cookie = f"{COOKIE}={place}"
        control.request("kill", cookie=cookie, grace_s=0, agent=f"{place}/agent.json")
    living = [each for each in found.sweeps if each.liveness is not Liveness.DEAD]
    unneeded = _unneeded(found, root, current, living)
    with _locked(control, [path for path, _, _ in unneeded]) as free:
        removed += [each for each in unneeded if each[0] in free]
        gone = [str(path) for path, _, _ in removed]
        sockets = [str(ray_folder(PurePosixPath(place))) for place in places]
        control.request("remove", paths=[*gone, *sockets])
    return Cleaned(
        removed=tuple((what, n_bytes) for _, what, n_bytes in removed), kept=tuple(kept)
    )


@contextlib.contextmanager
def _locked(control: Control, places: Sequence[PurePosixPath]) -> Iterator[set[PurePosixPath]]:
    """Hold the locks of those places that nobody is building, and give these."""
    locks: dict[PurePosixPath, PurePosixPath] = {}
    for place in places:
        if place.parent.name == "data":  # what is in use has a second name
            locks[place] = place
            continue
        lock = place.with_name(f"{place.stem}.lock")
        with contextlib.suppress(CommandFailed):
            if lock not in locks.values():
                control.request("lock", path=str(lock), wait_s=0)
            locks[place] = lock
    try:
        yield set(locks)
    finally:
        if not control.is_broken:
            for lock in {lock for place, lock in locks.items() if lock != place}:
                control.request("unlock", path=str(lock))


def _why_kept(sweep: StoredSweep, *, discard: bool) -> str:
    if sweep.liveness is not Liveness.DEAD:
        return f"its agent is {sweep.liveness}"
    if sweep.published or discard:
        return ""
    if not sweep.run_id:
        return "its client never got to begin it; --discard removes it"
    if sweep.finished:
        return (
            f"it is not published: automl-remote follow {sweep.run_id}, "
            "or remove it with --discard"
        )
    return f"its agent died: automl-remote resume {sweep.run_id}, or remove it with --discard"


def _unneeded(
    found: Inventory, root: Root, current: Collection[str], living: Sequence[StoredSweep]
) -> list[tuple[PurePosixPath, str, int]]:
    """Find what sweeps share and neither a living one nor this client uses."""
    used = {part for sweep in living for part in PurePosixPath(sweep.python).parts}
    return [
        (root.path / kind / name, f"{kind} {name}", n_bytes)
        for kind, name, n_bytes in found.shared
        if name.removesuffix(".tmp") not in current
        and name not in used
        and not name.endswith(".lock")
        and (kind == "environments" or not living)
    ]
