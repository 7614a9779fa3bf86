"""A worker: claims a trial, holds it to its end, and again, until the budget is spent. It loads no torch."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.samplers import BaseSampler

from besom.config.redaction import learn
from besom.engine.fork_server import ServerGone
from besom.engine.plan import Plan
from besom.engine.preload import Preload
from besom.engine.prepare import settled
from besom.engine.trial_run import Record, TrialRun
from besom.engine.warm_process import TO_WORKER, Order, WarmProcess, has_inherited, trials_from
from besom.errors import InputError, RunError
from besom.hydra_app.job import App
from besom.search.samplers import make_pruner, make_sampler
from besom.study.attrs import PARENT_RUN, SUPERVISOR
from besom.study.lease import LeaseLost, LeaseMonitor
from besom.study.queue import Queue
from besom.study.study import StopRequest, Study
from besom.system.disk import as_disk_full
from besom.tracking import Store

log = logging.getLogger(__name__)

IDLE_S = 0.5  # between two looks for a trial that another worker may have lost


@dataclass(frozen=True)
class LeaveRequests:
    """What a worker's own machine asks of it."""

    to_leave: threading.Event = field(default_factory=threading.Event)  # now: its trial goes back to the queue
    to_finish: threading.Event = field(default_factory=threading.Event)  # after this trial


@dataclass
class Worker:
    """A Hydra job's task function; how launchers start it: `launch.py`."""

    plan: Plan
    app: App
    fresh: bool = False  # each trial in an interpreter of its own

    def __call__(self, _: DictConfig) -> int:
        """Pull trials until the study is complete; how many this worker has run."""
        learn(self.app.config)
        slot = self.plan.slots[HydraConfig.get().job.num % len(self.plan.slots)]
        os.environ.update(slot.environment(os.environ))  # its trials', before torch wakes
        asked = LeaveRequests()
        put_off = _on_signals({**dict.fromkeys(TO_WORKER, asked.to_leave), signal.SIGHUP: asked.to_finish})
        name = HydraConfig.get().sweep.subdir.removeprefix("workers/")
        done = self.pull(asked, slot=name) if has_inherited() else self._pull_alone(asked, name)
        for answer in put_off:
            answer()
        return done

    def _pull_alone(self, asked: LeaveRequests, slot: str) -> int:
        """With a warm process of its own, as another launcher than besom's has started it."""
        order = Order(Preload.of(self.app.preload, self.app.program), fresh=self.fresh)
        with trials_from(WarmProcess(order)) as warm:
            try:
                return self.pull(asked, slot)
            except ServerGone:
                try:
                    warm.refuse_failed()
                except InputError as error:
                    Study(self.plan.storage, self.plan.study_name).request_stop(StopRequest("refused", str(error)))
                    return 0
                raise
            finally:
                if remarks := str(warm.remarks() or ""):
                    log.warning(remarks)

    def pull(self, asked: LeaveRequests, slot: str = "0") -> int:
        plan = self.plan
        study = Study(plan.storage, plan.study_name, wait=True)
        queue = Queue(study)
        record = _record(plan, study)
        pruner, watch, done = make_pruner(plan.pruner), LeaseMonitor(plan.lease_s), 0
        orphaned = _watch_supervisor(study, watch)

        def sampler(trial: int) -> BaseSampler:
            return make_sampler(plan.sampler, plan.space, trial)

        def must_leave() -> bool:
            if orphaned():
                asked.to_finish.set()
            stop = study.stop_request()
            return asked.to_leave.is_set() or (stop is not None and stop.at_once)

        def goes_on() -> bool:
            told = asked.to_leave.is_set() or asked.to_finish.is_set() or study.stop_request()
            return not told and not orphaned() and time.time() < plan.deadline

        try:
            if study.remaining(plan.n_trials):
                plan = settled(plan, self.app, study, goes_on)
            while goes_on() and not study.trials_allowed():  # its run in MLflow is being made
                asked.to_leave.wait(IDLE_S / 5)
            while goes_on() and study.remaining(plan.n_trials):
                if watch.is_due():
                    queue.reap(watch, plan.max_retries)
                if claim := queue.claim(plan.n_trials, sampler, pruner, slot):
                    try:
                        TrialRun(plan, self.app, queue, record, claim, must_leave).run()
                    except LeaseLost as lost:
                        log.warning("%s; the next one", lost)
                    done += 1
                else:  # the last trials run elsewhere: should their worker die, this one takes over
                    asked.to_leave.wait(IDLE_S)
        except OSError as error:  # what this worker itself has to write
            if (full := as_disk_full(error)) is None:
                raise
            study.request_stop(StopRequest("full", str(full)))
        finally:
            if record:
                record.upload_thread.close()
                if left := record.upload_thread.pending:
                    log.warning("MLflow is away: of %s trials it has not all that is in their logs", left)
        return done


def _record(plan: Plan, study: Study) -> Record | None:
    if plan.tracking_uri is None:
        return None

    def parent() -> str:
        if run := study.recall(PARENT_RUN):
            return str(run)
        raise RunError("MLflow was away when the sweep began, and the study has no run in it yet")

    return Record(Store(plan.tracking_uri, plan.experiment), parent)


def _watch_supervisor(study: Study, watch: LeaseMonitor) -> Callable[[], bool]:
    """Whether the supervisor of this worker is gone: it begins no other trial then.

    The next supervisor starts workers of its own.
    """
    mine = study.supervisor()

    def gone() -> bool:
        now = study.supervisor()
        return mine is None or now is None or now.token != mine.token or watch.has_expired(SUPERVISOR, now)

    return gone


def _on_signals(events: Mapping[signal.Signals, threading.Event]) -> list[Callable[[], object]]:
    """SIGTERM, and what a cluster sends before a preemption: give the trial back and end. SIGHUP: no other trial.

    What the launcher would have done at once is put off till then, into the list that is returned: at SIGUSR2 submitit
    puts its job back into the cluster's queue.
    """
    put_off: list[Callable[[], object]] = []

    def answer(event: threading.Event, launchers: Any) -> Callable[[int, Any], None]:
        def handle(sign: int, frame: Any) -> None:
            event.set()
            if callable(launchers):
                put_off.append(partial(launchers, sign, frame))

        return handle

    if threading.current_thread() is threading.main_thread():
        for sign, event in events.items():
            signal.signal(sign, answer(event, signal.getsignal(sign)))
    return put_off
