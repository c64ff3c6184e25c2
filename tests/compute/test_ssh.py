"""Logging in over SSH: host keys are verified, and every refusal says what to do."""

from __future__ import annotations

import inspect
import os
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paramiko
import pytest
from sshd import SshServer, fingerprint, make_key, public, running_sshd

from mlflow_automl_remote.compute import connect, parse_target
from mlflow_automl_remote.compute.control import BOOTSTRAP
from mlflow_automl_remote.compute.ssh import mapped_errors
from mlflow_automl_remote.errors import (
    AuthenticationFailed,
    AutoMLRemoteError,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    EnvironmentSetupFailed,
    HostKeyNotVerifiable,
)


def attempt(server: SshServer, **changes: object) -> None:
    with connect(parse_target(server.config(**changes))):
        pass


def known(tmp_path: Path, text: str) -> str:
    path = tmp_path / "known hosts"
    path.write_text(text)
    return str(path)


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_to_add_it(sshd, tmp_path):
    """The command in the message, run as it stands, makes the next connection work."""
    file = tmp_path / "known"
    file.touch()
    with pytest.raises(HostKeyNotVerifiable, match="is not known") as caught:
        attempt(sshd, known_hosts=str(file))
    assert fingerprint(sshd.host_key) == caught.value.fingerprint
    command = str(caught.value).rpartition("add the key with: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    attempt(sshd, known_hosts=str(file))


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_changed_host_key_is_refused_with_both_fingerprints(sshd, tmp_path, kind):
    """A key of the same type, or one of another type: the host is known by another key."""
    other = make_key(tmp_path / "other", kind)
    with pytest.raises(HostKeyNotVerifiable, match="has changed") as caught:
        attempt(sshd, known_hosts=known(tmp_path, f"{sshd.name} {public(other)}\n"))
    assert fingerprint(other) in str(caught.value)
    assert fingerprint(sshd.host_key) in str(caught.value)


def test_a_revoked_host_key_is_refused_though_it_is_listed(sshd, tmp_path):
    """@revoked wins over an ordinary line."""
    line = f"{sshd.name} {public(sshd.host_key)}\n"
    with pytest.raises(HostKeyNotVerifiable, match="@revoked"):
        attempt(sshd, known_hosts=known(tmp_path, f"{line}@revoked * {public(sshd.host_key)}\n"))


def test_known_hosts_files_are_read_as_openssh_reads_them(sshd, tmp_path):
    """Several keys of a type, other hosts' markers, patterns, hashes and garbage do no harm."""
    other = public(make_key(tmp_path / "other"))
    ours = public(sshd.host_key)
    around = [
        "# a comment",
        "garbage",
        "\x00\xff binary",
        f"@cert-authority *.example.org {other}",
        f"@revoked other.example.org {ours}",
        f"{sshd.name} ssh-ed25519 not-base64!",
        f"{sshd.name} {other}",
    ]
    entries = {
        "plain": f"{sshd.name},[::1]:22 {ours} a comment",
        "pattern": f"[127.0.0.*]:{sshd.port} {ours}",
    }
    for entry in entries.values():
        attempt(sshd, known_hosts=known(tmp_path, "\n".join([*around, entry]) + "\n"))
    hashed = known(tmp_path, f"{sshd.name} {ours}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hashed], capture_output=True, check=True)
    assert Path(hashed).read_text().startswith("|1|")
    attempt(sshd, known_hosts=hashed)
    negated = f"[127.0.0.*]:{sshd.port},!{sshd.name} {ours}\n"
    with pytest.raises(HostKeyNotVerifiable, match="is not known"):
        attempt(sshd, known_hosts=known(tmp_path, negated))


def test_a_key_that_is_not_accepted_is_named(sshd, tmp_path):
    """The message has the user, the host and the key."""
    key = make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationFailed) as caught:
        attempt(sshd, key_file=str(key))
    for word in (str(key), "127.0.0.1", str(sshd.config()["user"]), "authorized_keys"):
        assert word in str(caught.value)


def test_without_a_key_the_message_says_that_there_is_none(sshd):
    """No agent, no key in HOME."""
    with pytest.raises(AuthenticationFailed, match="without a key, and none was found"):
        attempt(sshd, key_file=None)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_encrypted_keys_need_their_passphrase(own_sshd, tmp_path, monkeypatch, kind):
    """Said so when it is missing or wrong; taken from the environment when it is right."""
    key = make_key(tmp_path / "encrypted", kind, passphrase="secret words")
    with (own_sshd.folder / "authorized_keys").open("a") as file:
        file.write(public(key) + "\n")
    with pytest.raises(
        AuthenticationFailed, match=r"encrypted\. Set AUTOML_REMOTE_KEY_PASSPHRASE"
    ):
        attempt(own_sshd, key_file=str(key))
    monkeypatch.setenv("AUTOML_REMOTE_KEY_PASSPHRASE", "wrong")
    with pytest.raises(AuthenticationFailed, match="is not its passphrase"):
        attempt(own_sshd, key_file=str(key))
    monkeypatch.setenv("AUTOML_REMOTE_KEY_PASSPHRASE", "secret words")
    attempt(own_sshd, key_file=str(key))


def test_a_file_that_is_no_key_is_said_to_be_none(sshd, tmp_path):
    """Not a stack trace of the library."""
    (tmp_path / "text").write_text("hello")
    with pytest.raises(AuthenticationFailed, match="cannot be used"):
        attempt(sshd, key_file=str(tmp_path / "text"))


@pytest.mark.parametrize("asked", ["ssh -G", "paramiko"])
def test_an_alias_of_the_ssh_configuration_is_resolved(sshd, tmp_path, monkeypatch, asked):
    """HostName, Port, User, IdentityFile and UserKnownHostsFile come from ~/.ssh/config.

    With an Include and a pattern, whether or not there is an `ssh` to ask.
    """
    folder = Path(os.environ["HOME"]) / ".ssh"
    (folder / "more").mkdir(parents=True)
    if asked == "paramiko":
        monkeypatch.setenv("PATH", str(tmp_path))
    (folder / "config").write_text("Include more/*.conf\nHost other\n Port 1\n")
    with (folder / "config").open("a") as file:
        file.write("Host *\n Port 2\n User nobody-else\n")
    (folder / "more" / "a.conf").write_text(
        f"Host v?\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.config()['user']}\n"
        f" IdentityFile {sshd.key_file}\n UserKnownHostsFile {sshd.known_hosts}\n"
    )
    spec = parse_target({"host": "vm"})
    assert f"{sshd.config()['user']}@vm:{sshd.port}" == spec.label
    with connect(spec):
        pass
    with (folder / "more" / "a.conf").open("a") as file:
        file.write(f" ProxyCommand {sys.executable} -I {_relay(tmp_path)} %h %p\n")
    with connect(spec) as connection:
        assert connection.machine.n_cores >= 1


def _relay(tmp_path: Path) -> Path:
    """Write a program that connects its standard input and output to a port."""
    program = tmp_path / "relay.py"
    program.write_text(
        "import os, socket, sys, threading\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536): sock.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := sock.recv(65536): os.write(1, data)\n"
    )
    return program


@pytest.mark.parametrize("python", ["python3-missing", "/nowhere/python3"])
def test_a_machine_without_python_is_told_what_to_install(sshd, python):
    """The interpreter, the machine and the remedy are in the message."""
    with pytest.raises(EnvironmentSetupFailed) as caught:
        attempt(sshd, python=python)
    for word in (f"'{python}' was not found", "127.0.0.1", "apt-get install python3"):
        assert word in str(caught.value)


def test_a_python_that_is_too_old_is_named_with_its_version(sshd, tmp_path):
    """What the helper needs is said before anything is tried."""
    old = tmp_path / "python3.6"
    old.write_text("#!/bin/sh\necho 'Python 3.6' >&2\nexit 86\n")
    old.chmod(0o755)
    with pytest.raises(EnvironmentSetupFailed, match=r"is Python 3\.6; 3\.8 or newer"):
        attempt(sshd, python=str(old))


def test_an_interpreter_that_fails_is_quoted(sshd):
    """Its own last words are in the message."""
    with pytest.raises(CommandFailed, match="ended with status 1"):
        attempt(sshd, python="false")


def test_noise_of_start_up_files_does_no_harm(tmp_path):
    """A .bashrc that prints on both outputs, even what looks like frames."""
    with running_sshd(tmp_path / "noisy", {"SHLVL": "0"}) as server:
        (server.home / ".bashrc").write_text(
            "echo Welcome; echo automl-remote-0000; printf '\\0\\0\\0\\1\\0\\0'; echo oops >&2\n"
            "head -c 200000 /dev/zero\n"
        )
        said = subprocess.run(
            ["ssh", "-F", "none", "-i", str(server.key_file), "-p", str(server.port),
             "-o", f"UserKnownHostsFile={server.known_hosts}", "127.0.0.1", "true"],
            capture_output=True, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert b"Welcome" in said.stdout, "the noise was not made"
        attempt(server)


def test_a_port_that_nobody_listens_on_is_a_failed_connection(sshd):
    """Refused at once, and said so."""
    with pytest.raises(ConnectFailed, match="refused"):
        attempt(sshd, port=1)


def test_a_server_that_says_nothing_is_given_up(sshd, monkeypatch):
    """A port that accepts and stays silent does not hang the client."""
    monkeypatch.setattr("mlflow_automl_remote.compute.ssh.CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(ConnectFailed):
            attempt(sshd, port=silent.getsockname()[1])
        assert time.monotonic() - begin < 10


def test_a_peer_that_falls_silent_is_noticed(own_sshd, monkeypatch):
    """A stopped helper sends no beats, so a waiting read ends after the silence, not never."""
    monkeypatch.setattr("mlflow_automl_remote.compute.control.SILENCE_S", 1.0)
    monkeypatch.setattr("mlflow_automl_remote.compute.helper.server.BEAT_S", 60.0)
    with connect(parse_target(own_sshd.config())) as connection:
        job = connection.job("sweep-1")
        (helper,) = _helpers(own_sshd)
        os.kill(helper, 19)
        try:
            begin = time.monotonic()
            with pytest.raises(ConnectionLost):
                job.liveness()
            assert time.monotonic() - begin < 5
        finally:
            os.kill(helper, 9)


def _helpers(server: SshServer) -> list[int]:
    """Find the helpers that run for a server's clients."""
    home = f"HOME={server.home}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if home in (folder / "environ").read_bytes() and BOOTSTRAP.encode() in (
                folder / "cmdline"
            ).read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def test_helpers_end_with_their_connection(own_sshd):
    """Nothing of ours is left running on the machine when the client is gone."""
    with connect(parse_target(own_sshd.config())):
        assert len(_helpers(own_sshd)) == 1
    deadline = time.monotonic() + 10
    while _helpers(own_sshd):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_ends_with_the_client_that_wanted_it(own_sshd):
    """What runs through the helper is killed when the connection is cut."""
    with connect(parse_target(own_sshd.config())) as connection, connection.control() as control:
        control.begin("run", argv=["sleep", "4242"], env={}, timeout_s=600)
        deadline = time.monotonic() + 10
        while not _running("sleep\x004242"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        own_sshd.kill_sessions()
        deadline = time.monotonic() + 20
        while _running("sleep\x004242"):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _running(command: str) -> bool:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if command.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False


def test_the_bootstrap_means_the_same_in_every_shell():
    """No quote, backslash, exclamation mark, variable or newline that csh or fish would touch."""
    assert not set("'\\!$`\n") & set(BOOTSTRAP)
    assert f"'{BOOTSTRAP}'" == shlex.quote(BOOTSTRAP)


def _exceptions() -> list[type[BaseException]]:
    modules = (paramiko, paramiko.ssh_exception, socket)
    found = {
        each
        for module in modules
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Exception) and each.__name__[0] != "_"
    }
    return sorted({*found, OSError, EOFError, TimeoutError}, key=lambda each: each.__name__)


@pytest.mark.parametrize("kind", _exceptions(), ids=lambda kind: kind.__name__)
def test_no_exception_of_the_library_gets_through(kind, tmp_path):
    """Every class of paramiko's becomes one of ours, with a text."""
    key = paramiko.Ed25519Key.from_private_key_file(str(make_key(tmp_path / "key")))
    arguments = {
        "BadAuthenticationType": ("no", ["publickey"]),
        "PartialAuthentication": (["password"],),
        "ChannelException": (2, "Connect failed"),
        "BadHostKeyException": ("host", key, key),
        "ProxyCommandFailure": ("nc", 1),
        "NoValidConnectionsError": ({("127.0.0.1", 22): OSError("no")},),
        "AuthFailure": (paramiko.AuthResult(None),),
        "UnknownKeyType": ("sk-ssh", b""),
    }.get(kind.__name__, ())
    with (
        pytest.raises(AutoMLRemoteError, match=r"^vm .+|The connection to vm failed: .+"),
        mapped_errors("vm", ConnectionLost),
    ):
        raise kind(*arguments)


def test_threads_end_with_the_connection(sshd):
    """No thread of the SSH library survives close()."""
    before = threading.active_count()
    with connect(parse_target(sshd.config())):
        assert threading.active_count() > before
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
