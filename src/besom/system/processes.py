"""Which process this is, told so that no other one can be taken for it, whatever the clock or the host's name does."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

PROC = Path("/proc")
GONE = ("Z", "X")  # states of a process in `/proc/PID/stat`: a zombie, and a dead one


@dataclass(frozen=True)
class ProcessIdentity:
    """A process by its number and its start, in one PID namespace of one boot of one machine.

    `started` counts from the boot, which no step of the clock moves. Containers may share a host's name and not its
    process numbers: a process of another PID namespace is never judged from here.
    """

    host: str  # for people: it decides nothing
    machine: str  # the boot and the PID namespace; "": it cannot be told
    pid: int
    started: int  # in clock ticks since the boot, as `/proc/PID/stat` has it

    @classmethod
    def mine(cls, **more: Any) -> Self:
        """Of this process; `more`: what a subclass adds."""
        return cls.of(os.getpid(), **more)

    @classmethod
    def of(cls, pid: int, **more: Any) -> Self:
        """Of the process that has this number now."""
        started = _started(pid)
        return cls(host=socket.gethostname(), machine=this_machine(), pid=pid, started=started or 0, **more)

    @staticmethod
    def is_one(values: Any) -> bool:
        """Whether these are what an identity is made of, by their names."""
        kinds = {"host": str, "machine": str, "pid": int, "started": int}
        return (
            isinstance(values, dict)
            and values.keys() == kinds.keys()
            and all(type(values[name]) is kind for name, kind in kinds.items())
        )

    def is_here(self) -> bool:
        """Whether it can be known from here whether the process lives."""
        return bool(self.machine) and self.machine == this_machine()

    def is_dead(self) -> bool:
        """True only where it can be known."""
        return self.is_here() and _started(self.pid) != self.started and not _is_hidden(self.pid)


_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def this_machine() -> str:
    """The boot and the PID namespace that this process lives in; "" where `/proc` shows those of another namespace."""
    return _machine_of(os.getpid())


@cache
def _machine_of(pid: int) -> str:
    """`pid`: of this process. A fork asks again: it may be in another namespace."""
    try:
        if str((PROC / "self").readlink()) != str(pid):
            return ""
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:  # not Linux: it has no PID namespaces
        return "" if PROC.exists() else f"{socket.gethostname()} {uuid.getnode():x}"


def _started(pid: int) -> int | None:
    """None: there is no such process, or it has ended."""
    try:
        # the name, in brackets, may have spaces and brackets in it
        state, *fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None if PROC.exists() else _started_by_psutil(pid)
    return None if state in GONE else int(fields[18])


def _started_by_psutil(pid: int) -> int | None:
    """Where there is no `/proc`: of macOS, which keeps the time that a process began at as it was then."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time() * _TICKS_PER_S)
    except psutil.NoSuchProcess:
        return None


def _is_hidden(pid: int) -> bool:
    """Whether another user's process has this number, which `/proc` may be mounted to hide."""
    if (PROC / str(pid)).exists():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    return False


def call_this(name: str) -> None:
    """In what `top`, `ps` and `pstree` show; of at most 15 letters."""
    with suppress(OSError):  # not Linux
        (PROC / "self/comm").write_text(name)
