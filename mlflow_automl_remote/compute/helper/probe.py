"""What the helper finds out about its machine for `target doctor`; changes nothing on it."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH110, PTH112, PTH120, PTH123, PTH207

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    Facts = dict[str, Any]  # JSON; the client's doctor documents it

TMP = "/tmp"  # noqa: S108 - looked at, not written to
ANSWER_S = 10.0  # for the package index, and for programs of others
DOCKER_SOCKET = "/var/run/docker.sock"
INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
RAY_PORTS = (6379, 6379), (8265, 8265), (10001, 19999)  # of a Ray head and its workers
LISTENS = "0A"  # in /proc/net/tcp


def facts(root: str, index: str) -> Facts:
    """Find out all that there is, for a root that need not be there yet.

    `index` is the address of the package index that is used where none is chosen here.
    """
    index = next((os.environ[name] for name in INDEX_VARIABLES if os.environ.get(name)), index)
    return {
        "time_s": time.time(),
        "release": _release(),
        "root": _disk(root),
        "tmp": _disk(os.environ.get("TMPDIR") or TMP),
        "memory_free_bytes": _memory_free(),
        "docker": docker(DOCKER_SOCKET),
        "gpus": _gpus(),
        "busy_ports": _busy_ports(),
        "index": index,
        "index_error": _index_error(index),
    }


def _release() -> str:
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip().strip("\"'")
    return ""


def _disk(path: str) -> Facts:
    """Tell of the file system that a path is or would be on."""
    place = path
    while not os.path.isdir(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    flags = os.statvfs(place).f_flag
    return {
        "path": path,
        "free_bytes": shutil.disk_usage(place).free,
        "noexec": bool(flags & getattr(os, "ST_NOEXEC", 8)),
        "writable": os.access(place, os.W_OK | os.X_OK) and not flags & os.ST_RDONLY,
    }


def _memory_free() -> int | None:
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def docker(path: str) -> str:
    """Say of the engine behind a socket "ok", "no access" or "none"."""
    if not os.path.exists(path):
        return "none"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(ANSWER_S)
        try:
            sock.connect(path)
        except PermissionError:
            return "no access"
        except OSError:
            return "none"
    return "ok"


def _gpus() -> list[str]:
    names = []
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
            names += [line.partition(":")[2].strip() for line in file if line.startswith("Model")]
    program = shutil.which("nvidia-smi")
    if program and not names:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.run(
                [program, "--query-gpu=name", "--format=csv,noheader"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=ANSWER_S,
                check=True,
            )
            names = answer.stdout.decode("utf-8", "replace").split("\n")
    return [name for name in names if name]


def _busy_ports() -> list[int]:
    """List the ports that Ray would want and somebody listens on."""
    busy = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            for line in list(file)[1:]:
                fields = line.split()
                if fields[3] == LISTENS:
                    busy.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(port for port in busy if any(low <= port <= high for low, high in RAY_PORTS))


def _index_error(address: str) -> str:
    """Say why the package index does not answer; nothing when it does."""
    import urllib.error  # takes longer to import than all the rest, and is for this alone
    import urllib.request

    if not address.startswith(("http://", "https://")):
        return ""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - checked above
    try:
        urllib.request.urlopen(request, timeout=ANSWER_S).close()  # noqa: S310 - likewise
    except urllib.error.HTTPError as error:
        error.close()
        return "" if error.code < 500 else f"it answered {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))[:300]
    return ""
