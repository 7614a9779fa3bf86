"""Sweeps of an app whose trials a test can hold, kill and let go."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import psutil
from doors import PATIENCE_S, Shell, eventually
from mlflow.entities import Run
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import NullPool

# each trial says that it is there, then works until the test lets it go on (or for a moment, where nobody holds it)
APP = """
import os, time
from pathlib import Path
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    here = Path(HydraConfig.get().runtime.output_dir)
    with open(here / "attempts", "a") as log:
        print(os.getpid(), file=log, flush=True)
    attempts = len((here / "attempts").read_text().split())
    how = cfg.get("how", "well")
    if how == "hang" or (how == "hang once" and attempts == 1):
        while True:
            time.sleep(0.05)
    held = how == "until told" or (how == "first until told" and HydraConfig.get().job.num == 0)
    while held and not Path("go").exists():
        time.sleep(0.05)
    if how == "fail twice" and attempts < 3:
        raise ConnectionError("a server is away")
    if how == "never":
        raise ConnectionError("a server is away")
    if how == "memory":
        raise MemoryError("too much")
    for step in range(3):
        besom.report(cfg.x, step)
    return cfg.x

if __name__ == "__main__":
    main()
"""
LEASE_S = 2.0
CLOSE_MS = 2000  # between what the study and a run have as the time of one event, on a busy machine
OUTCOMES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
# where MLflow is not what is asked about: it takes longer to load than all the rest
UNRECORDED = "hydra.sweeper.tracking_uri=null"
BASE = ("hydra/sweeper=besom", f"hydra.sweeper.lease={LEASE_S}", "hydra.sweeper.n_jobs=1", "+x=interval(0,1)")


class Sweep:
    """A sweep in the background, and a look into its processes."""

    def __init__(self, shell: Shell, *words: str, app: str = APP, **env: str) -> None:
        shell.write("app.py", app)
        self.shell = shell
        self.words = (sys.executable, "app.py", "-m", *BASE, *words)
        self.process = shell.start(*self.words, **env)

    def restart(self) -> None:
        """The same command again, after the first has ended."""
        self.process.communicate()
        self.process = self.shell.start(*self.words)

    def again(self) -> subprocess.CompletedProcess[str]:
        return self.shell.run(*self.words)

    def workers(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.process.pid)
        return [child for child in supervisor.children(recursive=True) if child.name() == "besom-worker"]

    def suspend_worker(self) -> psutil.Process:
        """Its only one; not while it writes into the study's file, for which everybody would wait."""
        [worker] = self.workers()

        def is_stopped() -> bool:
            worker.suspend()
            eventually(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker to stop")
            with closing(sqlite3.connect(self.shell.folder / "optuna.db", timeout=0.5)) as file:
                try:
                    file.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError:
                    worker.resume()
                    return False
            return True

        eventually(is_stopped, "the worker to stop between two writes")
        return worker

    def trial_pids(self, number: int) -> list[int]:
        """Of its attempts so far."""
        [log] = self.shell.folder.glob(f"multirun/*/*/{number}/attempts") or [Path(os.devnull)]
        return [int(pid) for pid in log.read_text().split()]

    def wait_for_attempt(self, number: int, attempt: int = 1) -> int:
        eventually(
            lambda: self._started(number, attempt) or self.process.poll() is not None,
            f"attempt {attempt} of trial {number}",
        )
        assert self._started(number, attempt), self.process.communicate()
        return self.trial_pids(number)[attempt - 1]

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out + err

    def _started(self, number: int, attempt: int) -> bool:
        logs = list(self.shell.folder.glob(f"multirun/*/*/{number}/attempts"))
        return bool(logs) and len(logs[0].read_text().split()) >= attempt


def study(shell: Shell, name: str = "app", *, storage: str | None = None) -> optuna.Study:
    url = storage or f"sqlite:///{shell.folder / 'optuna.db'}"
    waiting = {} if storage else {"connect_args": {"timeout": PATIENCE_S}}  # for who is writing just now
    # no connection is left open, nor one kept over a restart of the server
    return optuna.load_study(study_name=name, storage=RDBStorage(url, {"poolclass": NullPool, **waiting}))


def study_is_short(shell: Shell, n_trials: int) -> bool:
    return sum(trial.state.is_finished() for trial in study(shell).trials) < n_trials


def lives(pid: int) -> bool:
    """A process that has ended, and whose end nobody has looked at yet, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def assert_timed(run: Run, trial: FrozenTrial) -> None:
    """A run begins with its trial's first attempt, of which the study knows the last, and ends with the last one."""
    assert trial.datetime_start
    assert trial.datetime_complete
    began, ended = (moment.timestamp() * 1000 for moment in (trial.datetime_start, trial.datetime_complete))
    if not trial.user_attrs.get("besom.ends"):
        assert abs(run.info.start_time - began) < CLOSE_MS
    assert run.info.start_time <= run.info.end_time <= ended + CLOSE_MS


def assert_whole(shell: Shell, n_trials: int, storage: str | None = None, *, recorded: bool = True) -> None:
    """The invariants: the budget to the unit, an end for each trial, one run each, no process, no lock held."""
    trials = study(shell, storage=storage).trials
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    eventually(lambda: not processes_in(shell.folder), "the last process to end")
    if not recorded:
        assert shell.runs() == []
        return
    children = [run for run in shell.runs() if "mlflow.parentRunId" in run.data.tags]
    assert sorted(int(run.data.tags["besom.trial"]) for run in children) == list(range(n_trials))
    expected = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
    for run in children:
        trial = trials[int(run.data.tags["besom.trial"])]
        assert run.info.status == expected[trial.state.name]
        assert run.data.tags["besom.outcome"] == OUTCOMES[trial.state.name]
        assert_timed(run, trial)
        if trial.value is not None:
            assert run.data.metrics["objective"] == trial.value
