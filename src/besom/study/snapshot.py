"""What a study has found, at one moment: whoever shows a study, on a terminal, a page or in a file, asks here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from besom.study.attrs import (
    KIND,
    N_TRIALS,
    OVERRIDES,
    PREPARED,
    PREPARER,
    PROGRAM,
    QUESTION,
    REASON,
    RUN,
    SLOTS,
    TRACKING,
)
from besom.study.lease import Lease, lease_of
from besom.study.objective import Objective, described
from besom.study.study import Change, Counts, StopRequest, Study
from besom.tracking.run_log import run_of

NAMED = 12  # trials, where many are alike


@dataclass(frozen=True)
class StudySnapshot:
    """Read once; it does not change while the sweep goes on."""

    name: str
    question: str
    program: str  # the app, as a user would start it
    objectives: tuple[Objective, ...]
    space: dict[str, str]  # what is searched, a line a key
    n_trials: int  # asked for
    folder: Path
    trials: list[FrozenTrial]  # by number
    counts: Counts
    best: list[FrozenTrial]  # one; with several objectives the Pareto front; none before a trial is complete
    supervisor: Lease | None  # of the process that sweeps it, or died while it did
    slots: int  # of the supervisor's own workers
    stop: StopRequest | None  # what has ended its last sweep before the budget was spent
    optuna: OptunaStudy  # for what Optuna itself computes; not to be written to
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what took long to compute from it
    waits_for: str = ""  # before the first trial of a session
    settled: str = ""  # what its app has settled for all trials, in words
    changes: Sequence[Change] = ()  # of its settings, data or code, between two sessions

    @classmethod
    def of(cls, study: Study) -> Self:
        trials = study.trials()  # once: what is counted is what is shown
        return cls(
            name=study.name,
            question=study.recall(QUESTION) or "",
            program=study.recall(PROGRAM) or "",
            objectives=study.objectives(),
            space=study.space(),
            n_trials=study.recall(N_TRIALS) or 0,
            folder=study.folder,
            trials=trials,
            counts=Counts.of(trials),
            best=study.best(trials),
            supervisor=study.supervisor(),
            slots=study.recall(SLOTS) or 0,
            settled=(study.recall(PREPARED) or {}).get("said", ""),
            waits_for=_waits_for(study),
            stop=study.stop_request(),
            changes=study.changes(),
            optuna=study.as_optuna(),
        )

    @property
    def is_swept(self) -> bool:
        """As far as it can be known here, at one look."""
        return self.supervisor is not None and self.supervisor.seems_alive()

    def ranked(self) -> list[FrozenTrial]:
        """The complete trials, the best first; with several objectives the Pareto front, then the others by number."""
        complete = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        if len(self.objectives) > 1:
            front = {trial.number for trial in self.best}
            return sorted(complete, key=lambda trial: (trial.number not in front, trial.number))
        sign = -1 if self.objectives[0].direction == "maximize" else 1
        return sorted(complete, key=lambda trial: sign * trial.values[0])

    @property
    def best_groups(self) -> list[list[FrozenTrial]]:
        """The best trials, those of equal values together: of one objective all that share the best value."""
        if len(self.objectives) > 1:
            alike: dict[tuple[float, ...], list[FrozenTrial]] = {}
            for trial in self.best:
                alike.setdefault(tuple(trial.values), []).append(trial)
            return list(alike.values())
        shared = (trial for trial in self.ranked() for best in self.best if trial.values == best.values)
        return [group] if (group := list(shared)) else []

    def rank(self, trial: FrozenTrial) -> int:
        """Its place among the complete trials of one objective; equal values share a place."""
        return 1 + next(place for place, other in enumerate(self.ranked()) if other.values == trial.values)

    def said(self, trial: FrozenTrial) -> str:
        """Its objective: `val/acc 0.9861`."""
        return described(trial.values, self.objectives)

    def command(self, trial: FrozenTrial) -> str:
        """What to paste into a shell to train this point again, alone."""
        return shlex.join([*shlex.split(self.program), *trial.user_attrs.get(OVERRIDES, ())])

    def run_id(self, trial: FrozenTrial) -> str | None:
        """Of the trial's run in MLflow."""
        return run_id(self.folder, trial)


def run_id(folder: Path, trial: FrozenTrial) -> str | None:
    """Of the run of a trial of the study in `folder`.

    A trial that ended before MLflow had made its run does not know it; its log does.
    """
    return trial.user_attrs.get(RUN) or run_of(folder / str(trial.number) / "run.jsonl")


def _waits_for(study: Study) -> str:
    """What keeps the slots of a study that is being swept from their first trial."""
    asks = Lease.from_attr(study.recall(PREPARER))
    if asks and not study.recall(PREPARED) and not asks.is_dead():
        return "besom.prepare"
    if study.recall(TRACKING) and not study.trials_allowed():
        return "MLflow"
    return "a worker"


def tie(group: Sequence[FrozenTrial], value: str) -> str:
    """`3 trials share 0.9917: 4, 7, 12`, of trials with equal values; nothing of one alone."""
    return f"{len(group)} trials share {value}: {listed([trial.number for trial in group])}" if len(group) > 1 else ""


def listed(numbers: Sequence[int]) -> str:
    """`0, 3, 7`, or the first of them `and 40 more`."""
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(str, numbers[:NAMED])) + more


def point(trial: FrozenTrial) -> dict[str, Any]:
    """Its parameters by their config keys; a key that two branches search differently has a name for each in Optuna."""
    return {name.partition(" [")[0].lstrip("+"): value for name, value in trial.params.items()}


def seconds(trial: FrozenTrial) -> float | None:
    """Of its last attempt; None before its end."""
    return trial.duration.total_seconds() if trial.duration else None


def slot(trial: FrozenTrial) -> str:
    """Where it ran: `0` on the supervisor's machine, `host-4711/0` in a worker that joined."""
    lease = lease_of(trial)
    return lease.slot if lease else ""


def why(trial: FrozenTrial) -> str:
    """Of a failed trial: `nan: the task function returned nan`."""
    kind, reason = trial.user_attrs.get(KIND, ""), trial.user_attrs.get(REASON, "")
    return ": ".join(filter(None, (kind, reason)))
