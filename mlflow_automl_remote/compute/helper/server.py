"""The helper's requests, one method each, and the loop that answers them."""

# paths are plain text here, as they come in requests
# ruff: noqa: PTH104, PTH111, PTH112, PTH118, PTH120, PTH208

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper import (
    boot,
    containers,
    files,
    inventory,
    ports,
    probe,
    processes,
)
from mlflow_automl_remote.compute.helper.wire import CHUNK_BYTES, Inflow, Refused, Wire

if TYPE_CHECKING:
    import socket
    from typing import IO

    from mlflow_automl_remote.compute.helper.wire import Header

    Answer = tuple[Header, bytes]

BEAT_S = 4.0  # well under the silence after which a client gives the connection up
FILE_POLL_S = 0.04  # between two looks at a file that is waited for
LIVENESS_S = 0.5  # between two looks at a process that is waited for
LINE_BYTES = 8192  # a longer line of a command's output is cut into several


class Server:
    """Answers requests one after the other; `do_x` answers the request "x"."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._locks: dict[str, int] = {}
        self._listening: list[socket.socket] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._busy = threading.Event()

    def serve(self) -> None:
        """Answer until the client goes away."""
        threading.Thread(target=self._beat, daemon=True).start()
        while True:
            frame = self._wire.receive()
            if frame is None:
                break
            self._answer(*frame)

    def _answer(self, header: Header, payload: bytes) -> None:
        """Do one request and send its last frame."""
        method = getattr(self, "do_{}".format(header.get("do")), None)
        content = b""
        self._busy.set()
        try:
            if method is None:
                raise Refused(f"unknown request {header.get('do')!r}")
            reply, content = method(header, payload)
            reply["ok"] = 1
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            reply = {"error": f"{error.strerror or error}{where}", "errno": error.errno or 0}
        except Exception as error:  # noqa: BLE001 - the last edge: the client must hear it
            name = "" if isinstance(error, Refused) else type(error).__name__ + ": "
            reply = {"error": f"{name}{error}", "errno": 0}
        finally:
            self._busy.clear()
        self._wire.send(reply, content)

    def _beat(self) -> None:
        """Say every few seconds that a long request is still under way."""
        while True:
            time.sleep(BEAT_S)
            if not self._busy.is_set():
                continue
            try:
                self._wire.send({"beat": 1})
            except (OSError, ValueError):
                self._end_child()
                os._exit(1)

    def _end_child(self) -> None:
        """Kill the command that runs for a client that is gone."""
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)

    def do_hello(self, header: Header, payload: bytes) -> Answer:
        """Describe the machine."""
        cores = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        )
        reply = {
            "python": list(sys.version_info[:3]),
            "executable": sys.executable,
            "home": os.path.expanduser("~"),
            "boot_id": processes.boot_id(),
            "n_cores": cores or 1,
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": platform.system(),
            "machine": platform.machine(),
            "libc": "-".join(platform.libc_ver()),
        }
        return reply, b""

    def do_probe(self, header: Header, payload: bytes) -> Answer:
        """Find out what a doctor wants to know."""
        return probe.facts(header["root"], header["index"]), b""

    def do_listen(self, header: Header, payload: bytes) -> Answer:
        """Listen at a free port until told otherwise, or this helper ends."""
        self._listening, found = ports.listen(header)
        return found, b""

    def do_listen_no_more(self, header: Header, payload: bytes) -> Answer:
        """Give the port back."""
        while self._listening:
            ports.end(self._listening.pop())
        return {}, b""

    def do_call(self, header: Header, payload: bytes) -> Answer:
        """Find out at which addresses somebody listens who says a word."""
        return ports.call(header), b""

    def do_inventory(self, header: Header, payload: bytes) -> Answer:
        """List the sweeps below our root, and what they share."""
        root = header["root"]
        return {"sweeps": inventory.sweeps(root), "shared": inventory.shared(root)}, b""

    def do_status(self, header: Header, payload: bytes) -> Answer:
        """Tell which paths exist, and how much disk is free at the first of them."""
        where = header["paths"][0]
        while not os.path.isdir(where) and os.path.dirname(where) != where:
            where = os.path.dirname(where)
        return {
            "exist": [os.path.lexists(path) for path in header["paths"]],
            "disk_free_bytes": shutil.disk_usage(where).free,
        }, b""

    def do_list(self, header: Header, payload: bytes) -> Answer:
        """List the names in a folder; a missing one is empty."""
        try:
            names = sorted(os.listdir(header["path"]))
        except FileNotFoundError:
            names = []
        return {"names": names}, b""

    def do_read(self, header: Header, payload: bytes) -> Answer:
        """Read the first of `paths` that exists, waiting for it to grow while its job lives."""
        paths, job, answer, looked_s = header["paths"], header.get("job"), None, float("-inf")
        deadline = time.monotonic() + header["wait_s"]
        while True:
            if job and time.monotonic() - looked_s >= LIVENESS_S:
                # before the file: what a job wrote before it was seen dead is then read, all of it
                answer, looked_s = processes.liveness_of(job), time.monotonic()
            path = next(filter(os.path.exists, paths), paths[0])
            content, size = files.read_part(path, header["offset"], header["limit"])
            if content or answer == "dead" or time.monotonic() >= deadline:
                break
            time.sleep(FILE_POLL_S)
        found = os.path.isdir(header["folder"])
        return {"liveness": answer, "size": size, "folder_exists": found}, content

    def do_put(self, header: Header, payload: bytes) -> Answer:
        """Write a small file at once."""
        files.put(header["path"], payload, header["mode"])
        return {}, b""

    def do_receive_file(self, header: Header, payload: bytes) -> Answer:
        """Write a large file from the frames that follow."""
        inflow = Inflow(self._wire)
        try:
            files.receive_file(header["path"], inflow, header["sha256"], header["mode"])
        finally:
            inflow.drain()
        return {}, b""

    def do_receive_tree(self, header: Header, payload: bytes) -> Answer:
        """Unpack the tar stream in the frames that follow."""
        inflow = Inflow(self._wire)
        try:
            return {"n_files": files.receive_tree(header, inflow)}, b""
        finally:
            inflow.drain()

    def do_digests(self, header: Header, payload: bytes) -> Answer:
        """Give the SHA-256 of files in a folder, without those that are not there."""
        found = {
            name: files.digest(os.path.join(header["folder"], name)) for name in header["names"]
        }
        return {"digests": {name: digest for name, digest in found.items() if digest}}, b""

    def do_send_files(self, header: Header, payload: bytes) -> Answer:
        """Send files, each as a frame with its name and size, then its contents in frames."""
        for name in header["names"]:
            self._send_file(header["folder"], name)
        return {}, b""

    def _send_file(self, folder: str, name: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(os.path.join(folder, name), flags), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Refused(f"{name!r} is not a plain file")
            self._wire.send({"name": name, "size": found.st_size})
            left = found.st_size
            while left:
                part = file.read(min(left, CHUNK_BYTES))
                if not part:
                    raise Refused(f"{name!r} became shorter while it was read")
                self._wire.send({}, part)
                left -= len(part)

    def do_launch(self, header: Header, payload: bytes) -> Answer:
        """Start a job that outlives this helper."""
        return processes.launch(header, payload), b""

    def do_boot_install(self, header: Header, payload: bytes) -> Answer:
        """Let a job be started at each boot."""
        return {"by": boot.install(header)}, b""

    def do_boot_remove(self, header: Header, payload: bytes) -> Answer:
        """Let jobs be started no more at boot."""
        for name in header["names"]:
            boot.remove(name)
        return {}, b""

    def do_account(self, header: Header, payload: bytes) -> Answer:
        """Say who we are to the Docker engine."""
        return containers.account(header), b""

    def do_remove_containers(self, header: Header, payload: bytes) -> Answer:
        """Remove the containers of workspaces, as far as there are any."""
        containers.remove(header["workspaces"])
        return {}, b""

    def do_liveness(self, header: Header, payload: bytes) -> Answer:
        """Tell whether a job lives."""
        return {"liveness": processes.liveness_of(header["job"])}, b""

    def do_kill(self, header: Header, payload: bytes) -> Answer:
        """End a job and everything it has started."""
        return processes.kill(header), b""

    def do_run(self, header: Header, payload: bytes) -> Answer:
        """Run a command, sending each line of its output; its status is negative for a signal."""
        self._child = subprocess.Popen(
            header["argv"],
            env=processes.extended(dict(os.environ), header["env"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(header["timeout_s"], self._end_child)
        timer.daemon = True
        timer.start()
        with self._child:
            try:
                self._send_lines(self._child.stdout)
                self._child.wait()
            finally:
                timer.cancel()
                self._end_child()
        status, self._child = self._child.returncode, None
        return {"status": status}, b""

    def _send_lines(self, output: IO[bytes] | None) -> None:
        while output is not None:
            line = output.readline(LINE_BYTES)
            if not line:
                return
            self._wire.send({"line": line.decode("utf-8", "replace").rstrip("\r\n")})

    def do_lock(self, header: Header, payload: bytes) -> Answer:
        """Hold a lock file until it is given back or this helper ends."""
        self._locks[header["path"]] = processes.take_lock(header["path"], header["wait_s"])
        return {}, b""

    def do_lease(self, header: Header, payload: bytes) -> Answer:
        """Take a lock if it is free or to be taken over, and say whether it is held by this."""
        path = header["path"]
        if path not in self._locks:
            whose = None if header["take_over"] else header["client"]
            try:
                fd = processes.take_over(path, whose, header["wait_s"])
            except Refused:
                return {"held": False}, b""
            processes.sign(fd, header["client"])
            self._locks[path] = fd
        return {"held": True}, b""

    def do_unlock(self, header: Header, payload: bytes) -> Answer:
        """Give a lock file back."""
        os.close(self._locks.pop(header["path"]))
        return {}, b""

    def do_rename(self, header: Header, payload: bytes) -> Answer:
        """Move a tree into place, removing what was there."""
        files.remove(header["target"])
        os.rename(header["source"], header["target"])
        files.sync_folder(os.path.dirname(header["target"]))
        return {}, b""

    def do_remove(self, header: Header, payload: bytes) -> Answer:
        """Remove files or trees."""
        for path in header["paths"]:
            files.remove(path)
        return {}, b""


def main(marker: str) -> None:
    """Serve the client at the other end of standard input and output.

    The marker tells it where noise of start-up files ends; then both outputs are taken away, so
    that nothing a command prints by mistake gets between frames.
    """
    sink = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.umask(0o077)
    sink.write(marker.encode("ascii"))
    sink.flush()
    try:
        Server(Wire(sys.stdin.buffer, sink)).serve()
    except (BrokenPipeError, EOFError):
        os._exit(1)
    os._exit(0)  # at once, and without a traceback into a channel that nobody reads
