"""A worker: claims a trial, holds it to its end, and again, until the budget is spent. It loads no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig
from optuna.samplers import BaseSampler

from besom.sweep.attempt import warm_up
from besom.sweep.hold import App, Hold
from besom.sweep.lease import Watch
from besom.sweep.plan import Plan
from besom.sweep.samplers import make_pruner, make_sampler
from besom.sweep.study import Study
from besom.tracking import Store

IDLE_S = 0.5  # between two looks for a trial that another worker may have lost


@dataclass
class Worker:
    """The task function of a worker's own Hydra job, so that any Hydra launcher can start it."""

    plan: Plan
    app: App

    def __call__(self, _: DictConfig) -> int:
        """Pull trials until the study is complete; how many this worker has run."""
        _limit_threads(self.plan.threads)
        warm_up(getattr(self.app.task, "besom_preload", ()))
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
                Hold(plan, self.app, study, store, claim, stopped).run()
                done += 1
            else:  # the last trials run elsewhere: should their worker die, this one takes over
                leaving.wait(IDLE_S)
        return done


def _on_signals(events: Mapping[signal.Signals, threading.Event]) -> None:
    """SIGTERM, and Slurm's SIGUSR1 before a preemption: give the trial back and end. SIGHUP: no other trial."""
    if threading.current_thread() is threading.main_thread():
        for sign, event in events.items():
            signal.signal(sign, lambda *_, event=event: event.set())


def _limit_threads(threads: int) -> None:
    """Before torch wakes: its thread pools read these once."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
