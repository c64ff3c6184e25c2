"""How several hosts find addresses by which they reach one another, and what is said if not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import SshServer

from mlflow_automl_remote import compute
from mlflow_automl_remote.compute import Connection, hosts
from mlflow_automl_remote.compute.control import Control
from mlflow_automl_remote.compute.hosts_doctor import examine_all
from mlflow_automl_remote.compute.recipe import NOTHING
from mlflow_automl_remote.errors import AutoMLRemoteError, ConnectFailed, ConnectionLost

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

Pair = tuple[Connection, list[Connection]]


@pytest.fixture
def config(
    sshd: SshServer, own_sshd: SshServer, tmp_path: Path
) -> Callable[..., dict[str, object]]:
    """Gives a backend config of two hosts, which are both this machine, with these addresses."""

    def make(first: str | None, second: str | None) -> dict[str, object]:
        each = [
            {**server.config(root=str(tmp_path / name)), **({"address": at} if at else {})}
            for server, name, at in ((sshd, "first", first), (own_sshd, "second", second))
        ]
        return {"hosts": each, "env_manager": "local", "python": sys.executable}

    return make


@pytest.fixture
def connected(config: Callable[..., dict[str, object]]) -> Iterator[Callable[..., Pair]]:
    """Connects to such a pair."""
    with contextlib.ExitStack() as stack:

        def make(first: str | None, second: str | None) -> Pair:
            spec = compute.parse_target(config(first, second))
            head = stack.enter_context(compute.connect(spec))
            return head, [stack.enter_context(compute.connect(each)) for each in spec.others]

        yield make


def test_hosts_agree_on_the_addresses_that_they_are_told(connected: Callable[..., Pair]) -> None:
    """The head is where the others reach it, and they are where they call from."""
    cluster, own = hosts.agree(*connected("127.0.0.51", "127.0.0.52"))
    assert cluster.host == "127.0.0.51"
    assert cluster.port >= hosts.FIRST_PORT
    assert own == ["127.0.0.52"]
    assert len(cluster.token) == 64
    again, _ = hosts.agree(*connected("127.0.0.51", "127.0.0.52"), cluster)
    assert again == cluster


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("127.0.0.51", "203.0.113.9", "cannot be reached by .*tried 127.0.0.51.*firewall"),
        ("203.0.113.9", "127.0.0.52", "cannot listen at 203.0.113.9"),
    ],
)
def test_hosts_that_do_not_reach_one_another_are_told_apart(
    connected: Callable[..., Pair], first: str, second: str, words: str
) -> None:
    """Before anything is started."""
    with pytest.raises(AutoMLRemoteError, match=words):
        hosts.agree(*connected(first, second))


def test_a_port_of_somebody_else_is_not_taken_for_the_head(
    connected: Callable[..., Pair],
) -> None:
    """Who listens there does not know the word."""
    head, (other,) = connected("127.0.0.51", "127.0.0.52")
    with head.control() as control:
        asked = {"addresses": ["127.0.0.51"], "port": 7000, "word": "ours"}
        port = control.request("listen", **asked)[0]["port"]
        call = {"addresses": ["127.0.0.51"], "port": port, "timeout_s": 2.0, "source": ""}
        with other.control() as caller:
            assert not caller.request("call", **call, word="another")[0]["reached"]
            assert caller.request("call", **call, word="ours")[0]["reached"]
        control.request("listen_no_more")
    with other.control() as caller:
        assert not caller.request("call", **call, word="ours")[0]["reached"]


def test_what_a_host_says_for_its_address_has_to_be_one(
    connected: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into the command line of other hosts."""
    pair = connected("127.0.0.51", "127.0.0.52")
    honest = Control.request

    def request(self: Control, do: str, payload: bytes = b"", **fields: Any) -> Any:
        reply = honest(self, do, payload, **fields)
        return ({**reply[0], "addresses": ["--head"]}, b"") if do == "listen" else reply

    monkeypatch.setattr(Control, "request", request)
    with pytest.raises(ConnectionLost, match="said '--head' for an address"):
        hosts.agree(*pair)


def test_doctor_looks_at_each_host_and_between_them(
    config: Callable[..., dict[str, object]],
) -> None:
    """A host that the other does not reach is a problem, with what to do."""
    spec = compute.parse_target(config("127.0.0.51", "127.0.0.52"))
    found = dict(examine_all(spec))
    assert list(found) == [spec.label, spec.others[0].label, "between them"]
    between = {check.name: check for check in found["between them"]}
    assert {check.verdict for check in between.values()} == {compute.Verdict.OK}, between
    spec = compute.parse_target(config("127.0.0.51", "203.0.113.9"))
    between = {check.name: check for check in dict(examine_all(spec))["between them"]}
    assert between["ports"].verdict is compute.Verdict.PROBLEM
    assert "10002 to 19999" in between["ports"].remedy


def test_a_host_that_is_gone_is_named(
    config: Callable[..., dict[str, object]], own_sshd: SshServer
) -> None:
    """A sweep does not begin without it."""
    spec = compute.parse_target(config("127.0.0.51", "127.0.0.52"))
    own_sshd.stop()
    with compute.connect(spec) as head, pytest.raises(ConnectFailed, match=str(own_sshd.port)):
        hosts.bring_up(head, "a1", NOTHING, lambda progress: None, needs_all=True)
