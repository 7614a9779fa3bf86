"""Who holds what, and whether they are still there.

A holder renews its lease with a beat. Whoever looks for the dead compares beats by its own clock: a beat that does not
change for a whole lease has stopped. No two machines' clocks are compared; on one machine, in one PID namespace, a dead
process is seen at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from uuid import uuid4

from optuna.trial import FrozenTrial

from besom.study.attrs import BEAT, LEASE
from besom.system.processes import ProcessIdentity

LOOKS = 6  # of each worker, in the time of a lease; the supervisor looks more often
SILENT_S = 600.0  # a holder elsewhere that has not renewed its lease for so long is shown as gone


class LeaseLost(Exception):  # noqa: N818 - what happened, to whom it happens
    """The holder was taken for dead and another has taken over: whatever it still has to say is refused."""


@dataclass(frozen=True)
class Lease(ProcessIdentity):
    """`token` fences: what is written under another token is refused."""

    token: str = field(default_factory=lambda: uuid4().hex)
    beat: int = 0
    slot: str = ""  # of a trial's holder
    # by the holder's clock, in seconds since 1970, for people: when it began, and when it was last renewed
    since: float = field(default_factory=time.time)
    renewed_at: float = field(default_factory=time.time)

    def renewed(self) -> Lease:
        return replace(self, beat=self.beat + 1, renewed_at=time.time())

    def seems_alive(self) -> bool:
        """For people, at one look: of a holder elsewhere it rests on two machines' clocks."""
        return not self.is_dead() and (self.is_here() or time.time() - self.renewed_at < SILENT_S)

    def as_attr(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_attr(cls, attr: Any, beat: Any = None) -> Self | None:
        """`beat`, where it is kept apart: `[token, number]`, of this holder or of an earlier one.

        A lease of another shape, as another release of besom may have written it, is one of a holder about whom nothing
        can be known from here: it is over when it stays as it is for a whole lease.
        """
        if not attr:
            return None
        lease = cls(**attr) if _has_the_shape(attr) else cls._unreadable(attr)
        match beat:
            case [lease.token, int(number)]:
                return replace(lease, beat=number)
        return lease

    @classmethod
    def _unreadable(cls, attr: Any) -> Self:
        content = json.dumps(attr, sort_keys=True, default=str)
        token = hashlib.sha256(content.encode()).hexdigest()
        return cls(host="an unknown machine", machine="", pid=0, started=0, token=token, since=0.0, renewed_at=0.0)


_SHAPE = {
    **{"host": str, "machine": str, "pid": int, "started": int},
    **{"token": str, "beat": int, "slot": str, "since": float, "renewed_at": float},
}


def _has_the_shape(attr: Any) -> bool:
    return (
        isinstance(attr, dict)
        and attr.keys() == _SHAPE.keys()
        and all(type(attr[key]) is kind for key, kind in _SHAPE.items())
    )


def lease_of(trial: FrozenTrial) -> Lease | None:
    return Lease.from_attr(trial.user_attrs.get(LEASE), trial.user_attrs.get(BEAT))


@dataclass(frozen=True)
class _Seen:
    beat: tuple[str, int]
    at: float  # when it was last looked at
    silent_s: float = 0.0


class LeaseMonitor:
    """Remembers when each lease was last seen to beat.

    Of the time between two looks at most a quarter of a lease counts as silence: the storage may have been away, for
    the holder too.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[Any, _Seen] = {}
        self._looked: float | None = None

    def is_due(self) -> bool:
        """Whether to look again, for one of many who look: the rarer the longer a lease is."""
        now = time.monotonic()
        if self._looked is not None and now - self._looked < self._lease_s / LOOKS:
            return False
        self._looked = now
        return True

    def has_expired(self, who: Any, lease: Lease | None) -> bool:
        """`lease` None: its holder died between taking and signing; it is given one lease's time too."""
        if lease is not None and lease.is_dead():
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
