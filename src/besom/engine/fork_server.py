"""Processes forked from a server that has done the slow imports once, and the handles by which others hold them.

The server has one thread and one socket. Who may ask it has inherited the other end: there is no address to connect to.
A request is one packet of file descriptors: the new process's status socket, a file that says what it is to call, and
what else that is given. On the status socket the server says which process it has made, and how that has ended.
It keeps a dead process's number until its holder has closed the handle, so that no signal reaches another process.

Why not `multiprocessing`'s fork server: its socket has an address, only the process that has started it may ask, and it
runs the user's `__main__` again.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import pickle
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from besom.engine import process_exit
from besom.errors import RunError
from besom.system.processes import ProcessIdentity

LOST = 255  # the exit code of a process whose server has died: nobody can know it
# packets, which no two clients can mix; macOS has none
KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM) if sys.platform == "linux" else socket.SOCK_STREAM
MAX_FDS = 16  # of one request
POLL_S = 0.05  # where a process's end is no event
LATE_S = 2.0  # from a process's end to its server's word of it
NUMBER = struct.Struct("<q")
MODULE = "besom.engine.fork_server"


class ServerGone(RunError):  # noqa: N818 - it is what has happened
    """The server has died: what it was asked for is not done."""


@dataclass(frozen=True)
class _Call:
    """What a new process is to do, and what it is to look like."""

    target: str  # module:function
    args: tuple[Any, ...]
    environ: dict[str, str]
    folder: str
    argv: list[str]


class ForkServer:
    """A client's end. It may be used by all processes that inherit it."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    def fork(self, target: str, *args: Any, fds: Sequence[int] = ()) -> Forked:
        """A new process that calls `target(*args, *fds)`; it has this one's environment and working directory.

        Returns at once, though the server may be busy with its imports. Of the file descriptors the new process has
        copies, by other numbers.

        Raises:
            ServerGone: there is no server any more.
        """
        call = _Call(target, args, dict(os.environ), _here(), sys.argv)
        status, theirs = socket.socketpair()
        with theirs, _file_of(pickle.dumps(call)) as file:
            try:
                socket.send_fds(self._requests, [b"f"], [theirs.fileno(), file.fileno(), *fds])
            except OSError as error:
                status.close()
                raise ServerGone(f"the process that others are forked from is gone: {error}") from error
        return Forked(status)

    def close(self) -> None:
        """Where it is the last client, the server ends with its last process."""
        self._requests.close()


class Forked:
    """The handle of a forked process."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self._identity: ProcessIdentity | None = None
        self.exitcode: int | None = None  # None: it has not ended; -N: it was killed by signal N
        self.is_lost = False  # its server has died, and it may well go on

    @property
    def sentinel(self) -> int:
        """A file descriptor that can be read when there is news: its number, then its end."""
        return self._status.fileno()

    @property
    def pid(self) -> int:
        """Its number. Waits for its server to make it; 0: there never was one."""
        return identity.pid if (identity := self._begun()) else 0

    def has_begun(self, timeout_s: float = 0.0) -> bool:
        """Whether its server has come to make it, or is gone."""
        return self._identity is not None or self.exitcode is not None or bool(_readable(self._status, timeout_s))

    def join(self, timeout_s: float | None = None) -> int | None:
        """Its exit code; None: it still runs. Nothing is waited for that a server which stands still would have to say.

        `LOST`: its server has died; it may have outlived that, and its end is found by its number.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self.exitcode is None:
            if _readable(self._status, max(0.0, min(POLL_S, deadline - time.monotonic()))):
                if self._begun():
                    self._ended(_number(self._status))
            elif self._is_dead():
                self._ended(_number(self._status) if _readable(self._status, LATE_S) else None)
            elif time.monotonic() >= deadline:
                return None
        while self.is_lost and self._identity and not self._is_dead():
            if time.monotonic() >= deadline:
                return None
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
        return self.exitcode

    def is_alive(self) -> bool:
        return self.join(0.0) is None

    def send(self, sign: signal.Signals, *, group: bool = False) -> None:
        """`group`: to all processes of the group that it leads; some may live longer than it does."""
        if self._identity is None or (self.is_lost and self._is_dead()):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(self._identity.pid, sign)

    def close(self) -> None:
        """From here on its number may be another process's."""
        self._status.close()

    def _is_dead(self) -> bool:
        return self._identity is not None and self._identity.is_dead()

    def _begun(self) -> ProcessIdentity | None:
        if self._identity is None and self.exitcode is None:
            if (pid := _number(self._status)) is None:
                self._ended(None)
            else:
                self._identity = ProcessIdentity.of(pid)
        return self._identity

    def _ended(self, code: int | None) -> None:
        self.is_lost = code is None
        self.exitcode = LOST if code is None else code


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────────────
def interpreter(module: str, fds: Sequence[int]) -> list[str]:
    """The command of a fresh one, with this one's flags, that runs the module on these file descriptors."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return [sys.executable, *flags, "-m", module, *map(str, fds)]


def pair() -> tuple[socket.socket, socket.socket]:
    """The server's end and its clients'."""
    return socket.socketpair(socket.AF_UNIX, KIND)


def serve(requests: socket.socket, *, fresh: bool = False) -> NoReturn:
    """Fork what is asked for, until nobody can ask any more and all have ended; then this process ends.

    `fresh`: each in an interpreter of its own, with nothing of this process's in it.
    """
    _Server(requests, fresh).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # to take down all that was imported would take a second


class _Server:
    def __init__(self, requests: socket.socket, fresh: bool) -> None:
        self._requests = requests
        self._fresh = fresh
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        self._selector.register(self._requests, selectors.EVENT_READ, self._take)
        can_wait = hasattr(os, "pidfd_open")
        while self._selector.get_map():
            for key, _ in self._selector.select(None if can_wait or not self._children else POLL_S):
                key.data()
            if not can_wait:
                self._look_for_the_dead()

    def _take(self) -> None:
        message, fds, _, _ = socket.recv_fds(self._requests, 1, MAX_FDS)
        if not message:  # no client is left
            self._selector.unregister(self._requests)
            return
        status, call, *more = fds
        pid = os.fork()
        if pid == 0:
            self._let_go()
            os.close(status)
            become(call, more, fresh=self._fresh)
        for fd in (call, *more):
            os.close(fd)
        child = _Child(pid, socket.socket(fileno=status))
        self._children[pid] = child
        child.tell(pid)
        if hasattr(os, "pidfd_open"):
            child.pidfd = os.pidfd_open(pid)
            self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._has_ended(child))

    def _let_go(self) -> None:
        """In a new process: it must not keep alive, or read, what is between the server and others."""
        self._selector.close()
        self._requests.close()
        for child in self._children.values():
            child.status.close()
            if child.pidfd is not None:
                os.close(child.pidfd)

    def _has_ended(self, child: _Child) -> None:
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert ended
        child.tell(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
        # readable: its holder has closed the handle
        self._selector.register(child.status, selectors.EVENT_READ, lambda: self._is_done_with(child))

    def _is_done_with(self, child: _Child) -> None:
        self._selector.unregister(child.status)
        child.status.close()
        os.waitpid(child.pid, 0)
        del self._children[child.pid]

    def _look_for_the_dead(self) -> None:
        for child in list(self._children.values()):
            if not child.has_ended and os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                child.has_ended = True
                self._has_ended(child)


@dataclass
class _Child:
    pid: int
    status: socket.socket
    pidfd: int | None = None
    has_ended: bool = False

    def tell(self, number: int) -> None:
        with contextlib.suppress(OSError):  # its holder is gone
            self.status.sendall(NUMBER.pack(number))


# ── in the new process ────────────────────────────────────────────────────────────────────────────────────────────────
def become(call: int, fds: Sequence[int], *, fresh: bool = False) -> NoReturn:
    """Do what the file says, and end. Never returns."""
    code = 1
    try:
        if fresh:
            for fd in (call, *fds):
                os.set_inheritable(fd, True)
            os.execv(sys.executable, interpreter(MODULE, (call, *fds)))
        process_exit.begin()
        with open(call, "rb") as file:
            file.seek(0)
            asked: _Call = pickle.load(file)
        os.environ.clear()
        os.environ.update(asked.environ)
        sys.argv = asked.argv
        with contextlib.suppress(OSError):  # it is gone
            os.chdir(asked.folder)
        _function(asked.target)(*asked.args, *fds)
        code = 0
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException:  # nobody is above it
        traceback.print_exc()
    finally:
        process_exit.end(code)
        os._exit(code)


def _function(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


# ── small words ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _file_of(content: bytes) -> Any:
    """In memory, where the system has that: a full disk starts processes all the same."""
    file = os.fdopen(os.memfd_create("besom"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.flush()
    return file


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it is gone
        return "/"


def _number(status: socket.socket) -> int | None:
    """The next one that the server says; None: it is gone."""
    with contextlib.suppress(OSError):
        if len(said := status.recv(NUMBER.size, socket.MSG_WAITALL)) == NUMBER.size:
            return int(NUMBER.unpack(said)[0])
    return None


def _readable(status: socket.socket, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(status, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


if __name__ == "__main__":
    become(int(sys.argv[1]), [int(fd) for fd in sys.argv[2:]])
