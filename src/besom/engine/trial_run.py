"""A trial in a worker's hands: attempted, kept alive by its lease, told to the study, recorded in MLflow."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from besom.config.redaction import redact, redacted_override
from besom.engine.fork_server import ServerGone
from besom.engine.outcome import AttemptCallbacks, Outcome, State, disk_full, tail
from besom.engine.plan import Plan
from besom.engine.trial_in_process import InProcessTrial
from besom.engine.trial_process import STOPPED, TrialProcess
from besom.errors import RunError
from besom.hydra_app.job import App
from besom.space.space import Value, label
from besom.study.attrs import OVERRIDES, RUN, TRIAL
from besom.study.folder import set_aside
from besom.study.lease import LeaseLost
from besom.study.queue import Claim, Queue
from besom.study.study import StopRequest
from besom.study.validation import ends_of
from besom.system.disk import full_disk, has_room
from besom.system.storable import on_one_line
from besom.tracking import RunLog, RunUploader, Store, UploadThread
from besom.tracking.run_uploader import Status
from besom.tracking.system_metrics import sampled

BEATS = 5  # of a holder in the time of one lease
# metrics of a trial's run beside its objective: each reported value by its step, and of those the best and the last
REPORTED, BEST, LAST = "reported", "reported_best", "reported_last"
MAYBE_FULL = ("exception", "killed", "broken")  # how a trial fails that a full disk may have ended
MAKE_ROOM = "make room; the same command goes on, and tries this trial again"

# an end of an attempt: its storage was away, or its machine too busy; that spends no retry, but is not for ever either
CUT = "cut off"
MAX_CUT = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """Where a worker's trials are recorded."""

    store: Store
    parent: Callable[[], str]  # the study's run; raises RunError while there is none
    upload_thread: UploadThread = field(default_factory=UploadThread)


class TrialRun:
    """From the claim of a trial to its end in the study and in MLflow, whose only writer for this trial it is."""

    def __init__(
        self, plan: Plan, app: App, queue: Queue, record: Record | None, claim: Claim, stopped: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._app = app
        self._queue = queue
        self._study = queue.study
        self._record = record
        self._claim = claim
        self._stopped = stopped
        self._lost = threading.Event()
        self._let_go = threading.Event()
        self._attempt: TrialProcess | InProcessTrial | None = None
        self._run: RunUploader | None = None  # in MLflow

    @cached_property
    def _folder(self) -> Path:
        return self._study.folder / str(self._claim.number)

    @cached_property
    def _run_log(self) -> RunLog:
        return RunLog(self._folder / "run.jsonl")

    @cached_property
    def _ends(self) -> list[str]:
        """Of the trial's earlier attempts, why each has ended."""
        return ends_of(self._claim.trial)

    def run(self) -> None:
        """Raises LeaseLost: the trial is another worker's by now; this one has nothing more to say."""
        pulse = threading.Thread(target=self._beat, name="besom-pulse", daemon=True)
        pulse.start()
        try:
            outcome = self._try()
        except LeaseLost:
            self._give_up()
            raise
        except ServerGone:  # so will be the next trial's, of this worker
            self._hand_back()
            raise
        except RunError:  # the study cannot be reached: whoever finds the trial gives it back
            raise
        except Exception as error:  # what the trial has done to its folder, say: the worker goes on with the next one
            log.exception("trial %s could not be run to its end", self._claim.number)
            reason = redact(f"besom could not run this trial to its end: {type(error).__name__}: {error}")
            words = full_disk(error)
            outcome = disk_full(words) if words else Outcome("failed", kind="broken", reason=reason)
        except BaseException:  # this worker is to end: another takes the trial
            self._hand_back()
            raise
        finally:
            self._let_go.set()
            pulse.join()
        if outcome.kind in MAYBE_FULL and not has_room(self._folder):  # its words may have been lost for that
            outcome = disk_full(outcome.reason)
        try:
            if outcome.kind == "disk full":
                self._stop_for_want_of_space(outcome.reason)
            again = self._tell(outcome)
        except LeaseLost:
            self._give_up()
            raise
        self._end_run(outcome, again)

    def _hand_back(self) -> None:
        """Nothing is held against the trial."""
        self._queue.requeue(self._claim, "interrupted")
        self._end_run(Outcome("interrupted"), again=True)

    def _stop_for_want_of_space(self, words: str) -> None:
        """No further trial is begun, which would meet the same."""
        folder = self._folder
        there = f"{folder} has room" if has_room(folder) else f"there is no room in {folder}"
        why = f"a disk is full: trial {self._claim.number}: {on_one_line(words)} ({there}): {MAKE_ROOM}"
        self._study.request_stop(StopRequest("full", why))

    def _give_up(self) -> None:
        """Another worker records the trial from here on."""
        if self._run:
            self._run.give_up()

    def _try(self) -> Outcome:
        began, number, space = time.monotonic(), self._claim.number, self._plan.space
        folder = self._folder
        if not self._ends:
            set_aside(folder)
        self._run_log.attempt()  # the first line makes the folder, which the trial's process looks for
        with self._fork(folder) as self._attempt:  # while that wakes, its point is drawn
            values = space.suggest(self._claim.trial)
            self._run_log.params(_searched(values))
            self._run_log.tags({"besom.slot": self._claim.lease.slot})
            self._begin_run(values)
            overrides = space.overrides(values)
            if OVERRIDES not in self._claim.trial.user_attrs:
                self._claim.trial.set_user_attr(OVERRIDES, list(map(redacted_override, overrides)))
            try:
                config = self._app.compose(number, overrides, folder)
            except Exception as error:  # Hydra's and OmegaConf's own: this point makes no config, the next one may
                return Outcome("failed", kind="config", reason=redact(f"{type(error).__name__}: {error}"))
            if (pid := self._attempt.begin()) is None:
                return STOPPED
            with sampled(self._run_log, pid, self._plan.system_metrics_s if self._record else None):
                outcome = self._attempt.outcome(config)
        score = self._score(outcome, time.monotonic() - began)
        try:
            self._run_log.metrics(score, step=len(self._ends))
            if outcome.state == "failed":
                self._run_log.tags({"besom.output": redact(tail(folder / "output.log"))})
        except OSError as error:  # the study has the outcome all the same
            log.warning("trial %s: its end cannot be written into %s: %s", number, self._run_log.path, error)
            if outcome.state in ("complete", "pruned") and (words := full_disk(error)):
                self._stop_for_want_of_space(words)
        return outcome

    def _fork(self, folder: Path) -> TrialProcess | InProcessTrial:
        plan = self._plan
        terms = AttemptCallbacks(
            self._on_report, self._must_end, leash_s=0.8 * plan.lease_s, timeout_s=plan.trial_timeout_s
        )
        if plan.isolation == "none":
            return InProcessTrial(self._app, terms)
        return TrialProcess(self._app, folder / "output.log", terms)

    def _on_report(self, value: float, step: int) -> bool:
        if len(self._plan.objectives) > 1:  # no one number tells whether such a trial is worth its end
            return False
        trial = self._claim.trial
        if step not in self._queue.reported(self._claim):  # a retried attempt repeats some
            trial.report(value, step)
            self._run_log.metrics({REPORTED: value}, step)
        return bool(trial.should_prune())

    def _score(self, outcome: Outcome, took_s: float) -> dict[str, float]:
        """What a trial's run has in the columns of MLflow's table."""
        named = zip(self._plan.objectives, outcome.values, strict=False)
        score = {objective.key: value for objective, value in named} if outcome.state == "complete" else {}
        if reported := self._queue.reported(self._claim):
            better = max if self._plan.objectives[0].direction == "maximize" else min
            score |= {BEST: better(reported.values()), LAST: reported[max(reported)], "epochs": float(len(reported))}
        return {**score, "duration_s": round(took_s, 2)}  # MLflow shows every digit

    def _must_end(self) -> bool:
        return self._lost.is_set() or self._stopped()

    def _beat(self) -> None:
        """Renew the lease, then pull the trial's leash: a worker that cannot do the first does not do the second."""
        lease = self._claim.lease
        # not all workers of a machine at once
        while not self._let_go.wait(self._plan.lease_s / BEATS * random.uniform(0.8, 1.0)):
            lease = lease.renewed()
            try:
                self._queue.renew(self._claim, lease)
            except LeaseLost:
                self._lost.set()
                return
            except Exception as error:  # the storage is away: it may be back before the lease is over
                log.warning("the lease of trial %s could not be renewed, trying again: %s", self._claim.number, error)
                continue
            if self._attempt:
                self._attempt.pull()

    def _tell(self, outcome: Outcome) -> bool:
        """True when the trial waits for another attempt."""
        queue, claim = self._queue, self._claim
        log.info("trial %s: %s %s %s", claim.number, outcome.state, outcome.kind, outcome.reason)
        if outcome.state == "complete" and len(outcome.values) != len(self._plan.objectives):
            return self._tell_wrong_count(len(outcome.values))
        match outcome.state:
            case "complete":
                queue.complete(claim, outcome.values)
            case "pruned":
                queue.prune(claim)
            case "interrupted" if outcome.kind == "lost" and self._ends.count(CUT) >= MAX_CUT:
                queue.fail(claim, "lost", f"{outcome.reason}, {MAX_CUT + 1} times")
            case "interrupted":
                queue.requeue(claim, CUT if outcome.kind == "lost" else outcome.kind or "interrupted")
                return True
            case "failed":
                if self._plan.is_retried(outcome) and queue.retries_left(claim, self._plan.max_retries) > 0:
                    queue.requeue(claim, outcome.kind)
                    return True
                queue.fail(claim, outcome.kind, outcome.reason)
        return False

    def _tell_wrong_count(self, count: int) -> bool:
        """With the first trial to complete the sweep is wrong, and is stopped; with a later one, the trial."""
        wanted = len(self._plan.objectives)
        reason = f"the task function returned {count} numbers, but hydra.sweeper.direction has {wanted}"
        if self._study.counts().complete:
            self._queue.fail(self._claim, "bad value", reason)
            return False
        self._study.request_stop(StopRequest("refused", f"{reason}: list one direction for each number"))
        self._queue.requeue(self._claim, "interrupted")
        return True

    def _begin_run(self, values: Mapping[str, Value]) -> None:
        """In MLflow, where it may be made at once, or when MLflow is back."""
        if self._record is None:
            return
        trial, ends = self._claim.trial, self._ends
        if ends:
            self._run_log.tags({"besom.attempts": str(len(ends) + 1), "besom.earlier_attempts": ", ".join(ends)})
        self._run = RunUploader(
            self._record.store,
            self._run_log.path,
            name=label(trial.number, values),
            tags={"besom.study": self._study.name, "mlflow.source.name": self._plan.program},
            known_by={TRIAL: str(trial.number)},
            parent=self._record.parent,
            run_id=trial.user_attrs.get(RUN),
            is_new=not ends,
            counts=lambda run_id: self._queue.has_run(self._claim, run_id),
        )
        self._record.upload_thread.take(self._run)

    def _end_run(self, outcome: Outcome, again: bool) -> None:
        if self._run:
            reason = f"{outcome.kind}: {outcome.reason}" if outcome.kind else outcome.reason
            ended = "requeued" if again else outcome.state
            self._run.finish(STATUS[outcome.state], reason, ended, unless=lambda: self._queue.runs(self._claim))


def _searched(values: Mapping[str, Value]) -> dict[str, Value]:
    """By their keys, as `besom train` has them, and once more under names that MLflow's table sorts before all else."""
    by_key = {key.lstrip("+"): value for key, value in values.items()}
    return {f"_{key}": value for key, value in by_key.items()} | by_key


# MLflow marks KILLED as it marks FAILED, and a pruned trial is no failure: its tag `besom.outcome` says what it is
STATUS: dict[State, Status] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
