"""A real OpenSSH server for tests: its own port, host key, user key, authorized keys and HOME.

It logs in the user who runs the tests, with HOME and PATH set by the server, so that nothing of
that user's own home is read or written.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_S = 15.0
CLEAN_PATH = "/usr/local/bin:/usr/bin:/bin"
FORWARDED = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
)


def find_sshd() -> str | None:
    """Return the OpenSSH server's program, or None where there is none."""
    return shutil.which(
        "sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", "")
    )


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """Make a key pair; return the private one."""
    bits = ("-b", "2048") if kind == "rsa" else ()
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *bits, "-N", passphrase, "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def public(key: Path) -> str:
    """Return type and body of a key's public half, as known_hosts has them."""
    return " ".join(key.with_name(key.name + ".pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    """Return the SHA256 fingerprint that ssh-keygen shows."""
    answer = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(key)], check=True, capture_output=True, text=True
    )
    return answer.stdout.split()[1]


@dataclass
class SshServer:
    """A server that can be started, stopped and started again on the same port."""

    folder: Path
    port: int
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.key_file.exists():
            make_key(self.key_file)
            make_key(self.host_key)
        shutil.copy(self.key_file.with_name("user_key.pub"), self.folder / "authorized_keys")
        self.known_hosts.write_text(f"{self.name} {public(self.host_key)}\n")

    @property
    def name(self) -> str:
        """The server as known_hosts spells it."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def home(self) -> Path:
        """HOME of the account, as seen through this server."""
        return self.folder / "home"

    @property
    def key_file(self) -> Path:
        """The private key that is let in."""
        return self.folder / "user_key"

    @property
    def host_key(self) -> Path:
        """The server's private key."""
        return self.folder / "host_key"

    @property
    def known_hosts(self) -> Path:
        """A file that vouches for the host key."""
        return self.folder / "known_hosts"

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.folder / "sshd.log").read_text(errors="replace")

    def config(self, **changes: object) -> dict[str, object]:
        """Return a backend config for this server; None takes a key away."""
        config: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
        }
        return {key: value for key, value in (config | changes).items() if value is not None}

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        self._write_config()
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(find_sshd()), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start:\n{self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as sock:
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False

    def _write_config(self) -> None:
        forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        variables = {"HOME": str(self.home), "PATH": CLEAN_PATH, **forwarded, **self.variables}
        options = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.host_key),
            "PidFile": "none",
            "AuthorizedKeysFile": str(self.folder / "authorized_keys"),
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "LogLevel": "VERBOSE",
            "SetEnv": " ".join(f'"{name}={value}"' for name, value in variables.items()),
            **self.options,
        }
        lines = [f"{name} {value}\n" for name, value in options.items()]
        (self.folder / "sshd_config").write_text("".join(lines))

    def sessions(self) -> list[int]:
        """Return the processes that serve connections."""
        return _children(self._process.pid) if self._process is not None else []

    def kill_sessions(self) -> int:
        """Cut all connections at once, as a lost network would; return how many there were."""
        pids = self.sessions()
        below = [child for pid in pids for child in _children(pid)]
        for pid in (*pids, *below):
            with contextlib.suppress(OSError):
                if _name(pid).startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)
        return len(pids)

    def stop(self) -> None:
        """Stop listening and cut all connections; jobs that were started go on."""
        if self._process is not None:
            self.kill_sessions()
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self) -> SshServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running_sshd(
    folder: Path,
    variables: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Iterator[SshServer]:
    """Run a server whose files are in a folder.

    Args:
        folder: Made if need be.
        variables: Environment of every command, beside HOME and PATH.
        options: Lines of sshd_config that replace the usual ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = SshServer(folder, free_port(), variables or {}, options or {})
    with server:
        yield server
