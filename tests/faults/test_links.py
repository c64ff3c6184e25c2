"""Links and servers that fail while a sweep is followed: it ends with every iteration, once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import SshServer
from waiting import wait_until

from mlflow_automl_remote.compute import connect, control, transport
from mlflow_automl_remote.compute.helper import server
from mlflow_automl_remote.errors import AgentLost


def test_a_dead_peer_is_noticed_within_30_s() -> None:
    """What the other tests shorten: silence is longer than beats are apart, and under 30 s."""
    assert 4 * server.BEAT_S <= transport.SILENCE_S <= 25.0
    assert control.SILENCE_S is transport.SILENCE_S


@contextlib.contextmanager
def reset(playing, sshd: SshServer) -> Iterator[None]:
    """Both ends get a RST."""
    playing.proxy.reset()
    assert playing.proxy.n_reset
    yield


@contextlib.contextmanager
def drop(playing, sshd: SshServer) -> Iterator[None]:
    """Everything is lost and nobody is told, new connections included."""
    playing.proxy.drop()
    yield
    wait_until(lambda: playing.proxy.n_refused)
    assert playing.proxy.n_dropped
    playing.proxy.restore()


@contextlib.contextmanager
def sessions_killed(playing, sshd: SshServer) -> Iterator[None]:
    """The server is there, its sessions are gone."""
    assert sshd.kill_sessions()
    yield


@contextlib.contextmanager
def sshd_stopped(playing, sshd: SshServer) -> Iterator[None]:
    """Nobody listens for a while."""
    sshd.stop()
    yield
    sshd.start()


@contextlib.contextmanager
def paused(playing, sshd: SshServer) -> Iterator[None]:
    """Server, sessions, helpers and agent stand still, as those of a paused machine do."""
    stopped = _processes_of(sshd, playing)
    assert len(stopped) >= 4
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", [reset, drop, sessions_killed, sshd_stopped, paused])
def test_a_link_that_fails_loses_and_doubles_nothing(
    start, undisturbed, own_sshd: SshServer, fault
) -> None:
    """The message tells it, the follower comes back by itself, and the store is the same."""
    playing = start()
    client = playing.follow()
    playing.play(5)
    wait_until(lambda: client.n_seen == 5)
    begin = time.monotonic()
    with fault(playing, own_sshd):
        playing.play(8)
        wait_until(lambda: client.notices)
        assert time.monotonic() - begin < 20, "sooner than in life"
        assert "The sweep goes on; trying again" in client.notices[-1]
    playing.play()
    assert client.result().status.is_finished
    assert playing.store() == undisturbed


def _processes_of(sshd: SshServer, playing) -> list[int]:
    """Give everything on the machine: the server, its sessions, helpers and the agent."""
    agent = json.loads(Path(playing.job.workspace.agent_identity).read_text())["pid"]
    (listener,) = {_parent(pid) for pid in sshd.sessions()}
    found = [listener, agent]
    for pid in found:
        if pid != agent:
            found += [child for child in _children(pid) if child not in found]
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_agent_is_told_with_what_to_do(start) -> None:
    """SIGKILL: no last event, so it is lost and not failed; what was published stays."""
    playing = start()
    client = playing.follow()
    playing.play(6)
    wait_until(lambda: client.n_seen == 6)
    assert playing.job.kill(grace_s=0.0) == ()
    with pytest.raises(AgentLost, match=f"automl-remote resume {playing.run_id}"):
        client.result()


@pytest.mark.parametrize("part", ["download", "journal"])
def test_a_link_that_is_cut_in_the_middle_of_a_transfer(start, undisturbed, part: str) -> None:
    """After so many bytes, wherever that is: again until it is through."""
    playing = start()
    cuts: list[int] = []

    def cut(n_down: int) -> None:
        if n_down > (60_000 if part == "download" else 4_000) * (len(cuts) + 1) and len(cuts) < 3:
            cuts.append(n_down)
            playing.proxy.reset()

    client = playing.follow()
    playing.play(1)
    wait_until(lambda: client.n_seen == 1)
    playing.proxy.n_down = 0
    playing.proxy.on_down = cut
    playing.play()
    assert client.result().status.is_finished
    assert len(cuts) >= 1, "nothing was cut"
    assert playing.store() == undisturbed


def test_one_of_two_clients_publishes_and_the_other_looks_on(start, undisturbed) -> None:
    """The observer sees all and writes nothing, until it takes over; then the first looks on."""
    playing = start()
    first = playing.follow()
    playing.play(4)
    wait_until(lambda: first.n_seen == 4 and playing.has_publisher())
    second = playing.follow()
    wait_until(lambda: second.told("Another client publishes this sweep"))
    assert second.told("--take-over")
    third = playing.follow(take_over=True)
    wait_until(lambda: third.n_seen == 4)
    playing.play(7)
    wait_until(lambda: first.told("Another client"))
    playing.play()
    for client in (first, second, third):
        assert client.result().status.is_finished
    assert not third.told("Another client")
    assert playing.store() == undisturbed
    assert Path(playing.job.workspace.published).exists()


def test_when_the_publisher_is_gone_an_observer_takes_its_place(start, undisturbed) -> None:
    """Nobody has to be told: the right ends with the connection."""
    playing = start()
    with connect(playing.spec) as other, other.job("sweep-0").lease("x") as lease:
        assert lease.ask()
        client = playing.follow()
        playing.play(4)
        wait_until(lambda: client.notices)
        assert client.n_seen == 4
    playing.play()
    assert client.result().status.is_finished
    assert client.notices[-1] == "This client publishes the sweep now."
    assert playing.store() == undisturbed
