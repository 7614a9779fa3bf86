"""How a sweep gets on, from the times of its trials: how long it will take, and how much of its slots lies idle.

Optuna keeps the local time of the machine that ran a trial, without its zone: times of one machine are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from statistics import mean

from optuna.trial import FrozenTrial, TrialState

from besom.study.lease import held_by
from besom.study.snapshot import Findings, seconds, slot

RECENT = 50  # trials that tell what one takes: a sampler may come to prefer larger models


def running(findings: Findings) -> list[FrozenTrial]:
    """Without those whose worker is known to be dead."""
    claimed = ((trial, held_by(trial)) for trial in findings.trials if trial.state == TrialState.RUNNING)
    return [trial for trial, lease in claimed if lease is None or not lease.is_dead()]


def left(findings: Findings) -> int:
    """Trials without an end."""
    return max(0, findings.n_trials - findings.counts.finished)


def busy_for(trial: FrozenTrial, now: datetime) -> float:
    """Seconds."""
    return max(0.0, (now - trial.datetime_start).total_seconds()) if trial.datetime_start else 0.0


def to_go_s(findings: Findings, now: datetime) -> float | None:
    """Until the budget is spent, if trials go on taking what the last ones took; None before one has ended."""
    under_way = running(findings)
    busy = [busy_for(trial, now) for trial in under_way]
    slots = min(findings.slots, left(findings)) + len({slot(trial) for trial in under_way if not _is_own(trial)})
    each = _each_s(findings, busy)
    if each is None or not slots:
        return None
    begun = sum(max(0.0, each - so_far) for so_far in busy)
    return (begun + each * max(0, left(findings) - len(under_way))) / slots


def _each_s(findings: Findings, busy: list[float]) -> float | None:
    """What a trial takes. The first to end are the short ones: those that already take longer than they count too."""
    ended = [took for trial in findings.trials if trial.state.is_finished() and (took := seconds(trial)) is not None]
    if not ended:
        return None
    recent = ended[-RECENT:]
    return mean([*recent, *(so_far for so_far in busy if so_far > mean(recent))])


def idle_share(findings: Findings, now: datetime) -> float | None:
    """Of the sweep's own slots, since this session's first trial; None before that."""
    own = [trial for trial in of_this_session(findings) if _is_own(trial)]
    if not own or not findings.slots:
        return None
    first = min(trial.datetime_start for trial in own if trial.datetime_start)
    whole = (now - first).total_seconds() * min(findings.slots, findings.n_trials)
    busy = sum(busy_for(trial, trial.datetime_complete or now) for trial in own)
    return max(0.0, 1 - busy / whole) if whole > 0 else None


def of_this_session(findings: Findings) -> Iterator[FrozenTrial]:
    began = findings.supervisor.since if findings.supervisor else float("inf")
    for trial in findings.trials:
        if trial.datetime_start and trial.datetime_start.timestamp() >= began:
            yield trial


def _is_own(trial: FrozenTrial) -> bool:
    """Whether it ran in a slot of the supervisor's; of a worker that joined it is `host-4711/0`."""
    return "/" not in slot(trial)
