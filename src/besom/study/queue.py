"""The study as a queue of trials, from which workers help themselves.

A worker claims its next trial under the study's lock: one that waits or, while the study is short of its budget, a new
one. So no count can race, and nothing hands out work. The holder of a trial renews its lease; whoever finds a lease
that has stopped gives the trial back, and what the old holder says after that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from besom.search.constraints import SamplersStudy, mark_infeasible
from besom.study.attrs import BEAT, ENDS, KIND, LEASE, REASON, RUN
from besom.study.lease import Lease, LeaseLost, LeaseMonitor, lease_of
from besom.study.storage import ServerLost, retry_transaction
from besom.study.study import Study
from besom.study.validation import ends_of

MakeSampler = Callable[[int], BaseSampler]

COUNTED = ("lost", "killed", "broken", "exception")  # ends of an attempt that spend a retry; an interruption does not


@dataclass(frozen=True)
class Claim:
    """A trial in this worker's hands."""

    trial: Trial
    lease: Lease

    @property
    def number(self) -> int:
        return self.trial.number


class Queue:
    """Of a study; several may be open at once, in any processes."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @property
    def _storage(self) -> BaseStorage:
        return self.study.storage

    def reconnect(self) -> None:
        self.study.reconnect()

    @retry_transaction
    def claim(self, n_trials: int, sampler: MakeSampler, pruner: BasePruner, slot: str = "") -> Claim | None:
        """Take the next trial for this worker alone; None when the budget is spent or what is left runs elsewhere.

        `sampler` is given the trial's number, so that a seed gives each trial its own point, whichever worker and
        session asks for it.
        """
        with self.study.lock():
            counts = self.study.counts()
            if counts.finished + counts.running >= n_trials:  # a budget made smaller leaves some waiting
                return None
            trial_id = self._next_id()
            lease = Lease.mine(slot=slot)
            self._storage.set_trial_user_attr(trial_id, LEASE, lease.as_attr())
            self._storage.set_trial_user_attr(trial_id, BEAT, [lease.token, lease.beat])  # which is renewed
        try:
            number = self._storage.get_trial(trial_id).number
        except KeyError as error:  # a server that crashed may give a lost transaction's number to another one
            raise ServerLost("the server has not kept the trial") from error
        # a fresh study: Optuna's own keeps a list of trials from its last look
        seen = SamplersStudy(self.study.name, self._storage, sampler(number), pruner)
        return Claim(Trial(seen, trial_id), lease)

    def renew(self, claim: Claim, beat: Lease) -> None:
        """Raises LeaseLost: this worker was taken for dead."""
        if not self.study.renew(claim.trial._trial_id, beat):
            raise _late(claim.number)

    @retry_transaction
    def has_run(self, claim: Claim, run_id: str) -> bool:
        """Remember the trial's run in MLflow, for all its attempts; False: another attempt's run counts."""
        with self.study.lock():
            trial = self._storage.get_trial(claim.trial._trial_id)
            if known := trial.user_attrs.get(RUN):
                return bool(known == run_id)
            lease = lease_of(trial)
            if trial.state != TrialState.WAITING and (lease is None or lease.token != claim.lease.token):
                return False
            if not trial.state.is_finished():  # a finished trial takes no more
                self._storage.set_trial_user_attr(trial._trial_id, RUN, run_id)
            return True

    def runs(self, claim: Claim) -> bool:
        """Whether the trial is being attempted, by whomever."""
        return self._storage.get_trial(claim.trial._trial_id).state == TrialState.RUNNING

    @retry_transaction
    def complete(self, claim: Claim, values: Sequence[float]) -> None:
        with self._held(claim):
            claim.trial.study.tell(claim.trial, list(values))

    @retry_transaction
    def prune(self, claim: Claim) -> None:
        with self._held(claim):
            claim.trial.study.tell(claim.trial, state=TrialState.PRUNED)

    @retry_transaction
    def fail(self, claim: Claim, kind: str, reason: str) -> None:
        with self._held(claim):
            if kind == "oom":
                mark_infeasible(claim.trial)
            self._fail(claim.trial._trial_id, kind, reason)

    @retry_transaction
    def requeue(self, claim: Claim, end: str) -> None:
        """Give an unfinished trial back: it keeps its number and its point, and waits for another attempt."""
        with self._held(claim):
            self._requeue(claim.trial._trial_id, end)

    def reported(self, claim: Claim) -> dict[int, float]:
        """The values by their steps, from this attempt or an earlier one."""
        return self._storage.get_trial(claim.trial._trial_id).intermediate_values

    def retries_left(self, claim: Claim, max_retries: int) -> int:
        return max_retries - _retries(ends_of(claim.trial))

    @retry_transaction
    def reap(self, watch: LeaseMonitor, max_retries: int) -> list[int]:
        """Give back the trials whose holders are gone, or fail those that have no retry left; their numbers."""
        running = self.study.trials((TrialState.RUNNING,))
        gone = [trial for trial in running if watch.has_expired(trial.number, lease_of(trial))]
        if not gone:
            return []
        reaped = []
        with self.study.lock():
            for seen in gone:
                trial = self._storage.get_trial(seen._trial_id)
                if trial.state != TrialState.RUNNING or lease_of(trial) != lease_of(seen):
                    continue  # it has beaten, ended or been reaped since we looked
                if _retries(ends_of(trial)) < max_retries:
                    self._requeue(trial._trial_id, "lost")
                else:
                    self._fail(trial._trial_id, "lost", f"its worker died {max_retries + 1} times, with no word")
                reaped.append(trial.number)
        return reaped

    def _next_id(self) -> int:
        """A trial that waits, the first of them, or a new one; RUNNING from here on."""
        if (waiting := self.study.first_waiting()) is not None:
            self._storage.set_trial_state_values(waiting, TrialState.RUNNING)
            return waiting
        return self._storage.create_new_trial(self.study.as_optuna()._study_id)

    @contextmanager
    def _held(self, claim: Claim) -> Iterator[None]:
        """Look and write as one: under the lock, and only while the trial is still this claim's."""
        with self.study.lock():
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
        ends = ends_of(self._storage.get_trial(trial_id))
        self._storage.set_trial_user_attr(trial_id, ENDS, [*ends, end])


def _refuse_late(trial: FrozenTrial, claim: Claim) -> None:
    lease = lease_of(trial)
    if trial.state != TrialState.RUNNING or lease is None or lease.token != claim.lease.token:
        raise _late(trial.number)


def _late(number: int) -> LeaseLost:
    return LeaseLost(f"trial {number} was taken from this worker, which was not heard of in time")


def _retries(ends: Sequence[str]) -> int:
    return sum(end in COUNTED for end in ends)
