"""Who holds what, and whether they are still there.

A holder renews its lease with a beat. Whoever looks for the dead compares beats by its own clock: a beat that does not
change for a whole lease has stopped. No two machines' clocks are compared; on one machine a dead process is seen at
once.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from uuid import uuid4

import psutil
from optuna.trial import FrozenTrial

from besom.sweep.attrs import BEAT, LEASE


class LeaseLost(Exception):  # noqa: N818 - what happened, to whom it happens
    """The holder was taken for dead and another has taken over: whatever it still has to say is refused."""


@dataclass(frozen=True)
class Lease:
    """`token` fences: what is written under another token is refused."""

    host: str
    pid: int
    started: float  # of the process, in seconds since 1970: a pid is used again
    token: str = field(default_factory=lambda: uuid4().hex)
    beat: int = 0
    slot: str = ""  # of a trial's holder

    @classmethod
    def mine(cls, slot: str = "") -> Self:
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time(), slot=slot)

    def renewed(self) -> Lease:
        return replace(self, beat=self.beat + 1)

    def is_here(self) -> bool:
        """Whether the holder is a process of this machine, dead or alive."""
        return self.host == socket.gethostname()

    def holder_is_dead(self) -> bool:
        """True only where it can be known: on this machine."""
        if not self.is_here():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.started or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def as_attr(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_attr(cls, attr: Any, beat: Any = None) -> Self | None:
        """`beat`, where it is kept apart: `[token, number]`, of this holder or of an earlier one."""
        if not attr:
            return None
        lease = cls(**attr)
        return replace(lease, beat=beat[1]) if beat and beat[0] == lease.token else lease


def held_by(trial: FrozenTrial) -> Lease | None:
    return Lease.from_attr(trial.user_attrs.get(LEASE), trial.user_attrs.get(BEAT))


@dataclass(frozen=True)
class _Seen:
    beat: tuple[str, int]
    at: float  # when it was last looked at
    silent_s: float = 0.0


class Watch:
    """Remembers when each lease was last seen to beat.

    Of the time between two looks at most a quarter of a lease counts as silence: the storage may have been away, for
    the holder too.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[Any, _Seen] = {}

    def stopped(self, who: Any, lease: Lease | None) -> bool:
        """`lease` None: its holder died between taking and signing; it is given one lease's time too."""
        if lease is not None and lease.holder_is_dead():
            return True
        beat = (lease.token, lease.beat) if lease else ("", 0)
        now = time.monotonic()
        seen = self._seen.get(who)
        if seen is None or seen.beat != beat:
            self._seen[who] = _Seen(beat, now)
            return False
        silent_s = seen.silent_s + min(now - seen.at, self._lease_s / 4)
        self._seen[who] = _Seen(beat, now, silent_s)
        return silent_s >= self._lease_s
