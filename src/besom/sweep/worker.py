"""A worker: claims a trial, composes its config, runs it, tells the study, and again, until the budget is spent.

It holds no torch and no data. It is the only writer to MLflow for the trial it holds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import Trial

from besom.errors import InputError
from besom.sweep.attempt import Outcome, State, attempt, warm_up
from besom.sweep.job import Job
from besom.sweep.space import Space, Value, label
from besom.sweep.study import PARENT_RUN, RUN, Study
from besom.tracking import Recorder, RunLog, Store
from besom.tracking.recorder import Status

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

    def make_sampler(self, trial: int) -> BaseSampler:
        """With one seed for all, trials asked for at the same time would get the same point."""
        seed = {} if self.sampler.get("seed") is None else {"seed": int(self.sampler["seed"]) + trial}
        sampler: BaseSampler = _build("sampler", {**self.sampler, **seed})
        return sampler

    def make_pruner(self) -> BasePruner:
        return _build("pruner", self.pruner) if self.pruner else NopPruner()


@dataclass
class Worker:
    """The task function of a worker's own Hydra job, so that any Hydra launcher can start it."""

    plan: Plan
    task: TaskFunction
    context: HydraContext
    config: DictConfig

    def __call__(self, _: DictConfig) -> int:
        """Pull trials until none is left; how many this worker has run."""
        _limit_threads(self.plan.threads)
        warm_up(getattr(self.task, "besom_preload", ()))
        plan = self.plan
        study = Study(plan.storage, plan.study_name)
        pruner = plan.make_pruner()
        store = Store(plan.tracking_uri, plan.experiment) if plan.tracking_uri else None
        done = 0
        while not study.stop_requested() and (trial := study.claim(plan.n_trials, plan.make_sampler, pruner)):
            self._run(study, store, trial)
            done += 1
        return done

    def _run(self, study: Study, store: Store | None, trial: Trial) -> None:
        """One attempt at a trial, from its point to its end in the study and in MLflow."""
        try:
            values = self.plan.space.suggest(trial)
            folder = study.folder / str(trial.number)
            run_log = RunLog(folder / "run.jsonl")
            run_log.params({key.lstrip("+"): value for key, value in values.items()})
            recorder = self._recorder(study, store, trial, values, run_log)
            outcome = self._attempt(study, trial, values, folder)
        except BaseException:  # this worker is broken, not the trial: another worker, or the next session, takes it
            study.requeue(trial)
            raise
        if outcome.state == "complete":
            run_log.metrics({"objective": outcome.value}, step=0)
        self._tell(study, trial, outcome)
        if recorder:
            _finish(recorder, outcome)

    def _attempt(self, study: Study, trial: Trial, values: Mapping[str, Value], folder: Path) -> Outcome:
        try:
            config = self._compose(trial.number, self.plan.space.overrides(values), folder)
        except Exception as error:  # Hydra's and OmegaConf's own: this point makes no config, the next one may
            return Outcome("failed", reason=f"{type(error).__name__}: {error}")

        def on_report(value: float, step: int) -> bool:
            trial.report(value, step)
            return bool(trial.should_prune())

        job = Job(self.task, self.context, config)
        return attempt(job, folder / "output.log", on_report, study.stop_requested)

    def _compose(self, number: int, overrides: list[str], folder: Path) -> DictConfig:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            config.hydra.job.chdir = False
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(folder.parent), folder.name
        return config

    def _recorder(
        self, study: Study, store: Store | None, trial: Trial, values: Mapping[str, Value], run_log: RunLog
    ) -> Recorder | None:
        if store is None:
            return None
        tags = {
            "besom.study": study.name,
            "besom.trial": str(trial.number),
            "mlflow.source.name": self.plan.program,
        }
        recorder = Recorder(
            store,
            run_log.path,
            name=f"{trial.number} · {label(values)}",
            tags=tags,
            parent=study.recall(PARENT_RUN),
            run_id=trial.user_attrs.get(RUN),
        )
        recorder.start()
        trial.set_user_attr(RUN, recorder.run_id)
        return recorder

    def _tell(self, study: Study, trial: Trial, outcome: Outcome) -> None:
        match outcome.state:
            case "complete":
                study.complete(trial, outcome.value)
            case "pruned":
                study.prune(trial)
            case "failed":
                study.fail(trial, outcome.reason)
            case "interrupted":
                study.requeue(trial)
        log.info("trial %s: %s %s", trial.number, outcome.state, outcome.reason)


STATUS: dict[State, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}


def _finish(recorder: Recorder, outcome: Outcome) -> None:
    try:
        recorder.finish(STATUS[outcome.state], outcome.reason, outcome=outcome.state)
    except Exception:  # MLflow is away: the trial is told and its log is whole, so the sweep goes on
        log.exception("run %s was not ended in MLflow; all it has to say is in the trial's run.jsonl", recorder.run_id)


def _limit_threads(threads: int) -> None:
    """Before torch wakes: its thread pools read these once."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)


def _build(what: str, config: Any) -> Any:
    try:
        return instantiate(config)
    except Exception as error:  # whatever the class makes of its arguments
        raise InputError(f"hydra.sweeper.{what}: {config.get('_target_')}: {error.__cause__ or error}") from error
