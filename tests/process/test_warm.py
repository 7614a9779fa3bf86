"""The warm process, from which workers and trials are forked: what it may be asked to import, and its deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from doors import Shell, eventually

from besom.engine.study_run_process import StudyRunProcess
from besom.engine.warm_process import WarmProcess
from besom.study.attrs import PROGRAM
from besom.study.objective import Objective
from besom.study.study import Study
from besom.tracking import Store
from sweeps import UNRECORDED, Sweep, assert_whole, study

pytestmark = [pytest.mark.usefixtures("stocked"), pytest.mark.cold]

APP = """
import os, sys
import besom
import hydra

@hydra.main(version_base="1.3", config_path=None)
@besom.preload("ready")
def main(cfg):
    with open("interpreters", "a") as log:
        print(os.getppid(), "ready" in sys.modules, file=log)
    return cfg.x

if __name__ == "__main__":
    main()
"""


def sweep(shell: Shell, ready: str, *words: str) -> subprocess.CompletedProcess[str]:
    shell.write("ready.py", ready)
    shell.write("app.py", APP)
    asked = ("-m", "hydra/sweeper=besom", "+x=interval(0,1)", "hydra.sweeper.n_trials=2", UNRECORDED)
    return shell.run(sys.executable, "app.py", *asked, *words)


@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_a_preload_that_cannot_be_imported_is_refused_before_trial_0(shell: Shell, launcher: str) -> None:
    done = sweep(shell, "import nothing_of_this_name\n", f"hydra/launcher={launcher}")
    assert done.returncode == 2, done.stdout + done.stderr
    wrong = "besom: besom.preload: 'ready' cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_na"
    assert wrong in done.stderr
    assert not (shell.folder / "interpreters").exists()
    assert not [trial for trial in study(shell).trials if trial.state.is_finished()]


def test_after_a_preload_that_starts_a_thread_each_trial_starts_an_interpreter(shell: Shell) -> None:
    done = sweep(
        shell, "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "besom.preload: 'ready' starts a thread when it is imported" in done.stdout
    for line in (shell.folder / "interpreters").read_text().splitlines():
        assert line.endswith(" False"), "the poisoned module is in a trial"


def test_threads_that_trials_are_to_have_are_not_started_where_they_are_forked(shell: Shell) -> None:
    done = sweep(shell, "import numpy, sklearn.linear_model\n", "hydra.sweeper.threads_per_trial=2")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (shell.folder / "interpreters").read_text().splitlines():
        assert line.endswith(" True"), f"each trial has imported it anew: {done.stdout}"


def test_of_a_sweep_that_is_refused_no_process_stays(shell: Shell) -> None:
    done = sweep(shell, "", "hydra.sweeper.patience=0")
    assert done.returncode == 2, done.stdout + done.stderr
    assert not [one for one in psutil.process_iter() if one.name() == "besom-warm" and at_home(one, shell)]


def at_home(process: psutil.Process, shell: Shell) -> bool:
    try:
        return process.cwd() == str(shell.folder)
    except psutil.NoSuchProcess:
        return False


def warm(sweep: Sweep) -> list[psutil.Process]:
    """The first one, and the trials'."""
    known = psutil.Process(sweep.process.pid).children(recursive=True)
    return sorted((one for one in known if one.name() == "besom-warm"), key=lambda one: one.pid)


@pytest.mark.parametrize("which", [0, 1])
def test_when_the_warm_process_is_killed_the_sweep_goes_on(shell: Shell, which: int) -> None:
    sweep = Sweep(shell, "+how=first until told", "hydra.sweeper.n_trials=3")
    sweep.wait_for_attempt(0)
    os.kill(warm(sweep)[which].pid, signal.SIGKILL)
    shell.write("go", "")
    code, said = sweep.end()
    assert code == 0, said
    assert_whole(shell, 3)
    assert all("killed" not in trial.user_attrs.get("besom.ends", []) for trial in study(shell).trials), (
        "that the warm process died is held against no trial"
    )


def test_where_it_dies_again_and_again_each_trial_starts_an_interpreter(shell: Shell) -> None:
    done = sweep(shell, "import os\nos.kill(os.getpid(), 9)\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "workers are started anew, and each trial in an interpreter of its own" in done.stdout


def test_a_warm_process_that_stands_still_does_not_keep_a_sweep_from_being_stopped(shell: Shell) -> None:
    sweep = Sweep(shell, "+how=first until told", "hydra.sweeper.n_trials=3")
    sweep.wait_for_attempt(0)
    [first, second] = warm(sweep)
    second.suspend()
    try:
        shell.write("go", "")
        eventually(lambda: study(shell).trials[0].state.is_finished(), "trial 0 to end")
        sweep.process.send_signal(signal.SIGINT)
        code, said = sweep.end()
    finally:
        second.resume()
    assert code == 130, said
    eventually(lambda: not first.is_running() and not second.is_running(), "the warm process to end")


def test_where_its_process_cannot_be_forked_the_supervisor_keeps_the_page(shell: Shell, tmp_path: Path) -> None:
    objective = Objective("x", "maximize", "x")
    kept = Study.create(f"sqlite:///{tmp_path}/optuna.db", "alone", [objective], tmp_path / "trials", {"x": "float"})
    kept.remember(PROGRAM, "python app.py")
    with WarmProcess(makes_workers=True) as warm:
        warm._process.kill()
        warm._process.wait()
        page = StudyRunProcess(kept, Store(f"sqlite:///{tmp_path}/mlflow.db", "besom"), warm.workers)
        is_open = page.open()
        eventually(is_open, "the study's run")
        page.close("FINISHED")
    [run] = shell.runs()
    assert (run.info.run_name, run.info.status) == ("alone", "FINISHED")


def test_a_worker_that_joins_says_which_module_its_machine_cannot_import(shell: Shell, tmp_path: Path) -> None:
    held = APP.replace(
        "    return cfg.x", "    while not os.path.exists('go'):\n        time.sleep(0.05)\n    return cfg.x"
    )
    shell.write("ready.py", "")
    begun = Sweep(
        shell, "hydra.sweeper.n_trials=2", UNRECORDED, app=held.replace("import os, sys", "import os, sys, time")
    )
    eventually((shell.folder / "interpreters").exists, "a trial")
    there = Shell(tmp_path / "there")
    there.write("app.py", (shell.folder / "app.py").read_text())
    there.write("ready.py", "import nothing_of_this_name\n")
    done = there.besom("worker", "app", "--yes", "--storage", f"sqlite:///{shell.folder / 'optuna.db'}")
    shell.write("go", "")
    code, said = begun.end()
    assert code == 0, said
    assert done.returncode == 2, done.stdout + done.stderr
    assert "besom.preload: 'ready' cannot be imported: ModuleNotFoundError" in done.stderr
