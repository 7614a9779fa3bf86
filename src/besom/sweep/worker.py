"""A worker: claims a trial, composes its config, runs it, tells the study, and again, until the budget is spent.

It holds no torch and no data. It is the only writer to MLflow for the trial it holds.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from optuna.samplers import BaseSampler

from besom.sweep.attempt import Attempt, Outcome, State, Terms, tail, warm_up
from besom.sweep.job import Job
from besom.sweep.lease import LeaseLost, Watch
from besom.sweep.samplers import make_pruner, make_sampler
from besom.sweep.space import Space, Value, label
from besom.sweep.study import ENDS, PARENT_RUN, RUN, Claim, Study
from besom.tracking import Recorder, RunLog, Store
from besom.tracking.recorder import Status

IDLE_S = 0.5  # between two looks for a trial that another worker may have lost
BEATS = 5  # of a holder in the time of one lease

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What every worker of a sweep is given: the same for all of them."""

    storage: str
    study_name: str
    n_trials: int
    space: Space
    sampler: Any  # configs, instantiated where they are used
    pruner: Any
    tracking_uri: str | None
    experiment: str
    threads: int  # CPU threads of one trial
    program: str  # the app, as a user would start it
    lease_s: float = 30.0
    deadline: float = float("inf")  # in seconds since 1970: no trial is begun after it
    trial_timeout_s: float | None = None
    max_retries: int = 2
    retry_on: tuple[str, ...] = ()

    def is_retried(self, outcome: Outcome) -> bool:
        """Whether a failure may be bad luck: a process that died, or an exception the user has named."""
        if outcome.state != "failed":
            return False
        return outcome.kind == "killed" or bool(set(self.retry_on) & set(outcome.exception))


@dataclass
class Worker:
    """The task function of a worker's own Hydra job, so that any Hydra launcher can start it."""

    plan: Plan
    task: TaskFunction
    context: HydraContext
    config: DictConfig

    def __call__(self, _: DictConfig) -> int:
        """Pull trials until the study is complete; how many this worker has run."""
        _limit_threads(self.plan.threads)
        warm_up(getattr(self.task, "besom_preload", ()))
        leaving, hung_up = threading.Event(), threading.Event()
        _on_signals({signal.SIGTERM: leaving, signal.SIGUSR1: leaving, signal.SIGHUP: hung_up})
        plan = self.plan
        study = Study(plan.storage, plan.study_name)
        store = Store(plan.tracking_uri, plan.experiment) if plan.tracking_uri else None
        pruner, watch, done = make_pruner(plan.pruner), Watch(plan.lease_s), 0

        def sampler(trial: int) -> BaseSampler:
            return make_sampler(plan.sampler, plan.space, trial)

        def stopped() -> bool:
            return leaving.is_set() or study.stop_requested()

        def wanted() -> bool:
            return not (stopped() or hung_up.is_set()) and time.time() < plan.deadline

        while wanted() and study.owed(plan.n_trials):
            study.reap(watch, plan.max_retries)
            if claim := study.claim(plan.n_trials, sampler, pruner):
                Hold(self, study, store, claim, stopped).run()
                done += 1
            else:  # the last trials run elsewhere: should their worker die, this one takes over
                leaving.wait(IDLE_S)
        return done

    def compose(self, number: int, overrides: list[str], folder: Path) -> DictConfig:
        """The config of one trial, as `app overrides` would compose it."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.job.chdir = False
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(folder.parent), folder.name
        return config


class Hold:
    """A trial in a worker's hands, from the claim to its end in the study and in MLflow."""

    def __init__(self, worker: Worker, study: Study, store: Store | None, claim: Claim, stopped: Any) -> None:
        self._worker = worker
        self._plan = worker.plan
        self._study = study
        self._store = store
        self._claim = claim
        self._stopped = stopped
        self._lost = threading.Event()
        self._let_go = threading.Event()
        self._attempt: Attempt | None = None

    def run(self) -> None:
        """Raises LeaseLost: the trial is another worker's by now; this one has nothing more to say."""
        pulse = threading.Thread(target=self._beat, name="besom-pulse", daemon=True)
        pulse.start()
        try:
            outcome, recorder = self._try()
        except LeaseLost:
            raise
        except BaseException:  # this worker is broken, not the trial: another takes it
            self._study.requeue(self._claim, "interrupted")
            raise
        finally:
            self._let_go.set()
            pulse.join()
        if self._lost.is_set():
            raise LeaseLost(f"trial {self._claim.number} was taken from this worker, which was not heard of in time")
        again = self._tell(outcome)
        if recorder:
            _finish(recorder, outcome, again)

    def _try(self) -> tuple[Outcome, Recorder | None]:
        number, trial = self._claim.number, self._claim.trial
        values = self._plan.space.suggest(trial)
        folder = self._study.folder / str(number)
        run_log = RunLog(folder / "run.jsonl")
        run_log.params({key.lstrip("+"): value for key, value in values.items()})
        recorder = self._recorder(values, run_log)
        try:
            config = self._worker.compose(number, self._plan.space.overrides(values), folder)
        except Exception as error:  # Hydra's and OmegaConf's own: this point makes no config, the next one may
            return Outcome("failed", kind="config", reason=f"{type(error).__name__}: {error}"), recorder
        job = Job(self._worker.task, self._worker.context, config)
        terms = Terms(
            self._on_report, self._must_end, leash_s=0.8 * self._plan.lease_s, timeout_s=self._plan.trial_timeout_s
        )
        self._attempt = Attempt(job, folder / "output.log", terms)
        outcome = self._attempt.outcome()
        if outcome.state == "complete":
            run_log.metrics({"objective": outcome.value}, step=0)
        if outcome.state == "failed":
            run_log.tags({"besom.output": tail(folder / "output.log")})
        return outcome, recorder

    def _on_report(self, value: float, step: int) -> bool:
        trial = self._claim.trial
        if step not in self._study.reported(self._claim):  # a retried attempt repeats some
            trial.report(value, step)
        return bool(trial.should_prune())

    def _must_end(self) -> bool:
        return self._lost.is_set() or bool(self._stopped())

    def _beat(self) -> None:
        """Renew the lease, then pull the trial's leash: a worker that cannot do the first does not do the second."""
        lease = self._claim.lease
        while not self._let_go.wait(self._plan.lease_s / BEATS):
            lease = lease.renewed()
            try:
                self._study.renew(self._claim, lease)
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
        study, claim = self._study, self._claim
        log.info("trial %s: %s %s %s", claim.number, outcome.state, outcome.kind, outcome.reason)
        match outcome.state:
            case "complete":
                study.complete(claim, outcome.value)
            case "pruned":
                study.prune(claim)
            case "interrupted":
                study.requeue(claim, "interrupted")
                return True
            case "failed":
                if self._plan.is_retried(outcome) and study.retries_left(claim, self._plan.max_retries) > 0:
                    study.requeue(claim, outcome.kind)
                    return True
                study.fail(claim, outcome.kind, outcome.reason)
        return False

    def _recorder(self, values: Mapping[str, Value], run_log: RunLog) -> Recorder | None:
        if self._store is None:
            return None
        trial, ends = self._claim.trial, self._claim.trial.user_attrs.get(ENDS, [])
        tags = {
            "besom.study": self._study.name,
            "besom.trial": str(trial.number),
            "mlflow.source.name": self._plan.program,
        }
        if ends:
            run_log.tags({"besom.attempts": str(len(ends) + 1), "besom.earlier_attempts": ", ".join(ends)})
        recorder = Recorder(
            self._store,
            run_log.path,
            name=f"{trial.number} · {label(values)}",
            tags=tags,
            parent=self._study.recall(PARENT_RUN),
            run_id=trial.user_attrs.get(RUN),
        )
        recorder.start()
        trial.set_user_attr(RUN, recorder.run_id)
        return recorder


STATUS: dict[State, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}


def _finish(recorder: Recorder, outcome: Outcome, again: bool) -> None:
    reason = f"{outcome.kind}: {outcome.reason}" if outcome.kind else outcome.reason
    try:
        recorder.finish(STATUS[outcome.state], reason, outcome="requeued" if again else outcome.state)
    except Exception:  # MLflow is away: the trial is told and its log is whole, so the sweep goes on
        log.exception("run %s was not ended in MLflow; all it has to say is in the trial's run.jsonl", recorder.run_id)


def _on_signals(events: Mapping[signal.Signals, threading.Event]) -> None:
    """SIGTERM, and Slurm's SIGUSR1 before a preemption: give the trial back and end. SIGHUP: no other trial."""
    if threading.current_thread() is threading.main_thread():
        for sign, event in events.items():
            signal.signal(sign, lambda *_, event=event: event.set())


def _limit_threads(threads: int) -> None:
    """Before torch wakes: its thread pools read these once."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
