"""How the helper finds out whether hosts reach one another: one listens, and another calls.

Whoever listens says a word that the client has made up, so that no other machine of the same
private address is taken for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import threading
from typing import TYPE_CHECKING

from mlflow_automl_remote.compute.helper.wire import Refused

if TYPE_CHECKING:
    from mlflow_automl_remote.compute.helper.wire import Header

SIOCGIFADDR = 0x8915
LAST_PORT = 65535
WORD_BYTES = 64


def addresses() -> list[str]:
    """Give the IPv4 address of each interface, the loopback's aside."""
    found = []
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # it has none
                answer = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


def listen(request: Header) -> tuple[list[socket.socket], Header]:
    """Listen at a port of some addresses, the first that is free at all of them.

    Raises:
        Refused: None is free, or an address is none of this machine's.
    """
    wanted = request["addresses"] or addresses()
    word = request["word"].encode("ascii")
    for port in range(request["port"], LAST_PORT + 1):
        sockets = []
        try:
            for address in wanted:
                sockets.append(_listening(address, port))
        except OSError as error:
            for sock in sockets:
                end(sock)
            if error.errno != errno.EADDRINUSE:
                raise Refused(f"cannot listen at {address}: {error.strerror}") from error
            continue
        for sock in sockets:
            threading.Thread(target=_answer, args=(sock, word), daemon=True).start()
        return sockets, {"port": port, "addresses": wanted}
    raise Refused(f"no port from {request['port']} on is free")


def end(sock: socket.socket) -> None:
    """Listen no more; a thread that waits for a caller would keep the port."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _listening(address: str, port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed ones are no hindrance
        sock.bind((address, port))
        sock.listen(16)
    except OSError:
        sock.close()
        raise
    return sock


def _answer(sock: socket.socket, word: bytes) -> None:
    """Say the word to whoever calls, until the socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            caller, _ = sock.accept()
            with caller, contextlib.suppress(OSError):
                caller.settimeout(5.0)
                caller.sendall(word)


def call(request: Header) -> Header:
    """Call addresses, and say at which of them the word was heard, and what ours was there."""
    word = request["word"].encode("ascii")
    reached = []
    for address in request["addresses"]:
        with contextlib.suppress(OSError):
            source = (request["source"], 0) if request["source"] else None
            place = address, request["port"]
            with socket.create_connection(place, request["timeout_s"], source) as sock:
                if not word or sock.recv(WORD_BYTES) == word:
                    reached.append({"address": address, "own": sock.getsockname()[0]})
    return {"reached": reached}
