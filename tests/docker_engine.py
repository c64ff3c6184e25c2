"""A container that stands for a bare virtual machine in tests: only python3 and openssh-server.

An engine that answers is used as it is. Where none does, root gets one of its own that is gone at
the end. The image comes from debootstrap, not from a registry.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import platform
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
from docker.errors import ImageNotFound
from sshd import FORWARDED, free_port, make_key

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

IMAGE = "automl-remote-test-vm"
ACCOUNT = "ada"
DEFAULT_URL = "unix:///var/run/docker.sock"
START_LOCK = Path("/tmp/automl-remote-test-dockerd.lock")
START_S = 30.0
ENGINE_START_S = 120.0
"""For an engine within a machine, which begins with its SSH server and is ready later."""
STOP_S = 30.0
ANSWER_S = 300
"""For an engine to say something; to remove a machine with its files takes a slow disk a while."""
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LEFT_OUT = ("./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*")
"""Not in the image: what the engine makes itself and what no program reads."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BOOT = f"""
set -e
if ! id {ACCOUNT} 2>/dev/null; then
    rm -f /etc/ssh/ssh_host_*_key*
    ssh-keygen -A
    mkdir -p /run/sshd
    useradd --create-home --shell /bin/bash --password '*' {ACCOUNT}
fi
exec /usr/sbin/sshd -D -e
"""
"""What the container runs: the first time it makes what an installer makes on a machine."""
OF_AN_ENGINE = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG")
"""What a container with an engine in it may beside the usual; all there is would be refused where
the tests themselves run in a container."""
BOOT_ENGINE = f"""
set -e
mount -o remount,bind,rw /sys/fs/cgroup
for controller in /sys/fs/cgroup/*/; do
    ! mountpoint -q "$controller" || mount -o remount,bind,rw "$controller"
done
mkdir -p /run/sshd
if ! id {ACCOUNT} 2>/dev/null; then
    rm -f /etc/ssh/ssh_host_*_key*
    ssh-keygen -A
    ldconfig
    groupadd docker
    useradd --create-home --shell /bin/bash --password '*' {ACCOUNT}
fi
dockerd --host unix:///run/docker.sock --host "$1" --bridge none --iptables=false \\
    --ip6tables=false --ip-forward=false >>/var/log/dockerd 2>&1 &
exec /usr/sbin/sshd -D -e -p "$0" -o ListenAddress=127.0.0.1
"""
"""Likewise, for a machine whose account is not in the group `docker` yet."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that has the image of a bare machine."""

    client: DockerClient
    url: str
    image: str


@contextlib.contextmanager
def engine() -> Iterator[tuple[DockerClient, str]]:
    """Give a Docker engine and its address: the one that answers, or one started for now."""
    url = os.environ.get("DOCKER_HOST", DEFAULT_URL)
    if not _listens(url):
        with own_engine(url) as daemon, daemon.client() as client:
            yield client, f"unix://{daemon.socket}"
    else:
        with contextlib.closing(docker.from_env()) as client:
            yield client, url


def _listens(url: str) -> bool:
    """Tell whether somebody listens; the SDK, asked in vain, would leave a socket open."""
    if not url.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(url.removeprefix("unix://")) == 0


@contextlib.contextmanager
def own_engine(
    url: str = DEFAULT_URL, *options: str, data: Path | None = None
) -> Iterator[Daemon]:
    """Start dockerd with folders of its own and without the usual bridge.

    Args:
        url: What was asked in vain, to say so where none can be started.
        *options: More of dockerd's command line.
        data: Where it keeps images; None for a folder that is gone afterwards.
    """
    program = shutil.which("dockerd", path=SYSTEM_PATH + ":" + os.environ.get("PATH", ""))
    if os.getuid() != 0 or program is None:
        pytest.skip(f"no Docker engine answers at {url}, and only root with dockerd can start one")
    # A short path, because the engine's sockets are below it and may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="dockerd-", dir="/tmp"))
    daemon = Daemon(program, folder, options, data or folder / "data")
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()
        for namespace in (folder / "exec" / "netns").glob("*"):  # it leaves them mounted
            subprocess.run(["umount", "--lazy", namespace], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


class Daemon:
    """A Docker engine that can be stopped and started again."""

    def __init__(self, program: str, folder: Path, options: tuple[str, ...], data: Path) -> None:
        self._program, self._folder, self._options, self._data = program, folder, options, data
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "socket"

    @contextlib.contextmanager
    def client(self) -> Iterator[DockerClient]:
        """Give a client of it."""
        url = f"unix://{self.socket}"
        with contextlib.closing(docker.DockerClient(url, timeout=ANSWER_S)) as client:
            yield client

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder, log = self._folder, self._folder / "log"
        # One after the other: two that begin at once want to make the same rules of the firewall.
        with log.open("ab") as output, START_LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._process = subprocess.Popen(
                [
                    self._program, "--host", f"unix://{self.socket}", "--bridge", "none",
                    *self._options,
                    "--data-root", self._data, "--exec-root", folder / "exec",
                    "--pidfile", folder / "pid",
                ],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            _wait_until_answers(self.socket, self._process, log)

    def stop(self) -> None:
        """Stop it, and its containers."""
        if self._process is not None:
            _end(self._process)
            self._process = None


def _wait_until_answers(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a started engine answers; skip where it cannot run.

    It listens before it is ready, and may give up in between.
    """
    deadline = time.monotonic() + START_S
    while not _answers(path):
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace")[-500:]
            pytest.skip(f"no Docker engine answers, and dockerd does not start here: {last}")
        time.sleep(0.05)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(START_S)
        try:
            sock.connect(str(path))
            sock.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in sock.recv(64)
        except OSError:
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ensure_image(client: DockerClient, folder: Path) -> str:
    """Return the name of the image, made with debootstrap where the engine lacks it.

    Args:
        client: The engine.
        folder: Keeps the root file system between sessions, for engines that are not kept.
    """
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    name = f"{IMAGE}:{suite}"
    try:
        client.images.get(name)
    except ImageNotFound:
        archive = folder / f"{suite}.tar.gz"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                _make_root(suite, archive)
        client.api.import_image_from_file(str(archive), repository=IMAGE, tag=suite)
    return name


def _make_root(suite: str, archive: Path) -> None:
    """Install a minimal system of this machine's own suite and pack it."""
    program = shutil.which("debootstrap", path=SYSTEM_PATH)
    if os.getuid() != 0 or program is None:
        pytest.skip(f"the engine has no image {IMAGE}:{suite}, and making it needs root with it")
    environment = {**os.environ, "PATH": SYSTEM_PATH, "LC_ALL": "C"}
    with tempfile.TemporaryDirectory(dir=archive.parent) as aside:
        root, packed = Path(aside, "root"), Path(aside, "root.tar.gz")
        made = subprocess.run(
            [
                program, "--variant=minbase", "--include=python3,openssh-server",
                suite, root, *_mirrors(suite)[:1],
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"debootstrap {suite} failed:\n{made.stdout[-2000:]}{made.stderr}")
        left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        subprocess.run(
            ["tar", "-C", root, "-I", "gzip -1", *left_out, "-cf", packed, "."],
            check=True,
            env=environment,
        )
        packed.rename(archive)


def _mirrors(suite: str) -> list[str]:
    """Read the package mirrors of this machine; none is left to debootstrap's own choice."""
    apt = Path("/etc/apt")
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    found = []
    for file in filter(Path.exists, lists):
        for line in file.read_text().splitlines():
            kind, _, rest = line.partition(" ")
            words = rest.rpartition("]")[2].split()
            if kind == "deb" and words[1:2] == [suite]:
                found.append(words[0])
    for file in sorted((apt / "sources.list.d").glob("*.sources")):
        for paragraph in file.read_text().split("\n\n"):
            pairs = (line.partition(":") for line in paragraph.splitlines())
            fields = {key.lower(): value.split() for key, _, value in pairs}
            if suite in fields.get("suites", []):
                found += fields.get("uris", [])
    return [mirror for mirror in found if mirror.startswith(("http://", "https://"))]


@dataclass(frozen=True)
class Vm:
    """A running container that is reached as a machine is: over SSH, as a normal user."""

    container: Container
    port: int
    key_file: Path
    known_hosts: Path

    def config(self) -> dict[str, object]:
        """Return a backend config for this machine."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": ACCOUNT,
            "key_file": str(self.key_file),
            "known_hosts": str(self.known_hosts),
        }

    def sh(self, command: str, user: str = ACCOUNT) -> tuple[int, str]:
        """Run a line of shell beside SSH; give its exit status and what it printed."""
        status, output = self.container.exec_run(
            ["sh", "-c", command], user=user, workdir="/", environment={"HOME": f"/home/{ACCOUNT}"}
        )
        assert isinstance(output, bytes)
        assert status is not None
        return status, output.decode(errors="replace").strip()

    def empty_home(self) -> None:
        """Take away all that earlier tests have left in the account."""
        status, output = self.sh("find $HOME -mindepth 1 -delete")
        assert status == 0, output

    def cut_power(self) -> None:
        """Kill everything at once, and boot again."""
        self.container.restart(timeout=0)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Wait for the SSH server itself, not only for the engine's proxy before it."""
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < deadline, self.container.logs().decode(errors="replace")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as sock:
                return sock.recv(4) == b"SSH-"
        except OSError:
            return False


@contextlib.contextmanager
def vm_with_engine(client: DockerClient, image: str, folder: Path) -> Iterator[tuple[Vm, Path]]:
    """Run a container that has a Docker engine of its own; give the engine's socket here, too.

    It is in this machine's network, so that neither engine needs rules of it.

    Args:
        client: The engine.
        image: Name of the image.
        folder: For the user's key, the file that vouches for the host key, and the socket.
    """
    key_file = make_key(folder / "user_key")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="vm-", dir="/tmp") as place:  # a short path, as above
        socket_here = Path(place, "socket")
        container = client.containers.create(
            image,
            ["sh", "-c", BOOT_ENGINE, str(port), f"unix://{socket_here}"],
            name=f"{IMAGE}-{port}",
            labels={IMAGE: ""},
            init=True,
            cap_add=list(OF_AN_ENGINE),
            device_cgroup_rules=["a *:* rwm"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            network_mode="host",
            cgroupns="host",
            tmpfs={"/run": "exec"},
            volumes=["/var/lib/docker", f"{place}:{place}"],
        )
        try:
            container.put_archive("/", pack(_settings(key_file)))
            container.put_archive("/usr/local", pack(_engine_files(), mode=0o755))
            container.start()
            vm = Vm(container, port, key_file, folder / "known_hosts")
            vm.wait_until_up()
            _, host_key = vm.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")
            vm.known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}\n")
            deadline = time.monotonic() + ENGINE_START_S
            while not _answers(socket_here):
                assert time.monotonic() < deadline, vm.sh("tail /var/log/dockerd", "root")[1]
                time.sleep(0.05)
            yield vm, socket_here
        finally:
            container.remove(force=True, v=True)


def _engine_files() -> dict[str, bytes]:
    """Give the programs of an engine, and the libraries that a minimal system may lack."""
    files = {}
    for name in ("dockerd", "containerd", "containerd-shim-runc-v2", "runc"):
        program = shutil.which(name, path=SYSTEM_PATH)
        if program is None:  # Docker Desktop and rootless engines have no such programs to lend
            pytest.skip(f"a machine with an engine of its own needs {name}, which is not here")
        files[f"bin/{name}"] = Path(program).read_bytes()
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        found = [line.split()[2] for line in listed.stdout.splitlines() if " => /" in line]
        libraries = [Path(path) for path in found if not path.endswith(("libc.so.6", "libm.so.6"))]
        files.update({f"lib/{path.name}": path.read_bytes() for path in libraries})
    return files


@contextlib.contextmanager
def private_network(client: DockerClient) -> Iterator[str]:
    """Make a network for containers; give its name."""
    network = client.networks.create(f"{IMAGE}-{free_port()}", driver="bridge", labels={IMAGE: ""})
    try:
        yield str(network.name)
    finally:
        network.remove()


@contextlib.contextmanager
def running_vm(
    client: DockerClient,
    image: str,
    folder: Path,
    network: str,
    variables: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Vm]:
    """Run a container with a port, a host key and a user's key of its own.

    Args:
        client: The engine.
        image: Name of the image.
        folder: For the user's key and the file that vouches for the host key.
        network: That it is in.
        variables: Of the account's environment.
        **options: More of the engine's, for the container.
    """
    key_file = make_key(folder / "user_key")
    port = free_port()
    container = client.containers.create(
        image,
        ["sh", "-c", BOOT],
        name=f"{IMAGE}-{port}",
        network=network,
        ports={"22/tcp": ("127.0.0.1", port)},
        labels={IMAGE: ""},
        **{"hostname": "vm", **options},
    )
    try:
        container.put_archive("/", pack(_settings(key_file, variables)))
        container.start()
        vm = Vm(container, port, key_file, folder / "known_hosts")
        vm.wait_until_up()
        _, host_key = vm.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")
        vm.known_hosts.write_text(f"[127.0.0.1]:{port} {host_key}\n")
        yield vm
    finally:
        container.remove(force=True, v=True)


def _settings(key_file: Path, more: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """Give the files of the container that its image lacks.

    A machine has the proxies, package index and certificates of its own network. A container on
    this machine is in this machine's network, so it is told what this machine is told. The image
    has no certificates at all: without such variables, uv's own are used.
    """
    variables = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    variables.pop("SSL_CERT_DIR", None)
    variables.update(more or {})
    files = {"etc/ssh/authorized_keys": key_file.with_suffix(".pub").read_bytes()}
    if "SSL_CERT_FILE" in variables:
        files[CERTIFICATES[1:]] = Path(variables["SSL_CERT_FILE"]).read_bytes()
        variables["SSL_CERT_FILE"] = CERTIFICATES
    lines = ["AuthorizedKeysFile /etc/ssh/authorized_keys", "UsePAM no"]
    if variables:
        pairs = (f'"{name}={value}"' for name, value in variables.items())
        lines.append(f"SetEnv {' '.join(pairs)}")
    files["etc/ssh/sshd_config.d/test.conf"] = "".join(f"{line}\n" for line in lines).encode()
    return files


def pack(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """Pack files as a tar archive, by their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
