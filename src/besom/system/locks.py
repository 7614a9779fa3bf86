"""Several processes, one database: its URL, and the lock on an SQLite file that one of them holds at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from besom.errors import InputError

PATIENCE_S = 5.0  # whoever waits for longer is told for whom

log = logging.getLogger(__name__)


def sqlite_file(url: str) -> Path | None:
    """The file of a `sqlite:///` URL; None for any other URL."""
    scheme, _, path = url.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path:
        return None
    return Path(path.partition("?")[0]).absolute()


def absolute(url: str) -> str:
    """A URL that means the same in every process, whatever its working directory."""
    path = sqlite_file(url)
    if path is None:
        return url
    scheme, _, rest = url.partition(":///")
    return f"{scheme}:///{path}{rest[len(rest.partition('?')[0]) :]}"


@contextmanager
def sqlite_lock(url: str, *, first: bool = False) -> Iterator[None]:
    """Held by one process at a time; a database server needs none. `first`: before all who wait for it otherwise.

    The lock's file lies beside the database, as SQLite's own do: all who share the one share the other. Whoever may
    write to the database may take it, and nobody else. A dead process holds nothing.

    Raises:
        InputError: this user may write to the database, but not take its lock.
    """
    path = sqlite_file(url)
    if path is None or (file := _opened(path.resolve())) is None:
        yield
        return
    try:
        if first:
            _take(file, path)
        else:
            with _only_one_waits(file):
                _take(file, path)
        yield
    finally:
        os.close(file)  # which lets go of it


@contextmanager
def _only_one_waits(file: int) -> Iterator[None]:
    """Of all processes but those that come first, the others wait here.

    This is another lock, of the file's first byte, which two threads of one process may have: it only keeps an order.
    """
    with suppress(OSError):  # a file system that has only one kind of lock
        fcntl.lockf(file, fcntl.LOCK_EX, 1)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN, 1)


def _opened(database: Path) -> int | None:
    """None: nobody can write in that folder from here, and so not to the database either."""
    path = database.with_name(f"{database.name}.lock")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if not os.access(database if database.exists() else database.parent, os.W_OK):
            return None
        raise InputError(
            f"{path} cannot be opened ({error.strerror}): all who write to {database.name} take turns by it; "
            "give this user the right to write to both files"
        ) from error
    with suppress(OSError):  # who shares the database with others shares its lock with them; only its owner can say so
        if (mode := database.stat().st_mode & 0o666) != os.fstat(file).st_mode & 0o666:
            os.fchmod(file, mode)
    return file


def _take(file: int, database: Path) -> None:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    # not asked for again and again: the next one has it at once
    told = threading.Timer(PATIENCE_S, _say_for_whom, (file, database))
    told.daemon = True
    told.start()
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    finally:
        told.cancel()


def _say_for_whom(file: int, database: Path) -> None:
    log.warning("waiting for %s, which is held by %s", database, _holder(file))


def _holder(file: int) -> str:
    """As Linux knows it: `process 4711 (besom sweep digits)`."""
    locks = Path("/proc/locks")
    with suppress(OSError, ValueError):
        inode = os.fstat(file).st_ino
        for line in locks.read_text().splitlines():
            # `1: FLOCK  ADVISORY  WRITE 4711 fd:01:123456 0 EOF`; one that waits has an arrow behind its number
            match line.split():
                case [_, "FLOCK", _, _, pid, where, *_] if where.rpartition(":")[2] == str(inode) and int(pid) > 0:
                    with suppress(psutil.Error):
                        return f"process {pid} ({' '.join(psutil.Process(int(pid)).cmdline())[:80]})"
                    return f"process {pid}"
    return "a process of another machine or container"
