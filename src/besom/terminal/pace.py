"""How a sweep gets on, from the times of its trials: how long it will take, and how much of its slots lies idle.

Optuna keeps the local time of the machine that ran a trial, without its zone: times of one machine are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from statistics import mean

from optuna.trial import FrozenTrial, TrialState

from besom.study.lease import lease_of
from besom.study.snapshot import StudySnapshot, seconds, slot

RECENT = 50  # trials that tell what one takes: a sampler may come to prefer larger models


def running(snapshot: StudySnapshot) -> list[FrozenTrial]:
    """Without those whose worker is known to be dead."""
    claimed = ((trial, lease_of(trial)) for trial in snapshot.trials if trial.state == TrialState.RUNNING)
    return [trial for trial, lease in claimed if lease is None or not lease.is_dead()]


def left(snapshot: StudySnapshot) -> int:
    """Trials without an end."""
    return max(0, snapshot.n_trials - snapshot.counts.finished)


def busy_for(trial: FrozenTrial, now: datetime) -> float:
    """Seconds."""
    return max(0.0, (now - trial.datetime_start).total_seconds()) if trial.datetime_start else 0.0


def to_go_s(snapshot: StudySnapshot, now: datetime) -> float | None:
    """Until the budget is spent, if trials go on taking what the last ones took; None before one has ended."""
    under_way = running(snapshot)
    busy = [busy_for(trial, now) for trial in under_way]
    slots = min(snapshot.slots, left(snapshot)) + len({slot(trial) for trial in under_way if not _is_own(trial)})
    each = _each_s(snapshot, busy)
    if each is None or not slots:
        return None
    begun = sum(max(0.0, each - so_far) for so_far in busy)
    return (begun + each * max(0, left(snapshot) - len(under_way))) / slots


def _each_s(snapshot: StudySnapshot, busy: list[float]) -> float | None:
    """What a trial takes. The first to end are the short ones: those that already take longer than they count too."""
    ended = [took for trial in snapshot.trials if trial.state.is_finished() and (took := seconds(trial)) is not None]
    if not ended:
        return None
    recent = ended[-RECENT:]
    return mean([*recent, *(so_far for so_far in busy if so_far > mean(recent))])


def idle_share(snapshot: StudySnapshot, now: datetime) -> float | None:
    """Of the sweep's own slots, since this session's first trial; None before that."""
    own = [trial for trial in of_this_session(snapshot) if _is_own(trial)]
    if not own or not snapshot.slots:
        return None
    first = min(trial.datetime_start for trial in own if trial.datetime_start)
    whole = (now - first).total_seconds() * min(snapshot.slots, snapshot.n_trials)
    busy = sum(busy_for(trial, trial.datetime_complete or now) for trial in own)
    return max(0.0, 1 - busy / whole) if whole > 0 else None


def of_this_session(snapshot: StudySnapshot) -> Iterator[FrozenTrial]:
    began = snapshot.supervisor.since if snapshot.supervisor else float("inf")
    for trial in snapshot.trials:
        if trial.datetime_start and trial.datetime_start.timestamp() >= began:
            yield trial


def _is_own(trial: FrozenTrial) -> bool:
    """Whether it ran in a slot of the supervisor's; of a worker that joined it is `host-4711/0`."""
    return "/" not in slot(trial)
