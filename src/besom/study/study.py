"""A study in its storage: what it knows of its trials, what it remembers of its sweeps, and who leads one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from besom.config.redaction import redact, redact_url
from besom.errors import InputError
from besom.study.attrs import (
    BEAT,
    CHANGES,
    FINGERPRINT,
    FOLDER,
    ID,
    LEASE,
    OPENED,
    PREPARED,
    PREPARER,
    SPACE,
    STOP,
    SUPERVISOR,
)
from besom.study.folder import claim, foreign, is_own, keep_claim, lies_in, new_id
from besom.study.lease import Lease, LeaseMonitor
from besom.study.objective import Direction, Objective
from besom.study.storage import BesomStorage, exclusive, in_turn, open_storage, refuse_damaged, retry_transaction
from besom.study.validation import refuse_other_shape, refuse_other_shapes, without_odd
from besom.study.version import Version
from besom.system.encoding import say
from besom.system.storable import on_one_line

SWEPT = "BESOM_STUDY"  # in the environment of all processes of a sweep: the study's identity

LOOK_S = 1.0  # between two looks for a beat


class StudyChanged(InputError):  # noqa: N818 - what happened
    """The study of that name searches another space, for another objective, or with other settings or data."""

    def __init__(self, why: str, *, adopts: bool = True) -> None:
        """`adopts`: whether its trials say something about those of the sweep."""
        super().__init__(why)
        self.adopts = adopts


CAUSES = Literal["interrupted", "asked", "refused", "changed", "failing", "settled", "full"]


@dataclass(frozen=True)
class StopRequest:
    """Why no further trial is begun, whatever the budget says."""

    cause: CAUSES
    why: str = ""

    @classmethod
    def from_attr(cls, asked: Any) -> Self:
        """A request of another shape, as another release of besom may have written it, is one to stop all the same."""
        match asked:
            case {"cause": str(cause), "why": str(why), **more} if cause in get_args(CAUSES) and not more:
                return cls(cause, why)  # type: ignore[arg-type]
        return cls("asked", f"a request that this release of besom cannot read: {on_one_line(str(asked), 100)}")

    @property
    def at_once(self) -> bool:
        """Whether running trials are given back; otherwise they come to their end."""
        return self.cause not in ("settled", "full")


@dataclass(frozen=True)
class Counts:
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial]) -> Self:
        return cls.from_states(Counter(trial.state for trial in trials))

    @classmethod
    def from_states(cls, counts: Mapping[TrialState, int]) -> Self:
        """`counts`: of the trials, by their state."""
        return cls(
            complete=counts.get(TrialState.COMPLETE, 0),
            pruned=counts.get(TrialState.PRUNED, 0),
            failed=counts.get(TrialState.FAIL, 0),
            running=counts.get(TrialState.RUNNING, 0),
            waiting=counts.get(TrialState.WAITING, 0),
        )

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


@dataclass
class _Seen:
    """What was read of a storage of this version, or of a later one; None: nothing yet."""

    version: int | None
    trials: list[FrozenTrial] | None = None
    attrs: dict[str, Any] | None = None
    counts: Counts | None = None


@dataclass(frozen=True)
class Shared:
    """What all trials of a study share, and its space does not say; None: not compared."""

    settings: Mapping[str, str] | None = None  # a line a key, as `fingerprint` has it
    data: Mapping[str, str] | None = None  # what its app says of the data


NOT_COMPARED = Shared()


@dataclass(frozen=True)
class Change:
    """Of what a study's trials share."""

    after: int  # so many trials had an end then
    lines: Sequence[str]


class Study:
    """One connection to a study in its storage."""

    def __init__(self, url: str, name: str, *, wait: bool = False, storage: BesomStorage | None = None) -> None:
        """`wait`: for a server that is away. `storage`: of this URL, where it is open already."""
        self.url = url
        self.name = name
        self._rdb = storage or open_storage(url, wait=wait)
        self._version = Version(url)
        self._places: dict[Path, Path] = {}  # where a folder was when it was written down, and is now
        self.reconnect()

    def reconnect(self) -> None:
        """With nothing in mind of what was read before."""
        # the cache is part of it: a trial it has not read cannot be written to
        self.storage = in_turn(self._rdb)
        self._study = self._load()
        self._seen = _Seen(None)

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
        shared: Shared = NOT_COMPARED,
        accept: bool = False,
    ) -> Self:
        """The study of that name: a new one in `folder`, or the one that is there, whose folder is kept.

        `space` describes what is searched, a line a key. A new study begins with the `adopted` trials of another one,
        and then tries the `known` points, by Optuna's names. `accept`: other settings hold from here on; the study
        remembers that.

        Raises:
            StudyChanged: the study there searches another space, for another objective, or with other settings.
            InputError: the storage cannot be opened.
        """
        storage = open_storage(url)
        refuse_damaged(url)
        with exclusive(storage, f"besom {name}"):
            study = _whole_or_new(storage, name, tuple(objective.direction for objective in objectives))
            if FOLDER not in study.user_attrs:
                study.set_user_attr(SPACE, _described(objectives, space))
                study.set_user_attr(FINGERPRINT, shared.settings)
                study.add_trials(adopted)
                for point in known:
                    study.enqueue_trial(dict(point))
                study.set_user_attr(ID, identity := new_id())
                study.set_user_attr(FOLDER, str(claim(folder, identity, name, url)))
            elif changes := _compared(study, url, objectives, space, shared, accept=accept):
                _note_changes(study, changes)
                study.set_user_attr(FINGERPRINT, shared.settings)
            elif study.user_attrs.get(FINGERPRINT) is None:
                study.set_user_attr(FINGERPRINT, shared.settings)
            _take_over(study, folder)
        return cls(url, name)

    def compare(
        self, objectives: Sequence[Objective], space: dict[str, str], shared: Shared, *, accept: bool = False
    ) -> list[str]:
        """In what settings a sweep differs, where that is to be accepted, a line a change; nothing is written.

        Raises:
            StudyChanged: as `create`.
        """
        return _compared(self._study, self.url, objectives, space, shared, accept=accept)

    def keep_folder(self) -> None:
        """Say where it has moved to, if it has. Raises InputError: another study has it."""
        recorded = Path(self.recall(FOLDER))
        if self.folder != recorded:
            say(f"study {self.name}: its folder lies in {self.folder} now, as its storage has moved; it was {recorded}")
            self.remember(FOLDER, str(self.folder))
        elif not recorded.exists() and self.counts().finished:
            say(f"study {self.name}: {self.gone_folder()}; without that, the next trials go there")
        keep_claim(self.folder, self.recall(ID), self.name, self.url)

    def gone_folder(self) -> str | None:
        """What is to be said where its folder is not there."""
        if self.folder.exists():
            return None
        return (
            f"its folder {self.folder} is not there: if it was moved, tell a sweep where it lies now, "
            "hydra.sweep.dir=FOLDER, or put it beside its storage as it was"
        )

    def foreign_folder(self) -> str | None:
        """What is to be said where another study has its folder."""
        return foreign(self.folder, self.recall(ID), self.name)

    def note_changes(self, lines: Sequence[str]) -> None:
        """Of what all trials share: they hold for those that end from here on."""
        _note_changes(self._study, lines)

    def changes(self) -> list[Change]:
        """In the order in which they came."""
        return [Change(*change) for change in self.recall(CHANGES) or ()]

    @property
    def folder(self) -> Path:
        """Where the study's trials have their folders, in every session."""
        recorded = Path(self.recall(FOLDER))
        if recorded not in self._places:
            self._places[recorded] = lies_in(recorded, self.recall(ID), self.url)
        return self._places[recorded]

    @property
    def identity(self) -> str:
        """The same for all who sweep this study, wherever its storage lies."""
        return f"{redact_url(self.url)}#{self.name}"

    # ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """By number."""
        seen = self._up_to_date()
        if seen.trials is None:
            seen.trials = [without_odd(trial) for trial in self._study.get_trials(deepcopy=False)]
        return [trial for trial in seen.trials if states is None or trial.state in states]

    def counts(self) -> Counts:
        """Asked of the storage alone: each worker asks before each trial, and need not read the others."""
        seen = self._up_to_date()
        if seen.counts is None:
            seen.counts = Counts.from_states(self._rdb.counts(self._study._study_id))
        return seen.counts

    def remaining(self, n_trials: int) -> int:
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
            for key, text in list(self.recall(SPACE).items())[: len(self._study.directions)]
            for direction, _, name in [text.partition(" ")]
        )

    def space(self) -> dict[str, str]:
        """As `Space.describe` has said it, a line a key."""
        return dict(list(self.recall(SPACE).items())[len(self._study.directions) :])

    # ── what the study remembers ──────────────────────────────────────────────────────────────────────────────────────
    def remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        seen = self._up_to_date()
        if seen.attrs is None:
            seen.attrs = self._study.user_attrs
        value = seen.attrs.get(key)
        refuse_other_shape(self.url, self.name, key, value)
        return value

    @retry_transaction
    def request_stop(self, stop: StopRequest) -> None:
        """Ask every worker, wherever it runs, to end; the first request of a session stands."""
        with self.lock():
            if self.stop_request() is None:
                self.remember(STOP, asdict(stop))

    def stop_request(self) -> StopRequest | None:
        asked = self.recall(STOP)
        return StopRequest.from_attr(asked) if asked else None

    @retry_transaction
    def may_prepare(self, mine: Lease, watch: LeaseMonitor, is_done: Callable[[], bool]) -> bool:
        """True for one process at a time; for no other one until it is done, or dead."""
        with self.lock():
            asks = Lease.from_attr(self.recall(PREPARER))
            if is_done() or (asks and not watch.has_expired(PREPARER, asks)):
                return False
            self.remember(PREPARER, mine.as_attr())
            return True

    def allow_trials(self) -> None:
        """Its supervisor lets trials begin, till its session ends."""
        if supervisor := self.supervisor():
            self.remember(OPENED, supervisor.token)

    def trials_allowed(self) -> bool:
        supervisor = self.supervisor()
        return supervisor is not None and self.recall(OPENED) == supervisor.token

    def supervisor(self) -> Lease | None:
        """The lease of the process that supervises the study, or of one that died while it did."""
        return Lease.from_attr(self.recall(SUPERVISOR))

    def forget_supervisor(self) -> None:
        self.remember(SUPERVISOR, None)

    @contextmanager
    def supervised(self, watch: LeaseMonitor) -> Iterator[Callable[[], None]]:
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

    @retry_transaction
    def _become_supervisor(self, mine: Lease, watch: LeaseMonitor) -> None:
        with self.lock():
            self._refuse_second_supervisor(watch)  # one that came while this one looked
            self.remember(STOP, None)
            self.remember(SUPERVISOR, mine.as_attr())

    def _refuse_second_supervisor(self, watch: LeaseMonitor) -> None:
        """Of one on another machine only its beat tells whether it lives: that takes up to a lease."""
        first = self.supervisor()
        while (other := self.supervisor()) and not watch.has_expired(SUPERVISOR, other):
            if other.is_here() or other != first:
                raise InputError(
                    f"study {self.name!r} is being swept by process {other.pid} on {other.host}: wait for it, stop it "
                    "with Ctrl-C there, or choose another hydra.sweeper.study_name"
                )
            time.sleep(LOOK_S)

    def first_waiting(self) -> int | None:
        """The identity of the trial, as the storage has it."""
        return self._rdb.first_waiting(self._study._study_id)

    def renew(self, trial_id: int, lease: Lease) -> bool:
        """False: the trial is not held under that lease any more."""
        return self._rdb.renew(trial_id, lease.token, BEAT, [lease.token, lease.beat], LEASE)

    def lock(self) -> AbstractContextManager[object]:
        return exclusive(self._rdb, f"besom {self.name}")

    def _up_to_date(self) -> _Seen:
        """Many ask, several times a second, and seldom is there anything new."""
        version, seen = self._version(), self._seen
        if version is None or version != seen.version:
            self._seen = seen = _Seen(version)
        return seen

    def _load(self) -> optuna.Study:
        return optuna.load_study(storage=self.storage, study_name=self.name)


def _whole_or_new(storage: BaseStorage, name: str, directions: Sequence[Direction]) -> optuna.Study:
    for _ in range(2):
        study = optuna.create_study(storage=storage, study_name=name, directions=list(directions), load_if_exists=True)
        if SPACE not in study.user_attrs or FOLDER in study.user_attrs:
            break
        optuna.delete_study(study_name=name, storage=storage)  # who made it was killed halfway
    return study


def _described(objectives: Sequence[Objective], space: Mapping[str, str]) -> dict[str, str]:
    return {objective.key: f"{objective.direction} {objective.name}" for objective in objectives} | dict(space)


def _compared(
    study: optuna.Study,
    url: str,
    objectives: Sequence[Objective],
    space: Mapping[str, str],
    shared: Shared,
    *,
    accept: bool,
) -> list[str]:
    """The lines in which the settings differ, if they are to be accepted. Raises StudyChanged."""
    where, directions = f"study {study.study_name!r} in {redact(url)}", tuple(one.direction for one in objectives)
    refuse_other_shapes(url, study.study_name, study.user_attrs)
    if (there := _directions(study)) != directions:
        raise StudyChanged(
            f"{where} has the objective {_said(there)}, but this sweep has {_said(directions)}: choose another "
            "hydra.sweeper.study_name"
        )
    fixed = study.user_attrs.get(FINGERPRINT) or {}
    if changes := differences(study.user_attrs[SPACE], _described(objectives, space)):
        raise StudyChanged(
            f"{where} searches another space (- the study's, + this sweep's):\n"
            + listed(changes)
            + "\nput it back, choose another hydra.sweeper.study_name, "
            "or go on from the trials that fit: hydra.sweeper.resume=fork",
            adopts=all((shared.settings or {}).get(key, value) == value for key, value in fixed.items()),
        )
    known = (study.user_attrs.get(PREPARED) or {}).get("data")
    if shared.data is not None and known is not None and (changes := differences(known, shared.data)):
        raise StudyChanged(other_data(study.study_name, changes), adopts=False)
    if shared.settings is None or not fixed:
        return []
    changes = differences(fixed, shared.settings)
    if changes and not accept:
        raise StudyChanged(
            f"{where} has other fixed settings (- the study's, + this sweep's):\n" + listed(changes) + WAYS_OUT,
            adopts=False,
        )
    return changes


WAYS_OUT = (
    "\nput them back, begin a study of its own with hydra.sweeper.resume=fork, "
    "or mix the two all the same, which is recorded: hydra.sweeper.resume=anyway"
)


def other_data(name: str, changes: Sequence[str]) -> str:
    return f"study {name!r} was begun with other data (- the study's, + this sweep's):\n" + listed(changes) + WAYS_OUT


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """`- key: value` for what is only there, `+ key: value` for what is only here."""
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    sides = (("-", there), ("+", here))
    return [f"{sign} {key}: {side[key]}" for key in changed for sign, side in sides if key in side]


def listed(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _take_over(study: optuna.Study, folder: Path) -> None:
    """A folder that is the study's own, in the place of one that is gone: its user says where it was moved to."""
    recorded, identity = Path(study.user_attrs[FOLDER]), study.user_attrs.get(ID)
    if folder != recorded and not recorded.exists() and identity and is_own(folder, identity):
        study.set_user_attr(FOLDER, str(folder))


def _note_changes(study: optuna.Study, lines: Sequence[str]) -> None:
    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    study.set_user_attr(CHANGES, [*(study.user_attrs.get(CHANGES) or ()), [ended, list(lines)]])


def _directions(study: optuna.Study) -> tuple[Direction, ...]:
    return tuple("maximize" if one == StudyDirection.MAXIMIZE else "minimize" for one in study.directions)


def _said(directions: Sequence[Direction]) -> str:
    """`maximized`, or `maximized, minimized`"""
    return ", ".join(f"{direction}d" for direction in directions)
