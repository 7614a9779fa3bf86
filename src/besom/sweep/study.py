"""The study is the queue: every question besom asks of Optuna is asked here.

A worker claims its next trial under the study's lock: one that waits or, while the study is short of its budget, a new
one. So no count can race, and nothing hands out work. The holder of a trial renews its lease; whoever finds a lease
that has stopped gives the trial back, and what the old holder says after that is refused.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from besom.errors import InputError
from besom.secrecy import masked
from besom.sweep.infeasible import SamplersStudy, mark_infeasible
from besom.sweep.lease import Lease, LeaseLost, Watch
from besom.sweep.objective import Direction, Objective
from besom.sweep.storage import ServerLost, alone, open_storage

MakeSampler = Callable[[int], BaseSampler]
P = ParamSpec("P")
T = TypeVar("T")

# user attributes of the study
FOLDER, PARENT_RUN, STOP, SPACE, SUPERVISOR = (
    "besom.folder",
    "besom.run",
    "besom.stop",
    "besom.space",
    "besom.supervisor",
)
# and of its last sweep: its budget, its last moment, where it was recorded, how it was started, what it does not search
N_TRIALS, DEADLINE, TRACKING, EXPERIMENT, COMMAND, FIXED = (
    "besom.n_trials",
    "besom.deadline",
    "besom.tracking_uri",
    "besom.experiment",
    "besom.command",
    "besom.fixed",
)
# what it is to find out, in words; the app it sweeps, as a user would start it; how many trials at a time
QUESTION, PROGRAM, SLOTS = "besom.question", "besom.program", "besom.slots"
# what its app has settled before its first trial, for all of them: overrides, and why; who asks it just now
SETTLED, SETTLER = "besom.settled", "besom.settler"
# user attributes of a trial
RUN, LEASE, BEAT, ENDS, KIND, REASON, OVERRIDES = (
    "besom.run",
    "besom.lease",
    "besom.beat",
    "besom.ends",
    "besom.kind",
    "besom.reason",
    "besom.overrides",
)

FORKED = "besom.forked"  # of a trial that a fork has adopted: the study and the number it comes from
TRIAL = "besom.trial"  # of a run in MLflow: the number of its trial

SWEPT = "BESOM_STUDY"  # in the environment of all processes of a sweep: the study's identity

LOOK_S = 1.0  # between two looks for a beat

COUNTED = (
    "lost",
    "killed",
    "exception",
)  # ends of an attempt that spend one of a trial's retries; an interruption does not


class StudyChanged(InputError):  # noqa: N818 - what happened
    """The study of that name searches another space, or for another objective."""


@dataclass(frozen=True)
class Stop:
    """Why no further trial is begun, whatever the budget says."""

    cause: Literal["interrupted", "asked", "refused", "failing", "settled"]
    why: str = ""

    @property
    def at_once(self) -> bool:
        """Whether running trials are given back; otherwise they come to their end."""
        return self.cause != "settled"


@dataclass(frozen=True)
class Counts:
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial]) -> Self:
        states = [trial.state for trial in trials]
        return cls(
            complete=states.count(TrialState.COMPLETE),
            pruned=states.count(TrialState.PRUNED),
            failed=states.count(TrialState.FAIL),
            running=states.count(TrialState.RUNNING),
            waiting=states.count(TrialState.WAITING),
        )

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True)
class Claim:
    """A trial in this worker's hands."""

    trial: Trial
    lease: Lease

    @property
    def number(self) -> int:
        return self.trial.number


def _all_or_nothing(method: Callable[Concatenate[Study, P], T]) -> Callable[Concatenate[Study, P], T]:
    """Done again where the server was lost on the way: it has kept nothing of it."""

    @functools.wraps(method)
    def do(study: Study, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return method(study, *args, **kwargs)
            except ServerLost:
                study._connect()

    return do


class Study:
    """One connection to a study in its storage."""

    def __init__(self, url: str, name: str, *, wait: bool = False, storage: RDBStorage | None = None) -> None:
        """`wait`: for a server that is away. `storage`: of this URL, where it is open already."""
        self.url = url
        self.name = name
        self._rdb = storage or open_storage(url, wait=wait)
        self._connect()

    def _connect(self) -> None:
        """With nothing in mind of what was read before."""
        # the cache is part of it: a trial it has not read cannot be written to
        self._storage = get_storage(self._rdb)
        self._study = self._load()

    @classmethod
    def create(
        cls,
        url: str,
        name: str,
        objectives: Sequence[Objective],
        folder: Path,
        space: dict[str, str],
        known: Sequence[Mapping[str, Any]] = (),
        adopted: Sequence[FrozenTrial] = (),
    ) -> Self:
        """The study of that name: a new one in `folder`, or the one that is there, whose folder is kept.

        `space` describes what is searched, a line a key. A new study begins with the `adopted` trials of another one,
        and then tries the `known` points, by Optuna's names.

        Raises:
            StudyChanged: the study there searches another space or for another objective.
            InputError: the storage cannot be opened.
        """
        directions = tuple(objective.direction for objective in objectives)
        described = {objective.key: f"{objective.direction} {objective.name}" for objective in objectives} | space
        storage = open_storage(url)
        with alone(storage, f"besom {name}"):
            study = _whole_or_new(storage, name, directions)
            if (there := _directions(study)) != directions:
                raise StudyChanged(
                    f"study {name!r} in {masked(url)} has the objective {_said(there)}, but this sweep has "
                    f"{_said(directions)}: choose another hydra.sweeper.study_name"
                )
            if FOLDER not in study.user_attrs:
                study.set_user_attr(SPACE, described)
                study.add_trials(adopted)
                for point in known:
                    study.enqueue_trial(dict(point))
                study.set_user_attr(FOLDER, str(folder))
            elif changes := _changes(study.user_attrs[SPACE], described):
                raise StudyChanged(
                    f"study {name!r} in {masked(url)} searches another space (- the study's, + this sweep's):\n"
                    + "\n".join(f"  {line}" for line in changes)
                    + "\nput it back, choose another hydra.sweeper.study_name, "
                    "or go on from the trials that fit: hydra.sweeper.resume=fork"
                )
        return cls(url, name)

    @property
    def folder(self) -> Path:
        """Where the study's trials have their folders, in every session."""
        return Path(self._study.user_attrs[FOLDER])

    @property
    def identity(self) -> str:
        """The same for all who sweep this study, wherever its storage lies."""
        return f"{masked(self.url)}#{self.name}"

    # ── the queue ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @_all_or_nothing
    def claim(self, n_trials: int, sampler: MakeSampler, pruner: BasePruner, slot: str = "") -> Claim | None:
        """Take the next trial for this worker alone; None when the budget is spent or what is left runs elsewhere.

        `sampler` is given the trial's number, so that a seed gives each trial its own point, whichever worker and
        session asks for it.
        """
        with self._lock():
            counts = self.counts()
            if counts.finished + counts.running >= n_trials:  # a budget made smaller leaves some waiting
                return None
            trial_id = self._next_id()
            lease = Lease.mine(slot)
            self._storage.set_trial_user_attr(trial_id, LEASE, lease.as_attr())
        try:
            number = self._storage.get_trial(trial_id).number
        except KeyError as error:  # a server that crashed may give a lost transaction's number to another one
            raise ServerLost("the server has not kept the trial") from error
        # a fresh study: Optuna's own keeps a list of trials from its last look
        seen = SamplersStudy(self.name, self._storage, sampler(number), pruner)
        return Claim(Trial(seen, trial_id), lease)

    def renew(self, claim: Claim, beat: Lease) -> None:
        """Raises LeaseLost: this worker was taken for dead.

        Takes no lock, for which many workers would queue: a beat that comes late touches nobody else's.
        """
        self._storage.set_trial_user_attr(claim.trial._trial_id, BEAT, [beat.token, beat.beat])
        _refuse_late(self._storage.get_trial(claim.trial._trial_id), claim)

    @_all_or_nothing
    def has_run(self, claim: Claim, run_id: str) -> bool:
        """Remember the trial's run in MLflow, for all its attempts; False: another attempt's run counts."""
        with self._lock():
            trial = self._storage.get_trial(claim.trial._trial_id)
            if known := trial.user_attrs.get(RUN):
                return bool(known == run_id)
            lease = held_by(trial)
            if trial.state != TrialState.WAITING and (lease is None or lease.token != claim.lease.token):
                return False
            if not trial.state.is_finished():  # a finished trial takes no more
                self._storage.set_trial_user_attr(trial._trial_id, RUN, run_id)
            return True

    def runs(self, claim: Claim) -> bool:
        """Whether the trial is being attempted, by whomever."""
        return self._storage.get_trial(claim.trial._trial_id).state == TrialState.RUNNING

    @_all_or_nothing
    def complete(self, claim: Claim, values: Sequence[float]) -> None:
        with self._held(claim):
            claim.trial.study.tell(claim.trial, list(values))

    @_all_or_nothing
    def prune(self, claim: Claim) -> None:
        with self._held(claim):
            claim.trial.study.tell(claim.trial, state=TrialState.PRUNED)

    @_all_or_nothing
    def fail(self, claim: Claim, kind: str, reason: str) -> None:
        with self._held(claim):
            if kind == "oom":
                mark_infeasible(claim.trial)
            self._fail(claim.trial._trial_id, kind, reason)

    @_all_or_nothing
    def requeue(self, claim: Claim, end: str) -> None:
        """Give an unfinished trial back: it keeps its number and its point, and waits for another attempt."""
        with self._held(claim):
            self._requeue(claim.trial._trial_id, end)

    def reported(self, claim: Claim) -> dict[int, float]:
        """The values by their steps, from this attempt or an earlier one."""
        return self._storage.get_trial(claim.trial._trial_id).intermediate_values

    def retries_left(self, claim: Claim, max_retries: int) -> int:
        return max_retries - _retries(claim.trial.user_attrs.get(ENDS, []))

    @_all_or_nothing
    def reap(self, watch: Watch, max_retries: int) -> list[int]:
        """Give back the trials whose holders are gone, or fail those that have no retry left; their numbers."""
        gone = [trial for trial in self.trials((TrialState.RUNNING,)) if watch.stopped(trial.number, held_by(trial))]
        if not gone:
            return []
        reaped = []
        with self._lock():
            for seen in gone:
                trial = self._storage.get_trial(seen._trial_id)
                if trial.state != TrialState.RUNNING or held_by(trial) != held_by(seen):
                    continue  # it has beaten, ended or been reaped since we looked
                if _retries(trial.user_attrs.get(ENDS, [])) < max_retries:
                    self._requeue(trial._trial_id, "lost")
                else:
                    self._fail(trial._trial_id, "lost", f"its worker died {max_retries + 1} times, with no word")
                reaped.append(trial.number)
        return reaped

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """By number."""
        return self._study.get_trials(deepcopy=False, states=tuple(states) if states else None)

    def counts(self) -> Counts:
        return Counts.of(self.trials())

    def owed(self, n_trials: int) -> int:
        """Trials without an end yet; running ones are owed until they have one."""
        return max(0, n_trials - self.counts().finished)

    def best(self, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
        """The complete trial with the best value; with several objectives those that none beats in all (Pareto).

        By number, and of equal ones the first; empty before the first complete trial. `trials`: as read before.
        """
        there = self.trials() if trials is None else trials
        complete = [trial for trial in there if trial.state == TrialState.COMPLETE]
        if len(self._study.directions) > 1:
            front = {trial.number for trial in self._study.best_trials}
            return [trial for trial in complete if trial.number in front]
        sign = 1 if self._study.direction == StudyDirection.MAXIMIZE else -1
        return [max(complete, key=lambda trial: sign * float(trial.value or 0.0))] if complete else []

    def as_optuna(self) -> optuna.Study:
        """For what Optuna itself judges; not to be written to."""
        return self._study

    def objectives(self) -> tuple[Objective, ...]:
        return tuple(
            Objective(name, direction, key)
            for key, text in list(self._study.user_attrs[SPACE].items())[: len(self._study.directions)]
            for direction, _, name in [text.partition(" ")]
        )

    def space(self) -> dict[str, str]:
        """As `Space.describe` has said it, a line a key."""
        return dict(list(self._study.user_attrs[SPACE].items())[len(self._study.directions) :])

    # ── what the study remembers ──────────────────────────────────────────────────────────────────────────────────────
    def remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        return self._study.user_attrs.get(key)

    @_all_or_nothing
    def request_stop(self, stop: Stop) -> None:
        """Ask every worker, wherever it runs, to end; the first request of a session stands."""
        with self._lock():
            if self.stop() is None:
                self.remember(STOP, asdict(stop))

    def stop(self) -> Stop | None:
        asked = self.recall(STOP)
        return Stop(**asked) if asked else None

    @_all_or_nothing
    def may_settle(self, mine: Lease, watch: Watch) -> bool:
        """True for one process at a time; for no other one until it is done, or dead."""
        with self._lock():
            asks = Lease.from_attr(self.recall(SETTLER))
            if self.recall(SETTLED) or (asks and not watch.stopped(SETTLER, asks)):
                return False
            self.remember(SETTLER, mine.as_attr())
            return True

    def supervisor(self) -> Lease | None:
        """The lease of the process that supervises the study, or of one that died while it did."""
        return Lease.from_attr(self.recall(SUPERVISOR))

    def forget_supervisor(self) -> None:
        self.remember(SUPERVISOR, None)

    @contextmanager
    def supervised(self, watch: Watch) -> Iterator[Callable[[], None]]:
        """Be the study's only supervisor; yields what renews that.

        Raises:
            InputError: another one is alive; says which.
        """
        self._refuse_second_supervisor(watch)
        beats = [Lease.mine()]
        self._become_supervisor(beats[0], watch)

        def renew() -> None:
            beats.append(beats.pop().renewed())
            self.remember(SUPERVISOR, beats[0].as_attr())

        try:
            yield renew
        finally:
            self.remember(SUPERVISOR, None)

    @_all_or_nothing
    def _become_supervisor(self, mine: Lease, watch: Watch) -> None:
        with self._lock():
            self._refuse_second_supervisor(watch)  # one that came while this one looked
            self.remember(STOP, None)
            self.remember(SUPERVISOR, mine.as_attr())

    def _refuse_second_supervisor(self, watch: Watch) -> None:
        """Of one on another machine only its beat tells whether it lives: that takes up to a lease."""
        first = self.supervisor()
        while (other := self.supervisor()) and not watch.stopped(SUPERVISOR, other):
            if other.is_here() or other != first:
                raise InputError(
                    f"study {self.name!r} is being swept by process {other.pid} on {other.host}: wait for it, stop it "
                    "with Ctrl-C there, or choose another hydra.sweeper.study_name"
                )
            time.sleep(LOOK_S)

    def _next_id(self) -> int:
        """A trial that waits, the first of them, or a new one; RUNNING from here on."""
        for waiting in self.trials((TrialState.WAITING,)):
            if self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                return waiting._trial_id
        return self._storage.create_new_trial(self._study._study_id)

    @contextmanager
    def _held(self, claim: Claim) -> Iterator[None]:
        """Look and write as one: under the lock, and only while the trial is still this claim's."""
        with self._lock():
            _refuse_late(self._storage.get_trial(claim.trial._trial_id), claim)
            yield

    def _requeue(self, trial_id: int, end: str) -> None:
        self._note_end(trial_id, end)
        self._storage.set_trial_user_attr(trial_id, LEASE, None)
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def _fail(self, trial_id: int, kind: str, reason: str) -> None:
        self._note_end(trial_id, kind)
        # before the state: a finished trial takes no more
        self._storage.set_trial_user_attr(trial_id, KIND, kind)
        self._storage.set_trial_user_attr(trial_id, REASON, reason)
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _note_end(self, trial_id: int, end: str) -> None:
        ends = self._storage.get_trial(trial_id).user_attrs.get(ENDS, [])
        self._storage.set_trial_user_attr(trial_id, ENDS, [*ends, end])

    def _lock(self) -> AbstractContextManager[object]:
        return alone(self._rdb, f"besom {self.name}")

    def _load(self) -> optuna.Study:
        return optuna.load_study(storage=self._storage, study_name=self.name)


def _whole_or_new(storage: BaseStorage, name: str, directions: Sequence[Direction]) -> optuna.Study:
    for _ in range(2):
        study = optuna.create_study(storage=storage, study_name=name, directions=list(directions), load_if_exists=True)
        if SPACE not in study.user_attrs or FOLDER in study.user_attrs:
            break
        optuna.delete_study(study_name=name, storage=storage)  # who made it was killed halfway
    return study


def _changes(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    sides = (("-", there), ("+", here))
    return [f"{sign} {key}: {side[key]}" for key in changed for sign, side in sides if key in side]


def _directions(study: optuna.Study) -> tuple[Direction, ...]:
    return tuple("maximize" if one == StudyDirection.MAXIMIZE else "minimize" for one in study.directions)


def _said(directions: Sequence[Direction]) -> str:
    """`maximized`, or `maximized, minimized`"""
    return ", ".join(f"{direction}d" for direction in directions)


def held_by(trial: FrozenTrial) -> Lease | None:
    return Lease.from_attr(trial.user_attrs.get(LEASE), trial.user_attrs.get(BEAT))


def _refuse_late(trial: FrozenTrial, claim: Claim) -> None:
    lease = held_by(trial)
    if trial.state != TrialState.RUNNING or lease is None or lease.token != claim.lease.token:
        raise LeaseLost(f"trial {trial.number} was taken from this worker, which was not heard of in time")


def _retries(ends: Sequence[str]) -> int:
    return sum(end in COUNTED for end in ends)
