"""The template: a process with everything imported, from which all others are forked.

It has one thread and does nothing but fork, so that an iteration begins in milliseconds. It ends
with the process that holds the other end of its socket.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Final, NoReturn, Self

PRELOAD: Final = ("mlflow_automl_remote.automl.preload",)
"""Imports what every iteration needs."""

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
"""What native libraries read, when they are loaded, for the number of their threads."""

_WORD: Final = b"+"  # goes with each connection: an empty message would be the end
_MOST_FILES: Final = 1 << 16
_PROGRAM: Final = (
    "import json, sys; number, path, modules = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from mlflow_automl_remote.automl import template; template.main(number, modules)"
)


class Template:
    """Forks a keeper for each connection that it is given.

    Args:
        modules: What the process has imported.
        control: The socket whose other end the process has.
        wait: Waits for the end of the process.
    """

    def __init__(
        self, modules: Sequence[str], control: socket.socket, wait: Callable[[], object]
    ) -> None:
        self.modules = modules
        self._control = control
        self._wait = wait

    @classmethod
    def spawn(cls, modules: Sequence[str] = PRELOAD) -> Self:
        """Start a fresh interpreter, which imports the modules while the caller goes on."""
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            told = json.dumps([number, sys.path, list(modules)])
            process = subprocess.Popen([sys.executable, "-c", _PROGRAM, told], pass_fds=[number])
        return cls(modules, ours, process.wait)

    @classmethod
    def fork(cls, modules: Sequence[str] = PRELOAD, later: Sequence[str] = ()) -> Self:
        """Import the modules here, and fork this process, which has no thread that matters.

        The child keeps no file open but the standard ones.

        Args:
            modules: Needed by all that is forked.
            later: Needed by all but the first, while which works the child imports them.
        """
        preload(modules)
        ours, theirs = socket.socketpair()
        with warnings.catch_warnings():
            # Python 3.12 warns of any thread; the pools of BLAS are made ready for a fork.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded")
            pid = os.fork()
        if pid == 0:
            _live_as_template(theirs.fileno(), later)
        theirs.close()
        return cls((*modules, *later), ours, lambda: os.waitpid(pid, 0))

    def start(self, connection: Connection) -> None:
        """Fork a keeper that takes its order from a connection, which is closed here.

        Raises:
            OSError: The process is gone.
        """
        with connection:
            socket.send_fds(self._control, [_WORD], [connection.fileno()])

    def close(self) -> None:
        """End the process; those that it has forked go on."""
        self._control.close()
        self._wait()


def preload(modules: Sequence[str]) -> None:
    """Import modules for good: the collector never looks at what they hold.

    That saves its time, and keeps their pages shared with what is forked. Native libraries are
    told to have one thread: else each process that is forked starts a pool of them, which spins
    for 0.1 s and more before it sleeps. Where more are wanted, the keeper's worker says so.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    gc.disable()
    for name in modules:
        import_module(name)
    gc.freeze()
    gc.enable()


def main(number: int, modules: Sequence[str]) -> None:
    """Be a template; the main function of a fresh interpreter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    preload(modules)
    _live_as_template(number)


def _live_as_template(number: int, later: Sequence[str] = ()) -> NoReturn:
    """Fork for each connection that comes, until nobody can send one any more."""
    try:
        os.closerange(3, number)
        os.closerange(number + 1, _MOST_FILES)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are forked
        _serve(socket.socket(fileno=number), later)
    except BaseException:  # noqa: BLE001 - the edge of the process: its starter's code is above
        traceback.print_exc()
    finally:
        os._exit(0)


def _serve(control: socket.socket, later: Sequence[str]) -> None:
    from mlflow_automl_remote.automl import keeper

    while True:
        word, files, _, _ = socket.recv_fds(control, len(_WORD), 1)
        if not word:
            return
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keeper.keep(Connection(files[0]))
            return
        os.close(files[0])
        if later:
            preload(later)
            later = ()
