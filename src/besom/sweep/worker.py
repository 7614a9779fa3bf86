"""A worker: claims a trial, holds it to its end, and again, until the budget is spent. It loads no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from hydra.core.hydra_config import HydraConfig
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


@dataclass(frozen=True)
class Asked:
    """What a worker's own machine asks of it."""

    to_leave: threading.Event = field(default_factory=threading.Event)  # now: its trial goes back to the queue
    to_finish: threading.Event = field(default_factory=threading.Event)  # after this trial


@dataclass
class Worker:
    """The task function of a worker's own Hydra job, so that any Hydra launcher can start it."""

    plan: Plan
    app: App

    def __call__(self, _: DictConfig) -> int:
        """Pull trials until the study is complete; how many this worker has run."""
        slot = self.plan.slots[HydraConfig.get().job.num % len(self.plan.slots)]
        os.environ.update(slot.environment())  # inherited by the fork server, before torch wakes
        warm_up(getattr(self.app.task, "besom_preload", ()))
        asked = Asked()
        _on_signals({signal.SIGTERM: asked.to_leave, signal.SIGUSR1: asked.to_leave, signal.SIGHUP: asked.to_finish})
        return self.pull(asked)

    def pull(self, asked: Asked) -> int:
        plan = self.plan
        study = Study(plan.storage, plan.study_name, wait=True)
        store = Store(plan.tracking_uri, plan.experiment) if plan.tracking_uri else None
        pruner, watch, done = make_pruner(plan.pruner), Watch(plan.lease_s), 0

        def sampler(trial: int) -> BaseSampler:
            return make_sampler(plan.sampler, plan.space, trial)

        def must_leave() -> bool:
            stop = study.stop()
            return asked.to_leave.is_set() or (stop is not None and stop.at_once)

        def goes_on() -> bool:
            told = asked.to_leave.is_set() or asked.to_finish.is_set() or study.stop()
            return not told and time.time() < plan.deadline

        while goes_on() and study.owed(plan.n_trials):
            study.reap(watch, plan.max_retries)
            if claim := study.claim(plan.n_trials, sampler, pruner):
                Hold(plan, self.app, study, store, claim, must_leave).run()
                done += 1
            else:  # the last trials run elsewhere: should their worker die, this one takes over
                asked.to_leave.wait(IDLE_S)
        return done


def _on_signals(events: Mapping[signal.Signals, threading.Event]) -> None:
    """SIGTERM, and Slurm's SIGUSR1 before a preemption: give the trial back and end. SIGHUP: no other trial."""
    if threading.current_thread() is threading.main_thread():
        for sign, event in events.items():
            signal.signal(sign, lambda *_, event=event: event.set())
