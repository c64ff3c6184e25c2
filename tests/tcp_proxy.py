"""A link between client and server that a test can cut, silence, slow down or answer itself."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

PIECE_BYTES = 65536
HTTP_503 = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes bytes on, in both directions, until it is told otherwise.

    Attributes:
        port: Where clients connect to.
        n_down: Bytes that went from the server to clients.
        n_dropped: Bytes that went nowhere.
        n_reset: Connections that were reset.
        n_refused: Connections that were answered with an error, or not passed on at all.
    """

    def __init__(self, port: int, delay_s: float = 0.0) -> None:
        self._server = port
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._waiting: list[socket.socket] = []
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self.on_down: Callable[[int], None] = lambda n_down: None
        self.answer: bytes | None = None
        self.n_up = self.n_down = self.n_dropped = self.n_reset = self.n_refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Lose everything from now on, as a firewall does; nobody is told."""
        self._open.clear()

    def restore(self) -> None:
        """Pass new connections on again; those that lost bytes stay silent."""
        self._open.set()

    def reset(self) -> None:
        """Reset all connections that there are."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self.n_reset += 1
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)  # wakes whoever reads
                sock.close()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._open.set()
        self.reset()
        for sock in self._waiting:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.answer is not None:
                self.n_refused += 1
                threading.Thread(target=self._say, args=(client, self.answer), daemon=True).start()
                continue
            if not self._open.is_set():
                self.n_refused += 1
                self._waiting.append(client)  # accepted by the kernel, and never answered
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server), timeout=10)
            except OSError:
                self.n_refused += 1
                client.close()
                continue
            server.settimeout(None)
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            self._start(client, server, is_down=False)
            self._start(server, client, is_down=True)

    def _say(self, client: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(5)
            client.recv(PIECE_BYTES)
            client.sendall(answer)

    def _start(self, source: socket.socket, sink: socket.socket, *, is_down: bool) -> None:
        pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for target, args in (
            (self._read, (source, pieces, is_down)),
            (self._write, (sink, pieces)),
        ):
            threading.Thread(target=target, args=args, daemon=True).start()

    def _read(
        self,
        source: socket.socket,
        pieces: queue.SimpleQueue[tuple[float, bytes]],
        is_down: bool,
    ) -> None:
        silent = False
        while True:
            try:
                data = source.recv(PIECE_BYTES)
            except OSError:
                data = b""
            silent = silent or not self._open.is_set()
            if silent and data:
                self.n_dropped += len(data)
                continue
            pieces.put((time.monotonic() + self._delay_s, b"" if silent else data))
            if not data:
                return
            if is_down:
                self.n_down += len(data)
                self.on_down(self.n_down)
            else:
                self.n_up += len(data)

    def _write(self, sink: socket.socket, pieces: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        while True:
            due, data = pieces.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return


@contextlib.contextmanager
def running_proxy(port: int, delay_s: float = 0.0) -> Iterator[Proxy]:
    """Run a link to a port of this machine, each direction of which takes `delay_s`."""
    proxy = Proxy(port, delay_s)
    try:
        yield proxy
    finally:
        proxy.close()
