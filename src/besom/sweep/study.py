"""The study is the queue: every question besom asks of Optuna is asked here.

The budget is written into the study before the first trial runs, as WAITING trials. A worker that claims one takes it
from all others; when none is left, the budget is spent. So no count can race, and nothing hands out work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from besom.errors import InputError
from besom.locks import masked, sqlite_file, sqlite_lock

Direction = Literal["maximize", "minimize"]
MakeSampler = Callable[[int], BaseSampler]

# user attributes of the study and of its trials
FOLDER, PARENT_RUN, STOP = "besom.folder", "besom.run", "besom.stop"
RUN, REASON = "besom.run", "besom.reason"


@dataclass(frozen=True)
class Counts:
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


class Study:
    """One connection to a study in its storage."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self._storage = _storage(url)
        self._study = self._load()

    @classmethod
    def create(cls, url: str, name: str, direction: Direction, folder: Path) -> Self:
        """The study of that name: a new one in `folder`, or the one that is there, whose folder is kept.

        Raises:
            InputError: the storage cannot be opened, or the study there searches in the other direction.

        """
        with sqlite_lock(url):  # two processes that make one fresh SQLite file's tables destroy each other's
            storage = _storage(url)
            study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
            there = _direction(study)
            if there != direction:
                raise InputError(
                    f"study {name!r} in {masked(url)} {there[:-1]}es its objective, but this sweep {direction[:-1]}es: "
                    "choose another hydra.sweeper.study_name"
                )
            if FOLDER not in study.user_attrs:
                study.set_user_attr(FOLDER, str(folder))
        return cls(url, name)

    @property
    def folder(self) -> Path:
        """Where the study's trials have their folders, in every session."""
        return Path(self._study.user_attrs[FOLDER])

    @property
    def direction(self) -> Direction:
        return _direction(self._study)

    def top_up(self, n_trials: int) -> int:
        """Queue what the study still owes to reach `n_trials`; how many that leaves waiting."""
        owed = n_trials - len(self.trials())
        for _ in range(owed):
            self._study.enqueue_trial({})
        return self.counts().waiting

    def claim(self, n_trials: int, sampler: MakeSampler, pruner: BasePruner) -> Trial | None:
        """Take the next waiting trial for this worker alone; None when the budget is spent.

        `sampler` is given the trial's number, so that a seed gives each trial its own point, whichever worker and
        session asks for it.
        """
        with sqlite_lock(self.url):  # SQLite does not lock the row between Optuna's look and its write
            counts = self.counts()
            if counts.finished + counts.running >= n_trials:  # a budget made smaller leaves some waiting
                return None
            for waiting in self.trials((TrialState.WAITING,)):
                if self._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
                    # a fresh study: Optuna's own keeps a list of trials from its last look
                    return Trial(self._load(sampler(waiting.number), pruner), waiting._trial_id)
        return None

    def requeue(self, trial: Trial) -> None:
        """Give an unfinished trial back: it keeps its number and its point, and waits for another attempt."""
        self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def complete(self, trial: Trial, value: float) -> None:
        self._study.tell(trial, value)

    def prune(self, trial: Trial) -> None:
        self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        trial.set_user_attr(REASON, reason)  # before tell: a finished trial takes no more
        self._study.tell(trial, state=TrialState.FAIL)

    def trials(self, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        """By number."""
        return self._study.get_trials(deepcopy=False, states=tuple(states) if states else None)

    def counts(self) -> Counts:
        states = [trial.state for trial in self.trials()]
        return Counts(
            complete=states.count(TrialState.COMPLETE),
            pruned=states.count(TrialState.PRUNED),
            failed=states.count(TrialState.FAIL),
            running=states.count(TrialState.RUNNING),
            waiting=states.count(TrialState.WAITING),
        )

    def best(self) -> FrozenTrial | None:
        """The complete trial with the best value; None before the first."""
        complete = self.trials((TrialState.COMPLETE,))
        if not complete:
            return None
        sign = 1 if self.direction == "maximize" else -1
        return max(complete, key=lambda trial: sign * float(trial.value or 0.0))

    def remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        return self._study.user_attrs.get(key)

    def request_stop(self) -> None:
        """Ask every worker, wherever it runs, to give its trial back and end."""
        self.remember(STOP, True)

    def allow_start(self) -> None:
        self.remember(STOP, False)

    def stop_requested(self) -> bool:
        return bool(self.recall(STOP))

    def _load(self, sampler: BaseSampler | None = None, pruner: BasePruner | None = None) -> optuna.Study:
        return optuna.load_study(storage=self._storage, study_name=self.name, sampler=sampler, pruner=pruner)


def _storage(url: str) -> BaseStorage:
    optuna.logging.set_verbosity(logging.WARNING)
    where = f"hydra.sweeper.storage={masked(url)}"
    path = sqlite_file(url)
    if path and not path.parent.is_dir():
        raise InputError(f"{where}: no such folder: {path.parent}; make it first")
    try:
        # the cache is part of it: a trial it has not read cannot be written to
        return get_storage(RDBStorage(url))
    except Exception as error:  # Optuna lets through the errors of SQLAlchemy and of each driver
        raise InputError(f"{where}: cannot be opened: {masked(str(error).strip().splitlines()[0])}") from error


def _direction(study: optuna.Study) -> Direction:
    return "maximize" if study.direction == StudyDirection.MAXIMIZE else "minimize"
