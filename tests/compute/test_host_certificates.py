"""Host certificates: a real server shows one, made by ssh-keygen, and OpenSSH's rules decide."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sshd import SshServer, free_port, make_key, public

from mlflow_automl_remote.compute import connect, parse_target
from mlflow_automl_remote.compute.host_certificates import parse
from mlflow_automl_remote.errors import HostKeyNotVerifiable

Serve = Callable[..., SshServer]


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return make_key(tmp_path / "authority")


@pytest.fixture
def serve(tmp_path: Path, authority: Path) -> Iterator[Serve]:
    """Run a server whose host key an authority has signed, as the options of ssh-keygen say."""
    running: list[SshServer] = []

    def start(*options: str, kind: str = "ed25519", signer: Path = authority) -> SshServer:
        folder = tmp_path / f"server-{len(running)}"
        folder.mkdir()
        server = SshServer(folder, free_port())
        key = make_key(folder / "certified", kind)
        subprocess.run(
            ["ssh-keygen", "-q", "-s", str(signer), "-I", "test", *options, f"{key}.pub"],
            check=True,
            capture_output=True,
        )
        certificate = f"{key}-cert.pub"
        server.options = {"HostKey": str(key), "HostCertificate": certificate}
        running.append(server)
        server.start()
        return server

    yield start
    for server in running:
        server.stop()


def attempt(server: SshServer, *lines: str) -> None:
    server.known_hosts.write_text("".join(f"{line}\n" for line in lines))
    with connect(parse_target(server.config())):
        pass


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("signer", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_of_a_trusted_authority_is_enough(
    serve: Serve, tmp_path: Path, kind: str, signer: str
) -> None:
    """No key of the host itself is known; the authority's line covers it by a pattern."""
    key = make_key(tmp_path / "signer", signer)
    server = serve("-h", "-n", "127.0.0.1,vm.example.org", kind=kind, signer=key)
    attempt(server, f"@cert-authority [127.0.0.*]:* {public(key)}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-h", "-n", "other.example.org"), "made out to 'other.example.org' and not to"),
        (("-n", "127.0.0.1"), "made out to a user"),
        (("-h", "-n", "127.0.0.1", "-V", "20200101:20200102"), "has expired"),
        (("-h", "-n", "127.0.0.1", "-V", "21000101:21000102"), "not valid yet"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(
    serve: Serve, authority: Path, options: tuple[str, ...], words: str
) -> None:
    """Another host, a user's, out of its time: each is said."""
    server = serve("-h", "-n", "127.0.0.1")
    path = server.folder / "certified"
    server.stop()
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", *options, f"{path}.pub"],
        check=True,
        capture_output=True,
    )
    if "-h" not in options:  # sshd itself refuses to show a user's certificate
        certificate = parse(_blob(Path(f"{path}-cert.pub")))
        assert certificate.kind == 1
        return
    server.start()
    with pytest.raises(HostKeyNotVerifiable, match=words):
        attempt(server, f"@cert-authority * {public(authority)}")


def _blob(path: Path) -> bytes:
    import base64

    return base64.b64decode(path.read_text().split()[1])


def test_a_certificate_of_a_stranger_is_as_good_as_none(
    serve: Serve, tmp_path: Path, authority: Path
) -> None:
    """The key is looked up by itself: unknown, then known by its own line."""
    other = make_key(tmp_path / "other")
    server = serve("-h", "-n", "127.0.0.1", signer=other)
    line = f"@cert-authority * {public(authority)}"
    with pytest.raises(HostKeyNotVerifiable, match="is not known"):
        attempt(server, line)
    attempt(server, line, f"{server.name} {public(server.folder / 'certified')}")


def test_a_revoked_authority_or_key_is_refused(serve: Serve, authority: Path) -> None:
    """@revoked wins over @cert-authority, for either of the two keys."""
    server = serve("-h", "-n", "127.0.0.1")
    line = f"@cert-authority * {public(authority)}"
    attempt(server, line)
    for key in (authority, server.folder / "certified"):
        with pytest.raises(HostKeyNotVerifiable, match="@revoked"):
            attempt(server, line, f"@revoked * {public(key)}")


def test_a_certificate_cut_anywhere_is_no_certificate(serve: Serve) -> None:
    """Every length in it is checked, and a changed byte is noticed by the signature."""
    server = serve("-h", "-n", "127.0.0.1")
    blob = _blob(server.folder / "certified-cert.pub")
    assert parse(blob).principals == ("127.0.0.1",)
    for length in range(len(blob)):
        with pytest.raises(ValueError, match=r"cut off|not a kind"):
            parse(blob[:length])
