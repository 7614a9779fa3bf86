"""Workers started by any Hydra launcher: besom's own `local`, or joblib, submitit (Slurm) and Ray."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cloudpickle
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from besom.config.redaction import redacted_override
from besom.engine.fork_server import Forked
from besom.engine.trial_process import write_output_to
from besom.engine.warm_process import WarmProcess
from besom.hydra_app.job import App, Job, for_workers, python_path
from besom.study.lease import Lease
from besom.system.environment import set_for_besom
from besom.system.processes import call_this
from hydra_plugins.besom_launcher.local import LocalLauncher

Launch = Callable[[], None]
POLL_S = 0.5


@dataclass(frozen=True)
class Launched:
    """The task function of a worker's own Hydra job, at home in whatever process a launcher has made for it."""

    worker: TaskFunction
    by: Lease = field(default_factory=Lease.mine)

    def __call__(self, config: DictConfig) -> Any:
        # beside the launcher's own record, and not between the lines of the sweep's progress
        write_output_to(str(Path(HydraConfig.get().runtime.output_dir) / "job.log"))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
        try:
            result = self.worker(config)
        except Exception:
            traceback.print_exc()  # Hydra carries it to the launcher, without a word here
            raise
        if self.by.is_dead():
            os._exit(0)  # nobody waits for the result, and joblib's process would stay 5 minutes for another task
        return result


def make_launcher(app: App, worker: TaskFunction, folder: Path, workers: int, warm: WarmProcess | None) -> Launcher:
    """The one the user chose, or besom's own `local`, for so many workers at once; their folders are made in `folder`.

    `warm`: from which workers on this machine are forked.

    Raises:
        InputError: it is not installed.
    """
    config = app.config.copy()
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.sweep.dir = str(folder)
        _make_room(config.hydra.launcher, workers)
    task, context = Launched(worker), for_workers(app.context)
    if warm and is_local(app):
        # not by way of the config: Hydra 1.4 refuses a job whose launcher is not the sweep's
        local = _WarmLauncher(warm)
        local.setup(hydra_context=context, task_function=task, config=config)
        return local
    return Plugins.instance().instantiate_launcher(context, task, config)


def is_local(app: App) -> bool:
    """Whether besom starts the workers itself. Hydra's own default would run one after the other."""
    return str(app.config.hydra.launcher._target_).endswith((".BasicLauncher", ".LocalLauncher")) and (
        "submitit" not in app.config.hydra.launcher._target_
    )


_forked: list[Forked] = []  # the workers of this process that it has not started itself


class _WarmLauncher(LocalLauncher):
    """Forks the jobs from the warm process."""

    def __init__(self, warm: WarmProcess) -> None:
        self._warm = warm

    def start(self, job: Job, log: Path) -> Callable[[], int]:
        process = self._warm.workers.fork("besom.engine.launch:work", cloudpickle.dumps(job), str(log))
        _forked.append(process)
        return lambda: _end_of(process)


def work(job: bytes, log: str) -> None:
    """In a process that has just been forked: be a worker."""
    call_this("besom-worker")
    os.setsid()  # Ctrl-C reaches the one who started it, and he decides
    write_output_to(log)
    cloudpickle.loads(job).run()


def _end_of(process: Forked) -> int:
    """Its exit code. One whose server has died gives its trial back: another takes its place."""
    while (code := process.join(POLL_S)) is None:
        if process.is_lost:
            process.send(signal.SIGTERM)
    _forked.remove(process)
    process.close()
    return code


def launch(launcher: Launcher, fixed: tuple[str, ...], workers: int, where: str = "workers") -> None:
    """Start them, wait for all. Raises what a worker has raised, or the launcher."""
    set_for_besom("PYTHONPATH", python_path())
    # launchers print them
    shown = [override for override in fixed if redacted_override(override) == override]
    # one worker a job; each its own folder, and no copy of the config in it
    jobs = [[*shown, f"hydra.sweep.subdir={where}/{n}", "hydra.output_subdir=null"] for n in range(workers)]
    for job in launcher.launch(jobs, initial_job_idx=0):
        _ = job.return_value  # Hydra raises here what was raised there


def is_elsewhere(launcher: DictConfig) -> bool:
    """Whether its workers run on other machines than this one."""
    name = launcher._target_.rpartition(".")[2]
    if name == "RayLauncher":
        return bool(launcher.ray.init.get("address")) or "RAY_ADDRESS" in os.environ
    return name in ("SlurmLauncher", "RayAWSLauncher")


def _make_room(launcher: DictConfig, workers: int) -> None:
    """Make a launcher start so many workers, and lose none of them.

    Of its own it would start as many as this machine has cores, or let one die of a race.
    """
    match launcher._target_.rpartition(".")[2]:
        case "JoblibLauncher":
            launcher.n_jobs = max(2, workers)  # joblib runs a single job in this very process
        case "RayLauncher" if not is_elsewhere(launcher):
            launcher.ray.init.setdefault("num_cpus", workers)  # Ray's own count: each worker takes one of them
        case "LocalLauncher" if "submitit" in launcher._target_:
            from submitit.core.utils import JobPaths

            # a folder named by its job's id is made when the job has begun, which dies if it is first to write there
            launcher.submitit_folder = str(JobPaths.get_first_id_independent_folder(launcher.submitit_folder))


class LaunchThread:
    """Runs one launch after the other, all in one thread: Ray's processes end with the thread that started them.

    It is a daemon: a launcher that waits for a cluster's queue does not keep this process alive.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Launch, Future[None]]] = SimpleQueue()
        threading.Thread(target=self._serve, name="besom-launcher", daemon=True).start()

    def start(self, call: Launch) -> Future[None]:
        future: Future[None] = Future()
        self._asked.put((call, future))
        return future

    def _serve(self) -> None:
        # Ctrl-C in a terminal is sent to all that was started in it; what this thread starts is not to hear it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while True:
            call, future = self._asked.get()
            try:
                future.set_result(call())
            except BaseException as error:  # whatever a launcher raises belongs to the main thread
                future.set_exception(error)


def ask_to_leave() -> None:
    """The workers that this process has started give their trials back."""
    for worker in _forked:
        worker.send(signal.SIGTERM)
    for child in psutil.Process().children():  # the warm process is deaf to it
        with suppress(psutil.NoSuchProcess):
            child.terminate()


def kill_all() -> None:
    """Whatever this process has started, and what that has started."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
