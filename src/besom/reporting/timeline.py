"""What the slots did over time, and how long they stood idle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from optuna.trial import FrozenTrial, TrialState

from besom.study.attrs import FORKED
from besom.study.snapshot import StudySnapshot, slot

PAUSE_S = 60.0  # in which nothing ran at all: between two sessions, which is nobody's idleness

Span = tuple[datetime, datetime, FrozenTrial]


@dataclass(frozen=True)
class Bar:
    """A trial in its slot, in seconds of sweeping: pauses of the whole sweep are cut out."""

    trial: FrozenTrial
    slot: str
    begin: float
    seconds: float


@dataclass(frozen=True)
class Timeline:
    bars: tuple[Bar, ...]
    pauses: tuple[float, ...]  # where one was cut out
    busy_s: float
    idle_s: float  # of each slot from its first trial to the end of the session

    @property
    def slots(self) -> list[str]:
        return sorted({bar.slot for bar in self.bars}, key=_by_number)

    @property
    def idle_share(self) -> float:
        return self.idle_s / (self.busy_s + self.idle_s or 1.0)


def timeline(snapshot: StudySnapshot) -> Timeline:
    """What is known: of a trial its last attempt."""
    bars: list[Bar] = []
    pauses: list[float] = []
    busy = idle = at = 0.0
    for session in _sessions(_spans(snapshot)):
        first, last = session[0][0], max(end for _, end, _ in session)
        if bars:
            pauses.append(at)
        for start, end, trial in session:
            bars.append(Bar(trial, slot(trial), at + (start - first).total_seconds(), (end - start).total_seconds()))
        for worked, there in _per_slot(session, last):
            busy, idle = busy + worked, idle + max(0.0, there - worked)
        at += (last - first).total_seconds()
    return Timeline(tuple(bars), tuple(pauses), busy, idle)


def _spans(snapshot: StudySnapshot) -> list[Span]:
    """Without what waits: of a trial that was given back no attempt is known any more."""
    began = [
        (trial.datetime_start, trial)
        for trial in snapshot.trials
        if trial.datetime_start and trial.state != TrialState.WAITING and FORKED not in trial.user_attrs
    ]
    now = _now(snapshot)
    spans = ((start, max(start, trial.datetime_complete or now), trial) for start, trial in began)
    return sorted(spans, key=lambda span: (span[0], span[2].number))


def _now(snapshot: StudySnapshot) -> datetime:
    """For trials without an end; of a sweep that has died the last moment in which something happened."""
    if snapshot.supervisor and snapshot.supervisor.seems_alive():
        return datetime.now()
    moments = [
        moment for trial in snapshot.trials for moment in (trial.datetime_start, trial.datetime_complete) if moment
    ]
    return max(moments, default=datetime.now())


def _sessions(spans: Sequence[Span]) -> Iterable[list[Span]]:
    session: list[Span] = []
    until = datetime.max
    for span in spans:
        if session and (span[0] - until).total_seconds() > PAUSE_S:
            yield session
            session = []
        until = max(until, span[1]) if session else span[1]
        session.append(span)
    if session:
        yield session


def _per_slot(session: Sequence[Span], last: datetime) -> Iterable[tuple[float, float]]:
    """Of each slot the seconds that it worked and that it was there."""
    ordered = sorted(session, key=lambda span: slot(span[2]))
    for _, group in groupby(ordered, key=lambda span: slot(span[2])):
        mine = list(group)
        worked = sum((end - start).total_seconds() for start, end, _ in mine)
        yield worked, (last - min(start for start, _, _ in mine)).total_seconds()


def _by_number(name: str) -> tuple[str, int, str]:
    """`2` before `10`; those that joined behind."""
    host, _, last = name.rpartition("/")
    return host, int(last) if last.isdigit() else -1, last
