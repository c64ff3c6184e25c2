"""`automl-remote target create`: machines that a command makes, found again and taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sshd import SshServer, public, running_sshd

from mlflow_automl_remote.cli import main
from mlflow_automl_remote.compute import Connection, TargetSpec, connect, parse_target
from mlflow_automl_remote.errors import AuthenticationFailed, ConnectFailed
from mlflow_automl_remote.providers import lifecycle, patience

REPOSITORY = Path(__file__).parents[2]
CLOUD = """
import json, os, pathlib, signal, sys, time
cloud, what = pathlib.Path(sys.argv[1]), sys.argv[2]
machines = json.loads((cloud / "machines.json").read_text())
token = os.environ.get("AUTOML_REMOTE_TOKEN")
if what == "create":
    machines[token] = os.environ["AUTOML_REMOTE_NAME"]
    with (cloud / "authorized_keys").open("a") as file:
        file.write(os.environ["AUTOML_REMOTE_PUBLIC_KEY"] + "\\n")
elif what == "destroy":
    while (cloud / "busy").exists():
        time.sleep(0.01)
    machines.pop(token, None)
(cloud / "machines.json").write_text(json.dumps(machines))
if (cloud / "crash").exists() and what == "create":
    os.kill(os.getppid(), signal.SIGKILL)
if (cloud / "fail").exists() and what == "create":
    sys.exit("the quota is used up")
if what == "create":
    print((cloud / "answer.json").read_text())
elif what == "list":
    print(json.dumps([{"token": token, "name": name} for token, name in machines.items()]))
"""


TERRAFORM = """#!{python}
import json, os, pathlib, signal, sys
cloud = pathlib.Path("{cloud}")
what = sys.argv[1]
state = pathlib.Path("terraform.tfstate")
if what == "apply":
    assert pathlib.Path("main.tf").exists()
    (cloud / "host_key").write_text(os.environ["TF_VAR_host_key"] + chr(10))
    (cloud / "authorized_keys").write_text(os.environ["TF_VAR_public_key"] + chr(10))
    os.kill({sshd}, signal.SIGHUP)
    state.write_text(os.environ["TF_VAR_token"])
    print("Apply complete!")
elif what == "output":
    values = json.loads((cloud / "answer.json").read_text())
    names = ("host", "port", "user", "size")
    print(json.dumps({{name: {{"value": values[name]}} for name in names}}))
elif what == "destroy":
    assert state.read_text() == os.environ["TF_VAR_token"]
    (cloud / "destroyed").touch()
"""
"""What the example's script calls: its machine is the SSH server that runs already."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Path]:
    """A cloud of one machine: a script makes it, its SSH server runs already."""
    with running_sshd(tmp_path / "cloud") as server:
        folder = server.folder
        (folder / "machines.json").write_text("{}")
        (folder / "cloud.py").write_text(CLOUD)
        (folder / "answer.json").write_text(json.dumps(_answer(server)))
        (folder / "authorized_keys").write_text("")  # only the key of the order is let in
        yield folder


def _answer(server: SshServer) -> dict[str, object]:
    config = server.config()
    return {
        "host": config["host"],
        "port": config["port"],
        "user": config["user"],
        "host_key": public(server.host_key),
        "size": "2 cores, 4 GiB",
    }


def options(cloud: Path) -> list[str]:
    words = []
    for what in ("create", "destroy", "list"):
        words += ["--option", f"{what}={sys.executable} {cloud}/cloud.py {cloud} {what}"]
    return words


def target(*words: str) -> Result:
    return CliRunner().invoke(main, ["target", *words])


def create(cloud: Path) -> Result:
    return target("create", "made", "--provider", "exec", *options(cloud))


def machines(cloud: Path) -> list[str]:
    return list(json.loads((cloud / "machines.json").read_text()).values())


def test_a_machine_is_made_used_by_name_found_again_and_taken_away(cloud: Path) -> None:
    done = create(cloud)
    assert done.exit_code == 0, done.output
    assert "Created target 'made'" in done.output
    assert machines(cloud) == ["made"]
    with connect(parse_target({"target": "made"})) as connection:
        assert connection.machine.system == "Linux"
    listed = target("list").output
    assert "exec, 2 cores, 4 GiB, since 20" in listed
    again = create(cloud)
    assert "Found existing target 'made'" in again.output
    assert machines(cloud) == ["made"]
    assert "destroy made" in target("detach", "made").output

    folder = Path.home() / ".config" / "automl-remote" / "machines" / "made"
    assert (folder / "key").stat().st_mode & 0o777 == 0o600
    gone = target("destroy", "made")
    assert gone.exit_code == 0, gone.output
    assert machines(cloud) == []
    assert not folder.exists()
    assert "None" in target("list").output


def test_a_person_who_waits_for_a_machine_to_go_is_told_for_how_long(
    cloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SAY_S", 0.01)
    assert create(cloud).exit_code == 0
    (cloud / "busy").touch()
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if len(told) > 2:
            (cloud / "busy").unlink(missing_ok=True)

    lifecycle.destroy("made", say, discard=False)
    assert told[0] == "Taking the machine away"
    assert told[1] == "Taking the machine away, for 0 s"
    assert machines(cloud) == []


def test_a_machine_with_another_host_key_than_was_vouched_for_is_refused(
    cloud: Path, tmp_path: Path
) -> None:
    """Nobody can answer in its place, not even the first time."""
    with running_sshd(tmp_path / "other") as other:
        answer = _answer(other) | {"host_key": "ssh-ed25519 " + "A" * 68}
        (cloud / "answer.json").write_text(json.dumps(answer))
        done = create(cloud)
    assert done.exit_code == 1
    assert "host key" in done.output
    assert machines(cloud) == ["made"]  # it is there to be looked at
    assert target("destroy", "made", "--discard").exit_code == 0
    assert machines(cloud) == []


def test_a_machine_that_boots_refuses_everybody_for_a_while(
    cloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for, and that is told; a key that it never takes is an error."""
    refusals = [AuthenticationFailed("not yet"), ConnectFailed("not yet")]

    def connect_late(spec: TargetSpec) -> Connection:
        if refusals:
            raise refusals.pop()
        return connect(spec)

    monkeypatch.setattr(lifecycle.compute, "connect", connect_late)
    for name in ("POLL_S", "SAY_S"):
        monkeypatch.setattr(lifecycle, name, 0.0)
    done = create(cloud)
    assert done.exit_code == 0, done.output
    assert done.output.count("It does not let us in yet, after 0 s") == 2
    assert target("destroy", "made").exit_code == 0
    refusals.append(AuthenticationFailed("never"))
    monkeypatch.setattr(lifecycle, "BOOT_S", -1.0)
    done = create(cloud)
    assert done.exit_code == 1
    assert "Error: never" in done.output


def test_a_machine_that_cannot_be_made_leaves_nothing(cloud: Path) -> None:
    (cloud / "fail").touch()
    done = create(cloud)
    assert done.exit_code == 1
    assert "ended with status 1: the quota is used up" in done.output
    assert machines(cloud) == []
    assert "None" in target("list").output


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [("no JSON", "must print JSON"), ('{"port": 22}', "no 'host'"), ('{"host": "h"}', "host_key")],
)
def test_an_answer_that_leads_nowhere_is_explained(
    cloud: Path, answer: str, complaint: str
) -> None:
    (cloud / "answer.json").write_text(answer)
    done = create(cloud)
    assert done.exit_code == 1
    assert complaint in done.output
    assert machines(cloud) == []


def test_a_client_that_dies_while_a_machine_is_made_leaves_a_trace_of_it(cloud: Path) -> None:
    """The machine is there, nobody got its answer: it is listed, and can be taken away."""
    (cloud / "crash").touch()
    argv = [Path(sys.executable).with_name("automl-remote"), "target", "create", "made"]
    died = subprocess.run(
        [*argv, "--provider", "exec", *options(cloud)], capture_output=True, check=False
    )
    assert died.returncode == -9
    assert machines(cloud) == ["made"]
    assert "interrupted" in target("list").output
    assert "interrupted" in create(cloud).output
    assert target("destroy", "made").exit_code == 0
    assert machines(cloud) == []


def test_a_machine_that_nobody_remembers_is_found_by_its_owner(cloud: Path) -> None:
    assert create(cloud).exit_code == 0
    assert "None." in target("strays", "--provider", "exec", *options(cloud)).output
    (Path.home() / ".config" / "automl-remote" / "targets" / "made.json").unlink()
    found = target("strays", "--provider", "exec", *options(cloud)).output
    assert "made for 'made'" in found
    token = found.split()[0]
    gone = target("strays", "--provider", "exec", *options(cloud), "--destroy", token)
    assert gone.exit_code == 0, gone.output
    assert machines(cloud) == []


def test_results_that_are_not_in_mlflow_keep_a_machine_from_being_destroyed(
    cloud: Path, project: Path, start_stand_in: Callable[..., object], tmp_path: Path
) -> None:
    assert create(cloud).exit_code == 0
    spec = parse_target({"target": "made", "python": sys.executable, "env_manager": "local"})
    with connect(spec) as connection:
        job = start_stand_in(connection, project, tmp_path)
        job.remember_run("run-7")
        for word in ("stop", "destroy"):
            assert "automl-remote cancel run-7" in target(word, "made").output
        job.kill(grace_s=1.0)
    refused = target("destroy", "made")
    assert refused.exit_code == 1
    assert "automl-remote follow run-7" in refused.output
    assert machines(cloud) == ["made"]
    assert target("destroy", "made", "--discard").exit_code == 0
    assert machines(cloud) == []


def test_the_example_with_terraform_makes_a_machine_whose_host_key_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script of the example makes the key, and what it prints vouches for it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("TERRAFORM_MACHINES", str(tmp_path / "machines"))
    script = REPOSITORY / "examples" / "terraform_exec" / "machine"
    words = [f"--option={what}={script} {what}" for what in ("create", "destroy")]
    with running_sshd(tmp_path / "cloud") as server:
        terraform = tmp_path / "bin" / "terraform"
        pid = server._process.pid
        terraform.write_text(
            TERRAFORM.format(python=sys.executable, cloud=server.folder, sshd=pid)
        )
        terraform.chmod(0o755)
        (server.folder / "answer.json").write_text(json.dumps(_answer(server)))
        done = target("create", "tf", "--provider", "exec", *words)
        assert done.exit_code == 0, done.output
        with connect(parse_target({"target": "tf"})) as connection:
            assert connection.machine.system == "Linux"
        (folder,) = (tmp_path / "machines").iterdir()
        assert (folder / "host_key").stat().st_mode & 0o077 == 0
        gone = target("destroy", "tf")
        assert gone.exit_code == 0, gone.output
        assert (server.folder / "destroyed").exists()
        assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--provider", "mainframe"], "must be one of docker-local, ec2, azure, exec"),
        (["--provider", "exec"], "needs --option create=COMMAND"),
        (["--provider", "exec", "--option", "create"], "must be KEY=VALUE"),
        (
            ["--provider", "exec", "--option", "create=a", "--option", "destroy=b", "--ttl", "1"],
            "leave out --ttl",
        ),
        (["--provider", "exec", "--option", "colour=red"], "has no option 'colour'"),
        (["--provider", "docker-local", "--option", "cores=none"], "must be a number above 0"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_made(words: list[str], complaint: str) -> None:
    done = target("create", "made", *words)
    assert done.exit_code == 1
    assert complaint in done.output
    assert "None" in target("list").output
