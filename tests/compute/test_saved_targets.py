"""`automl-remote target`: attached once, used by name, looked over, cleaned up, forgotten."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sshd import SshServer, fingerprint, make_key, public, running_sshd

from mlflow_automl_remote.cli import main
from mlflow_automl_remote.compute import (
    Credentials,
    Liveness,
    SavedTarget,
    TargetSpec,
    Verdict,
    connect,
    examine,
    parse_target,
    saved,
)
from mlflow_automl_remote.errors import ConfigurationError

SECRET = "planted-secret-5f2a"


def target(*words: object, stdin: str = "") -> Result:
    """Run `automl-remote target WORDS`."""
    return CliRunner().invoke(main, ["target", *map(str, words)], input=stdin)


def attach_words(server: SshServer, *more: object) -> list[object]:
    config = server.config()
    return [
        "attach", "vm", "--host", config["host"], "--port", config["port"],
        "--user", config["user"], "--key-file", config["key_file"], *more,
    ]  # fmt: skip


def test_a_machine_is_attached_once_and_used_by_its_name(sshd: SshServer) -> None:
    """The right fingerprint lets an unknown key in; after that the name is enough."""
    shown = fingerprint(sshd.host_key)
    done = target(*attach_words(sshd, "--fingerprint", shown, "--root", "~/somewhere"))
    assert done.exit_code == 0, done.output
    assert shown in done.output
    assert '{"target": "vm"}' in done.output
    file = Path.home() / ".config" / "automl-remote" / "targets" / "vm.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "vm" in target("list").output
    assert shown in target("show", "vm").output
    spec = parse_target({"target": "vm", "python": sys.executable})
    assert ("vm", sys.executable, "~/somewhere") == (spec.name, spec.python, spec.root)
    with connect(spec) as connection:
        assert connection.fingerprint == shown
    assert target("detach", "vm").exit_code == 0
    assert not file.exists()
    assert "no target 'vm'" in target("show", "vm").output


def test_another_fingerprint_than_expected_is_refused(sshd: SshServer, tmp_path: Path) -> None:
    """Whether the key is known or not; nothing is saved, and no key is added."""
    other = fingerprint(make_key(tmp_path / "other"))
    for more in ((), ("--known-hosts", sshd.known_hosts)):
        done = target(*attach_words(sshd, "--fingerprint", other, *more))
        assert done.exit_code == 1
        assert other in done.output
        assert fingerprint(sshd.host_key) in done.output
    assert saved.saved_names() == ()
    assert not (Path.home() / ".config/automl-remote/known_hosts").exists()


def test_a_changed_key_is_refused_even_when_it_is_the_expected_one(
    sshd: SshServer, tmp_path: Path
) -> None:
    """--fingerprint adds what is unknown; it does not override what is known."""
    known = tmp_path / "known"
    known.write_text(f"{sshd.name} {public(make_key(tmp_path / 'other'))}\n")
    words = ("--known-hosts", known, "--fingerprint", fingerprint(sshd.host_key))
    done = target(*attach_words(sshd, *words))
    assert (done.exit_code, saved.saved_names()) == (1, ())
    assert "has changed" in done.output


@pytest.mark.parametrize(("answer", "n_saved"), [("y", 1), ("n", 0)])
def test_a_person_is_asked_about_an_unknown_key(
    sshd: SshServer, answer: str, n_saved: int
) -> None:
    """At a terminal; without one the answer is no."""
    assert target(*attach_words(sshd)).exit_code == 1
    ours, its = pty.openpty()
    words = [str(word) for word in ("target", *attach_words(sshd))]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("automl-remote")), *words],
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    seen = b""
    while b"right one?" not in seen:
        assert select.select([ours], [], [], 30)[0], seen
        seen += os.read(ours, 4096)
    assert fingerprint(sshd.host_key).encode() in seen
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(30) == (0 if n_saved else 1)
    os.close(ours)
    assert len(saved.saved_names()) == n_saved


@pytest.mark.parametrize("name", ["1vm", "-vm", "a.b", "a/b", "../x", "", "a" * 65, "local", "é"])
def test_a_name_has_letters_digits_hyphens_and_underscores(name: str) -> None:
    """It starts with a letter and has at most 64; nothing else becomes a file name."""
    with pytest.raises(ConfigurationError, match="name has letters, digits"):
        SavedTarget(name=name, config={"host": "vm"}).save()
    SavedTarget(name="A" + "b-_9" * 15 + "xyz", config={"host": "vm"}).save()


def test_secrets_come_by_standard_input_and_are_never_shown(
    own_sshd: SshServer, tmp_path: Path
) -> None:
    """An encrypted key: its passphrase is saved with the target, and used without a variable."""
    key = make_key(tmp_path / "encrypted", passphrase=SECRET)
    with (own_sshd.folder / "authorized_keys").open("a") as file:
        file.write(public(key) + "\n")
    words = attach_words(own_sshd, "--known-hosts", own_sshd.known_hosts, "--passphrase-stdin")
    words[words.index("--key-file") + 1] = key
    assert target(*words, stdin="\n").exit_code == 1
    done = target(*words, stdin=SECRET + "\n")
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output + target("show", "vm").output + repr(saved.load("vm"))
    spec = parse_target({"target": "vm"})
    assert SECRET not in spec.as_json() + repr(spec)
    with connect(spec):
        pass
    file = Path.home() / ".config/automl-remote/targets/vm.json"
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        connect(spec)


def test_saved_secrets_go_to_the_machine_that_they_are_for_and_to_no_other() -> None:
    """A run's tag that names a saved target but another host gets none of its secrets."""
    SavedTarget(
        name="vm",
        config={"host": "vm.example.org", "user": "ada"},
        credentials=Credentials(password=SECRET),
    ).save()
    spec = parse_target({"target": "vm"})
    assert spec.credentials().password == SECRET
    content = json.loads(spec.as_json())
    for change in ({"host": "evil.example.org"}, {"user": "eve"}, {"port": 2222}):
        other = TargetSpec.from_json(json.dumps(content | change))
        assert other.credentials().password is None


def test_a_damaged_file_of_a_target_is_said_to_be_damaged() -> None:
    """Not a traceback; attaching again mends it."""
    path = SavedTarget(name="vm", config={"host": "vm"}).save()
    for text in ("", "[]", "{}", '{"version": 2, "config": {}}', '{"version": 1, "config": 7}'):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"cannot be read.*Attach it again"):
            parse_target({"target": "vm"})


def test_a_jump_host_is_gone_through(sshd: SshServer, own_sshd: SshServer) -> None:
    """The second server sees a connection that came through the first one."""
    folder = Path.home() / ".ssh"
    folder.mkdir()
    (folder / "config").write_text(
        f"Host bastion\n HostName 127.0.0.1\n Port {own_sshd.port}\n"
        f" IdentityFile {own_sshd.key_file}\n UserKnownHostsFile {own_sshd.known_hosts}\n"
    )
    with connect(parse_target(sshd.config(proxy_jump="bastion"))) as connection:
        assert connection.machine.n_cores >= 1
        assert len(own_sshd.sessions()) == 1, "nobody went through the jump host"


def test_the_ssh_agent_is_asked_for_keys(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real ssh-agent with the key in it; no key file is named."""
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        subprocess.run(["ssh-add", "-q", str(sshd.key_file)], check=True, capture_output=True)
        with connect(parse_target(sshd.config(key_file=None))):
            pass
    finally:
        agent.terminate()
        agent.wait()


def test_the_second_of_several_keys_lets_us_in(sshd: SshServer, tmp_path: Path) -> None:
    """They are offered in their order."""
    stranger = make_key(tmp_path / "stranger", "rsa")
    with connect(parse_target(sshd.config(key_file=[str(stranger), str(sshd.key_file)]))):
        pass


def verdicts(server: SshServer, **changes: object) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in examine(parse_target(server.config(**changes)))}


def test_a_doctor_finds_nothing_wrong_with_a_machine_that_is_well(sshd: SshServer) -> None:
    """All that was promised is looked at, and the command ends well."""
    found = verdicts(sshd)
    assert found.keys() >= {
        "reachability", "host key", "login", "clock", "system", "cores", "memory", "root", "tmp",
        "python3", "docker", "gpu", "ray ports", "package index", "shell", "sessions",
    }  # fmt: skip
    assert Verdict.PROBLEM not in found.values()
    done = target("doctor", json.dumps(sshd.config()), "--max-concurrent-iterations", "999")
    assert done.exit_code == 0, done.output
    assert "999 iterations at a time are more than it can carry" in done.output
    assert "-> Set 'max_concurrent_iterations' to" in done.output


def test_a_doctor_says_at_which_door_it_was_kept_out(sshd: SshServer, tmp_path: Path) -> None:
    """Nobody listens, an unknown key, a wrong key, no Python: one problem, with its remedy."""
    (tmp_path / "empty").touch()
    key = make_key(tmp_path / "stranger")
    for stage, changes in {
        "reachability": {"port": 1},
        "host key": {"known_hosts": str(tmp_path / "empty")},
        "login": {"key_file": str(key)},
        "python3": {"python": "python3-missing"},
    }.items():
        *before, last = examine(parse_target(sshd.config(**changes)))
        assert (last.name, last.verdict) == (stage, Verdict.PROBLEM)
        assert last.remedy
        assert all(check.verdict is Verdict.OK for check in before)
    done = target("doctor", json.dumps(sshd.config(port=1)))
    assert done.exit_code == 1
    assert "problem" in done.output


def test_a_doctor_sees_what_is_wrong_with_a_machine(tmp_path: Path) -> None:
    """A noisy shell, one session, a closed index, a TMPDIR without room to run things."""
    variables = {"SHLVL": "0", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "TMPDIR": "/proc"}
    options = {"MaxSessions": "1"}
    with running_sshd(tmp_path / "ill", variables, options) as server:
        (server.home / ".bashrc").write_text("echo Welcome to the machine\n")
        found = verdicts(server)
    expected = {"shell", "sessions", "package index", "tmp"}
    assert expected == {name for name in found if found[name] is not Verdict.OK} & expected


def test_a_doctor_notices_a_clock_that_is_a_day_off(
    sshd: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with its direction, and only a warning: durations are right in any case."""
    now = time.time
    monkeypatch.setattr("mlflow_automl_remote.compute.target.time.time", lambda: now() + 86400)
    (check,) = (each for each in examine(parse_target(sshd.config())) if each.name == "clock")
    assert check.verdict is Verdict.WARNING
    assert "86400.0 s behind" in check.text


@pytest.fixture
def cleaned(sshd: SshServer, tmp_path: Path) -> Callable[..., Result]:
    """A saved target with a sweep on it that has the state that a test wants."""
    root = tmp_path / "root"
    SavedTarget(name="vm", config=sshd.config(root=str(root), env_manager="local")).save()
    return lambda *words: target("clean", "vm", *words)


def test_cleaning_keeps_what_lives_and_what_nobody_has_published(
    cleaned: Callable[..., Result],
    project: Path,
    start_stand_in: Callable[..., object],
    tmp_path: Path,
) -> None:
    """A living sweep always; a dead one until it is published or discarded."""
    with connect(parse_target({"target": "vm"})) as connection:
        job = start_stand_in(connection, project, tmp_path)
        job.remember_run("run-7")
        workspace = Path(job.workspace.path)
        old = tmp_path / "root" / "environments" / ("0" * 32)
        old.mkdir(parents=True)
        (old / "large").write_bytes(bytes(100_000))
        done = cleaned("--discard")
        assert done.exit_code == 0, done.output
        assert "its agent is alive" in done.output
        assert not old.exists()
        assert "0.1 MB were freed" in done.output
        assert workspace.exists()
        job.kill(grace_s=1.0)
        assert job.liveness() is Liveness.DEAD
        assert "automl-remote resume run-7" in cleaned().output
        (lost,) = (each for each in connection.inventory().sweeps if each.is_lost)
        assert lost.run_id == "run-7"
        with (workspace / "journal.jsonl").open("a") as journal:
            journal.write('{"v":1,"type":"SweepFinished","data":{}}\n')
        assert "automl-remote follow run-7" in cleaned().output
        assert workspace.exists()
        job.mark_published()
        assert "removed  sweep sweep-1" in cleaned().output
        assert not workspace.exists()


def test_discarding_removes_a_dead_sweep_that_nobody_has_published(
    cleaned: Callable[..., Result],
    project: Path,
    start_stand_in: Callable[..., object],
    tmp_path: Path,
) -> None:
    """Only when it is asked for."""
    with connect(parse_target({"target": "vm"})) as connection:
        job = start_stand_in(connection, project, tmp_path)
        job.kill(grace_s=1.0)
        assert "kept" in cleaned().output
        assert "removed  sweep sweep-1" in cleaned("--discard").output
        assert not Path(job.workspace.path).exists()
