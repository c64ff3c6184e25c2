"""`automl-remote target create --provider azure`, on an API that a server here plays."""

from __future__ import annotations

import base64
import getpass
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from arm_server import Arm, running_arm
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from click.testing import CliRunner, Result
from sshd import SshServer, running_sshd

from mlflow_automl_remote.cli import main
from mlflow_automl_remote.compute import connect, parse_target
from mlflow_automl_remote.providers import MadeMachine, azure, lifecycle

WISH = ("subscription=s", "location=westeurope", "ssh_from=192.0.2.7/32")


class StaticCredential:
    """Signs in without asking; or is refused."""

    def __init__(self, refused: str = "") -> None:
        self.refused = refused

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        if self.refused:
            raise ClientAuthenticationError(self.refused)
        return AccessToken("planted-token", int(time.time()) + 3600)


def settings(url: str, refused: str = "") -> dict[str, Any]:
    """Lead the SDK to the server here, which has no TLS, so no token is sent to it."""
    return {
        "base_url": url,
        "credential": StaticCredential(refused),
        "authentication_policy": SansIOHTTPPolicy(),
        "polling_interval": 0,
    }


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    with running_arm() as server:
        monkeypatch.setattr(azure, "SETTINGS", settings(server.url))
        yield server


@pytest.fixture
def boots(arm: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """What answers for the machine once it is made, with the keys that it was given."""
    with running_sshd(tmp_path / "machine") as server:
        server.stop()

        def boot(machine: dict[str, Any]) -> None:
            system = machine["properties"]["osProfile"]
            first, _, rest = base64.b64decode(system["customData"]).decode().partition("\n")
            assert first == "#cloud-config"
            server.host_key.write_text(json.loads(rest)["ssh_keys"]["ed25519_private"])
            (key,) = system["linuxConfiguration"]["ssh"]["publicKeys"]
            (server.folder / "authorized_keys").write_text(f"{key['keyData']}\n")
            server.start()

        arm.on_machine = boot
        made = azure._made

        def there(*given: Any) -> MadeMachine:
            return replace(made(*given), port=server.port, user=getpass.getuser())

        monkeypatch.setattr(azure, "_made", there)
        yield server


def target(*words: str) -> Result:
    return CliRunner().invoke(main, ["target", *words])


def create(*pairs: str) -> Result:
    return CliRunner().invoke(main, words(*pairs))


def words(*pairs: str) -> list[str]:
    options = [word for pair in pairs for word in ("--option", pair)]
    return ["target", "create", "big", "--provider", "azure", *options]


def test_a_machine_is_made_stopped_started_and_taken_away(arm: Arm, boots: SshServer) -> None:
    done = create(*WISH)
    assert done.exit_code == 0, done.output
    (group,) = arm.groups()
    assert group["tags"]["automl-remote-target"] == "big"
    (machine,) = arm.parts("virtualMachines")
    assert machine["properties"]["hardwareProfile"] == {"vmSize": "Standard_D2s_v3"}
    assert machine["properties"]["osProfile"]["adminUsername"] == "automl"
    (guard,) = arm.parts("networkSecurityGroups")
    (rule,) = guard["properties"]["securityRules"]
    opened = rule["properties"]
    assert (opened["sourceAddressPrefix"], opened["destinationPortRange"]) == (
        "192.0.2.7/32",
        "22",
    )
    listed = target("list").output
    assert "azure, Standard_D2s_v3: 2 cores, 8 GiB, since 20" in listed
    with connect(parse_target({"target": "big"})) as connection:  # the host key is known
        assert connection.machine.system == "Linux"
    assert "Found existing" in create(*WISH).output

    assert target("stop", "big").exit_code == 0
    assert machine["state"] == "deallocated"
    assert target("stop", "big").exit_code == 0  # it is; nobody connects to it
    assert target("start", "big").exit_code == 0
    assert machine["state"] == "running"
    gone = target("destroy", "big")
    assert gone.exit_code == 0, gone.output
    assert arm.resources == {}
    provider = azure.Azure({"subscription": "s"})
    assert provider.find("gone", "") is None
    provider.destroy("gone", "")  # what is gone already is no error


class Killed(BaseException):
    """Stands for a kill: nobody gets to clean up after it."""


def test_a_client_that_dies_loses_nothing_that_it_made(
    arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group and its network are made, the machine is not."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "_nothing_left", lambda *_: nullcontext())
        patched.setattr(azure.azure_parts, "machine", die)
        with pytest.raises(Killed):
            CliRunner().invoke(main, words(*WISH), catch_exceptions=False)
    assert len(arm.groups()) == 1
    assert "interrupted" in target("list").output
    (Path.home() / ".config" / "automl-remote" / "targets" / "big.json").unlink()
    strays = ("strays", "--provider", "azure", "--option", "subscription=s")
    found = target(*strays).output
    assert "made for 'big'" in found
    gone = target(*strays, "--destroy", found.split()[0])
    assert gone.exit_code == 0, gone.output
    assert arm.resources == {}


@pytest.mark.parametrize(
    ("kind", "error", "complaint"),
    [
        (
            "virtualMachines",
            (409, "OperationNotAllowed", "Operation could not be completed as it exceeds quota."),
            "exceeds quota. Ask Azure for more quota",
        ),
        ("resourcegroups", (403, "AuthorizationFailed", "No."), "administrator has to permit"),
    ],
)
def test_what_azure_refuses_is_one_line_with_a_remedy(
    arm: Arm, kind: str, error: tuple[int, str, str], complaint: str
) -> None:
    arm.refuses[kind] = error
    done = create(*WISH)
    assert done.exit_code == 1
    assert complaint in done.output.splitlines()[-1]
    assert arm.resources == {}
    assert "None" in target("list").output


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        (("location=x",), "needs --option subscription=ID"),
        (("subscription=s",), "needs --option location=NAME"),
        (("subscription=s", "ssh_from=home"), "must be a network such as"),
        (("subscription=s", "image=ubuntu"), "must be PUBLISHER:OFFER:SKU:VERSION"),
        (("subscription=s", "disk_gib=1"), "30 or more"),
        ((*WISH, "vm_size=Huge"), "no machine of size 'Huge' in westeurope"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_made(
    arm: Arm, pairs: tuple[str, ...], complaint: str
) -> None:
    done = create(*pairs)
    assert done.exit_code == 1
    assert complaint in done.output
    assert arm.resources == {}
    assert "None" in target("list").output


def test_a_machine_that_would_go_on_costing_is_not_told_to_switch_itself_off(arm: Arm) -> None:
    done = CliRunner().invoke(main, [*words(*WISH), "--idle-stop", "30"])
    assert done.exit_code == 1
    assert "until it is deallocated" in done.output
    assert arm.resources == {}


def test_who_is_not_signed_in_is_told_how(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "SETTINGS", settings(arm.url, "No credential.\nTried: az."))
    done = create(*WISH)
    assert done.exit_code == 1
    assert done.output == (
        "Error: Azure is not told who you are: No credential. Sign in with: az login\n"
    )
    assert "None" in target("list").output


def test_without_the_sdk_the_command_that_gets_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    done = create(*WISH)
    assert done.exit_code == 1
    assert 'pip install "mlflow-automl-remote[azure]"' in done.output
    assert "None" in target("list").output
