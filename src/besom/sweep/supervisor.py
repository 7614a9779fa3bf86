"""What the user starts: makes the study and its run once, launches workers, shows progress, names the best."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from besom.errors import InputError, RunError
from besom.sweep.progress import Progress, progress
from besom.sweep.rehearsal import rehearse
from besom.sweep.report import note, summary
from besom.sweep.study import PARENT_RUN, Direction, Study
from besom.sweep.worker import Plan, Worker
from besom.tracking import Store
from besom.tracking.facts import tags

POLL_S = 0.5  # between two looks at the study while workers run


@dataclass(frozen=True)
class Sweep:
    """A sweep as the user asked for it, and the Hydra app it is about."""

    plan: Plan
    direction: Direction
    n_jobs: int
    metric: str  # what the objective is called
    task: TaskFunction
    context: HydraContext
    config: DictConfig


def supervise(sweep: Sweep) -> None:
    """Bring the study to its budget, from wherever it stands, and print what it found.

    Raises:
        InputError: found before the first trial.
        KeyboardInterrupt: stopped by the user; the same command goes on.
        RunError: a worker died, or no trial has completed.

    """
    plan = sweep.plan
    rehearse(plan.space, sweep.context, sweep.config)
    plan.make_sampler(trial=0)  # what cannot be built is refused here, not by each worker
    plan.make_pruner()
    study = Study.create(plan.storage, plan.study_name, sweep.direction, _folder(sweep.config))
    store = Store(plan.tracking_uri, plan.experiment) if plan.tracking_uri else None
    study.allow_start()
    waiting = study.top_up(plan.n_trials)
    run = _open_run(study, store, plan)
    ended = "FAILED"
    try:
        if waiting:
            print(
                f"study {study.name}: {waiting} of {plan.n_trials} trials to go, {min(sweep.n_jobs, waiting)} at a time"
            )
            print("Ctrl-C stops it; the same command goes on")
            _launch_and_watch(sweep, study, workers=min(sweep.n_jobs, waiting))
        ended = "FINISHED" if study.best() else "FAILED"
    except KeyboardInterrupt:
        ended = "KILLED"
        raise
    finally:
        if store and run:
            _close_run(study, store, run, ended, sweep)
    print(summary(study, sweep.metric, plan))
    if study.best() is None:
        raise RunError(f"no trial of study {study.name!r} has completed; the first says: {_first_reason(study)}")


def _launch_and_watch(sweep: Sweep, study: Study, workers: int) -> None:
    launcher = _launcher(sweep, study)
    # one worker a job; each its own folder, and no copy of the config in it
    jobs = [
        [*sweep.plan.space.fixed, f"hydra.sweep.subdir=workers/{n}", "hydra.output_subdir=null"] for n in range(workers)
    ]
    failure: list[BaseException] = []
    ended = threading.Event()  # an interrupted Thread.join takes the thread for ended (Python 3.11)

    def launch() -> None:
        try:
            launcher.launch(jobs, initial_job_idx=0)
        except BaseException as error:  # whatever a launcher raises belongs to the main thread
            failure.append(error)
        finally:
            ended.set()

    threading.Thread(target=launch, name="besom-launcher", daemon=True).start()
    with progress(study, sweep.plan.n_trials, sweep.metric) as view:
        try:
            _watch(ended, view)
        except KeyboardInterrupt:
            view.say("stopping: the running trials go back to the queue; Ctrl-C again to kill them")
            study.request_stop()
            _wait_or_kill(ended, launcher, view)
            raise
    if failure:
        raise RunError(str(failure[0])) from failure[0]


def _watch(ended: threading.Event, view: Progress) -> None:
    while not ended.wait(POLL_S):
        view.refresh()


def _wait_or_kill(ended: threading.Event, launcher: Launcher, view: Progress) -> None:
    try:
        _watch(ended, view)
    except KeyboardInterrupt:
        if kill := getattr(launcher, "kill", None):
            kill()
        raise


def _launcher(sweep: Sweep, study: Study) -> Launcher:
    """The one the user chose, or besom's own `local`; given the worker as its task."""
    config = sweep.config.copy()
    with open_dict(config):
        if config.hydra.launcher._target_.endswith(".BasicLauncher"):  # Hydra's default runs one job after the other
            config.hydra.launcher = {"_target_": "hydra_plugins.besom_launcher.local.LocalLauncher"}
        config.hydra.sweep.dir = str(study.folder)
        config.hydra.job.chdir = False
    # the worker composes each trial's config from the user's own
    worker = Worker(sweep.plan, sweep.task, sweep.context, sweep.config)
    return Plugins.instance().instantiate_launcher(hydra_context=sweep.context, task_function=worker, config=config)


def _folder(config: DictConfig) -> Path:
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written ({error.strerror}); choose another: hydra.sweep.dir=..."
        ) from error
    return folder


def _open_run(study: Study, store: Store | None, plan: Plan) -> str | None:
    """The study's run, parent of its trials' runs; the same in every session."""
    if store is None:
        return None
    if run := study.recall(PARENT_RUN):
        store.client.update_run(run, status="RUNNING")
        return str(run)
    more = {"besom.study": study.name, "besom.folder": str(study.folder), "mlflow.source.name": plan.program}
    run = store.create_run(study.name, {**tags(), **more})
    space = {key: str(distribution) for key, distribution in plan.space.dimensions.items()}
    store.client.log_text(run, yaml.safe_dump({"fixed": list(plan.space.fixed), "space": space}), "space.yaml")
    store.client.log_param(run, "n_trials", plan.n_trials)
    study.remember(PARENT_RUN, run)
    return run


def _close_run(study: Study, store: Store, run: str, status: str, sweep: Sweep) -> None:
    counts = study.counts()
    for name, count in {"completed": counts.complete, "pruned": counts.pruned, "failed": counts.failed}.items():
        store.client.log_metric(run, name, count)
    if best := study.best():
        store.client.log_metric(run, "best", float(best.value or 0.0))
        store.client.set_tag(run, "besom.best_trial", str(best.number))
        store.client.set_tag(run, "mlflow.note.content", note(study, sweep.metric, sweep.plan))
    store.client.set_terminated(run, status)


def _first_reason(study: Study) -> str:
    from besom.sweep.study import REASON

    reasons = [trial.user_attrs[REASON] for trial in study.trials() if REASON in trial.user_attrs]
    return reasons[0] if reasons else "nothing was run"


def threads_per_trial(n_jobs: int) -> int:
    """The machine's cores, shared evenly."""
    return max(1, (os.cpu_count() or 1) // n_jobs)
