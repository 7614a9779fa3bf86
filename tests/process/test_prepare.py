"""What an app settles before a study's first trial, once, and for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doors import Shell, eventually

from sweeps import BASE, UNRECORDED, Sweep, study

APP = """
import besom
import hydra

@hydra.main(version_base="1.3", config_path=None)
@besom.prepare("tuning.settle")
def main(cfg):
    return cfg.x + cfg.get("settled", 0)

if __name__ == "__main__":
    main()
"""
TUNING = """
import os, time
from pathlib import Path

def settle(cfg):
    with open("asked", "a") as log:
        print(os.getpid(), file=log)
    times = len(Path("asked").read_text().split())
    if cfg.get("how") == "fail":
        raise RuntimeError("no such thing")
    while cfg.get("how") == "hang once" and times == 1:
        time.sleep(0.05)
    return [f"+settled={100 * times}"], f"one hundred times {times}, of x={cfg.x:.2f}"
"""
WORDS = ("hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", UNRECORDED)


@pytest.fixture
def shell(shell: Shell) -> Shell:
    shell.write("app.py", APP)
    shell.write("tuning.py", TUNING)
    return shell


def sweep(shell: Shell, *words: str) -> subprocess.CompletedProcess[str]:
    return shell.run(sys.executable, "app.py", "-m", *BASE, *WORDS, *words)


def asked(shell: Shell) -> list[int]:
    path = shell.folder / "asked"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def settled_by(shell: Shell) -> list[float]:
    return [round(trial.value - trial.params["+x"]) for trial in study(shell).trials]


def test_it_is_asked_once_and_holds_for_all_trials_of_all_workers(shell: Shell) -> None:
    done = sweep(shell)
    assert done.returncode == 0, done.stderr
    assert len(asked(shell)) == 1
    assert settled_by(shell) == [100] * 4
    assert "all trials: one hundred times 1, of x=0.00" in done.stdout


def test_a_sweep_that_goes_on_keeps_what_was_settled(shell: Shell) -> None:
    assert sweep(shell).returncode == 0
    assert sweep(shell, "hydra.sweeper.n_trials=6").returncode == 0
    assert len(asked(shell)) == 1
    assert settled_by(shell) == [100] * 6


def test_the_line_that_repeats_a_trial_has_it(shell: Shell) -> None:
    done = sweep(shell)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("repeat it:")]
    assert "+settled=100" in line


def test_where_nothing_can_be_settled_the_trials_run_as_they_are(shell: Shell) -> None:
    done = sweep(shell, "+how=fail")
    assert done.returncode == 0, done.stderr
    assert "nothing was settled: exception: RuntimeError: no such thing" in done.stdout
    assert settled_by(shell) == [0] * 4
    assert len(asked(shell)) == 1


def test_of_a_worker_that_died_over_it_another_takes_it_up(shell: Shell) -> None:
    begun = Sweep(shell, "+how=hang once", *WORDS, app=APP)
    eventually(lambda: asked(shell), "the first to be asked")
    os.kill(study(shell).user_attrs["besom.preparer"]["pid"], signal.SIGKILL)
    code, said = begun.end()
    assert code == 0, said
    assert len(asked(shell)) == 2
    assert settled_by(shell) == [200] * 4


def test_in_the_sweeps_own_process_it_is_asked_there(shell: Shell) -> None:
    done = sweep(shell, "hydra.sweeper.isolation=none", "hydra.sweeper.n_jobs=1")
    assert done.returncode == 0, done.stderr
    assert settled_by(shell) == [100] * 4


def test_a_sweep_that_is_stopped_meanwhile_settles_nothing(shell: Shell) -> None:
    begun = Sweep(shell, "+how=hang once", *WORDS, app=APP)
    eventually(lambda: asked(shell), "the first to be asked")
    begun.process.send_signal(signal.SIGINT)
    code, said = begun.end()
    assert code == 130, said
    done = sweep(shell, "+how=hang once")
    assert done.returncode == 0, done.stderr
    assert settled_by(shell) == [200] * 4
    assert not list(Path(shell.folder).glob("multirun/*/*/0/settled.json"))
