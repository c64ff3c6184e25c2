"""`automl-remote target create --provider ec2`, against an emulated EC2.

Its machines are names only. So the first boot of one is an sshd of this machine, which gets what
cloud-init would: the host key and the user's key out of the machine's user data.
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from click.testing import CliRunner, Result
from sshd import SshServer, running_sshd
from waiting import wait_until

from mlflow_automl_remote.cli import main
from mlflow_automl_remote.compute import connect, parse_target, saved
from mlflow_automl_remote.providers import MadeMachine, ec2, ec2_api

ENDS = ["--ttl", "8", "--idle-stop", "30"]
OPTIONS = ("instance_type=m6i.xlarge", "open_to=203.0.113.7/32")
CRASH = """
import os, signal, sys
from mlflow_automl_remote.cli import main
from mlflow_automl_remote.providers import ec2
ec2.IMAGE_NAMES = sys.argv.pop(1)
ec2.answers = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""
IMAGE_NAMES = "ubuntu/images/hvm-ssd*/ubuntu-xenial-16.04-{architecture}-server-*"
"""The newest one that the emulation has."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with (tmp_path_factory.mktemp("ec2") / "log").open("wb") as log:
        argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(argv, stdout=log, stderr=log)

    def is_up() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_up)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


@pytest.fixture
def cloud(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty cloud, as its own client sees it."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ec2, "IMAGE_NAMES", IMAGE_NAMES)
    monkeypatch.setattr(ec2_api, "POLL_S", 0.02)
    requests.post(f"{endpoint}/moto-api/reset", timeout=10).raise_for_status()
    return boto3.session.Session().client("ec2")


@pytest.fixture
def boots(cloud: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """What answers for the machine once it runs."""
    with running_sshd(tmp_path / "machine") as server:
        server.stop()
        made = ec2.Ec2._made

        def boot(self: ec2.Ec2, client: Any, machine: dict[str, Any]) -> MadeMachine:
            answer = made(self, client, machine)
            if answer.is_running and not (server.folder / "booted").exists():
                _first_boot(client, machine["InstanceId"], server)
                server.start()
            host = "127.0.0.1" if answer.is_running else ""
            return replace(answer, host=host, port=server.port, user=getpass.getuser())

        monkeypatch.setattr(ec2.Ec2, "_made", boot)
        yield server


def _first_boot(client: Any, machine: str, server: SshServer) -> None:
    """Do with the user data what cloud-init does."""
    config = _user_data(client, machine)
    server.host_key.write_text(config["ssh_keys"]["ed25519_private"])
    keys = "\n".join(config["ssh_authorized_keys"])
    (server.folder / "authorized_keys").write_text(f"{keys}\n")
    (server.folder / "booted").touch()


def _user_data(client: Any, machine: str) -> dict[str, Any]:
    found = client.describe_instance_attribute(InstanceId=machine, Attribute="userData")
    first, _, rest = base64.b64decode(found["UserData"]["Value"]).decode().partition("\n")
    assert first == "#cloud-config"
    return dict(json.loads(rest))


def target(*words: str) -> Result:
    return CliRunner().invoke(main, ["target", *words])


def options(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--option", pair)]


def machines(client: Any) -> list[dict[str, Any]]:
    found = client.describe_instances()["Reservations"]
    every = [one for group in found for one in group["Instances"]]
    return [one for one in every if one["State"]["Name"] != "terminated"]


def groups(client: Any) -> list[dict[str, Any]]:
    found = client.describe_security_groups()["SecurityGroups"]
    return [group for group in found if group["GroupName"].startswith("automl-remote-")]


def test_a_machine_is_made_used_stopped_started_and_taken_away(
    cloud: Any, boots: SshServer
) -> None:
    done = target("create", "big", "--provider", "ec2", *options(*OPTIONS, "disk_gib=80"), *ENDS)
    assert done.exit_code == 0, done.output
    assert "Created target 'big'" in done.output
    (machine,) = machines(cloud)
    assert {"Key": "Name", "Value": "automl-remote big"} in machine["Tags"]
    (group,) = groups(cloud)
    assert [one["GroupId"] for one in machine["SecurityGroups"]] == [group["GroupId"]]
    (rule,) = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert [one["CidrIp"] for one in rule["IpRanges"]] == ["203.0.113.7/32"]
    with connect(parse_target({"target": "big"})) as connection:
        assert connection.machine.system == "Linux"
    listed = target("list").output
    assert "ec2, m6i.xlarge in eu-central-1, since 20" in listed
    assert "off after 8 h, off when idle for 30 min" in listed
    (program, unit) = _user_data(cloud, machine["InstanceId"])["write_files"]
    compile(program["content"], "watch.py", "exec")
    command = f"python3 {program['path']} --account ubuntu --ttl-hours 8 --idle-minutes 30"
    assert f"'{command} && exec systemctl poweroff'" in unit["content"]
    assert "None" in target("strays", "--provider", "ec2").output

    assert target("stop", "big").exit_code == 0
    assert machines(cloud)[0]["State"]["Name"] == "stopped"
    assert target("start", "big").exit_code == 0
    assert machines(cloud)[0]["State"]["Name"] == "running"

    gone = target("destroy", "big")
    assert gone.exit_code == 0, gone.output
    assert machines(cloud) == []
    assert groups(cloud) == []


def test_an_address_that_a_stop_changed_is_followed(
    cloud: Any, boots: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host key stays the one that was vouched for at birth."""
    assert target("create", "big", "--provider", "ec2", *options(*OPTIONS)).exit_code == 0
    made = ec2.Ec2._made
    monkeypatch.setattr(ec2.Ec2, "_made", lambda *given: replace(made(*given), host="localhost"))
    started = target("start", "big")
    assert started.exit_code == 0, started.output
    assert "host         localhost" in target("show", "big").output
    with connect(parse_target({"target": "big"})) as connection:
        assert connection.machine.system == "Linux"
    assert target("destroy", "big").exit_code == 0


def test_a_client_that_dies_in_between_leaves_no_machine_that_nobody_finds(
    cloud: Any, tmp_path: Path
) -> None:
    """It died before it noted anything of the machine; what it noted before is lost too."""
    died = subprocess.run(
        [sys.executable, "-c", CRASH, IMAGE_NAMES, "target", "create", "big",
         "--provider", "ec2", *options(*OPTIONS)],
        env=dict(os.environ), capture_output=True, check=False,
    )  # fmt: skip
    assert died.returncode == -9, died.stderr
    assert len(machines(cloud)) == len(groups(cloud)) == 1
    assert "interrupted" in target("list").output
    config = Path.home() / ".config" / "automl-remote"
    (config / "targets" / "big.json").unlink()
    listed = target("strays", "--provider", "ec2").output
    assert "made for 'big'" in listed
    gone = target("strays", "--provider", "ec2", "--destroy", listed.split()[0])
    assert gone.exit_code == 0, gone.output
    assert machines(cloud) == []
    assert groups(cloud) == []


def test_a_group_without_a_machine_is_found_too(cloud: Any) -> None:
    """EC2 refuses the machine after the group was made: it goes with it."""
    done = target(
        "create", "big", "--provider", "ec2", *options(*OPTIONS, "subnet=subnet-00000000")
    )
    assert done.exit_code == 1
    assert "EC2 refuses DescribeSubnets: InvalidSubnetID.NotFound" in done.output
    assert machines(cloud) == groups(cloud) == []
    assert "None" in target("list").output


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        ((), "'open_to' must say from which addresses"),
        (("open_to=everywhere",), "Got 'everywhere'"),
        (("open_to=203.0.113.7/32", "disk_gib=4"), "8 or more. Got '4'"),
        (("address=both",), "public or private. Got 'both'"),
        (("colour=red",), "has no option 'colour'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_made(
    cloud: Any, pairs: tuple[str, ...], complaint: str
) -> None:
    done = target("create", "big", "--provider", "ec2", *options(*pairs))
    assert done.exit_code == 1
    assert complaint in done.output
    assert machines(cloud) == groups(cloud) == []


def test_another_shell_looks_where_the_machine_was_made(
    cloud: Any, boots: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a crash: the region is saved before anything is made."""
    assert target("create", "big", "--provider", "ec2", *options(*OPTIONS)).exit_code == 0
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    known = saved.load("big")
    assert known.creation is not None
    replace(known, config={}, creation=replace(known.creation, details="", size="")).save()
    assert "interrupted" in target("list").output
    assert target("destroy", "big").exit_code == 0
    assert machines(cloud) == groups(cloud) == []


def test_missing_settings_are_told_in_one_line_and_leave_nothing(
    cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    words = ("create", "big", "--provider", "ec2", *options(*OPTIONS))
    assert "Your AWS settings are wrong: The config profile (nobody)" in target(*words).output
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = target(*words)
    assert done.exit_code == 1
    last = done.output.splitlines()[-1]
    assert last.startswith("Error: AWS is not told who you are: Unable to locate credentials.")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "Give --option region=NAME" in target(*words).output
    assert "None" in target("list").output
