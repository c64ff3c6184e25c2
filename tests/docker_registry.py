"""A Docker registry on this machine that has one image, and gives it to one account alone."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "team/ml"
USERNAME, PASSWORD = "ada", "planted-7c1e"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry(ThreadingHTTPServer):
    """A registry on a free port.

    Args:
        n_bytes: That its image takes when it is unpacked.
    """

    def __init__(self, n_bytes: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.served = _served(n_bytes)
        self.image = f"127.0.0.1:{self.server_address[1]}/{REPOSITORY}:3"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self._reply()

    def do_HEAD(self) -> None:
        self._reply()

    def _reply(self) -> None:
        allowed = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {allowed}":
            self._answer(401, "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}')
        elif self.path in self.server.served:
            self._answer(200, *self.server.served[self.path])
        else:
            self._answer(404, "application/json", b'{"errors": []}')

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("WWW-Authenticate", 'Basic realm="planted"')
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Docker-Content-Digest", _digest(content))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def running_registry(n_bytes: int) -> Iterator[Registry]:
    """Serve an image that takes so many bytes when it is unpacked."""
    with Registry(n_bytes) as registry:
        thread = threading.Thread(target=registry.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield registry
        finally:
            registry.shutdown()
            thread.join()


def _served(n_bytes: int) -> dict[str, tuple[str, bytes]]:
    """Give kind and content by path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("zeros")
        entry.size = n_bytes
        archive.addfile(entry, io.BytesIO(bytes(n_bytes)))
    layer = gzip.compress(buffer.getvalue(), 1)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": LAYER, "size": len(layer), "digest": _digest(layer)}],
        }
    ).encode()
    place = f"/v2/{REPOSITORY}"
    blobs = {f"{place}/blobs/{_digest(blob)}": (LAYER, blob) for blob in (config, layer)}
    manifests = {
        f"{place}/manifests/{name}": (MANIFEST, manifest) for name in ("3", _digest(manifest))
    }
    return {"/v2/": ("application/json", b"{}"), **blobs, **manifests}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
