"""Whatever is killed, at whatever moment: 50 times by `make chaos`, a few times in every run of the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import psutil
import pytest
from doors import BESOM, Shell, eventually

from sweeps import assert_whole, processes_in, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import os, time
from pathlib import Path
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    here = Path(HydraConfig.get().runtime.output_dir)
    for step in range(6):
        time.sleep(0.1)
        besom.report(cfg.x + step, step)
        with open(here / "acknowledged", "a") as log:
            print(step, file=log, flush=True)
    return cfg.x

if __name__ == "__main__":
    main()
"""
KILLS = int(os.environ.get("BESOM_CHAOS_KILLS", "8"))
SEED = int(os.environ.get("BESOM_CHAOS_SEED", "0"))
VICTIMS = (
    *("a trial", "a worker", "the page", "the warm process", "that of the trials", "the supervisor", "everything"),
)
MORE = 20  # trials, whenever the budget is spent


class Chaos:
    """A sweep that is started again as often as it is killed or done."""

    def __init__(self, shell: Shell) -> None:
        shell.write("app.py", APP)
        self.shell = shell
        self.n_trials = 0
        self.go_on(MORE)

    def go_on(self, more: int = 0) -> None:
        self.n_trials += more
        self.process: subprocess.Popen[str] = self.shell.start(
            *(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "+x=interval(0,1)", "hydra.sweeper.n_jobs=2"),
            *("hydra.sweeper.lease=5", "hydra.sweeper.max_retries=1000", f"hydra.sweeper.n_trials={self.n_trials}"),
        )

    def pids(self, victim: str) -> list[int]:
        ours = [pid for pid in processes_in(self.shell.folder) if pid != self.process.pid]
        match victim:
            case "the supervisor":
                return [self.process.pid]
            case "everything":
                return [self.process.pid, *ours]
            case "the warm process":
                return [pid for pid in ours if _name(pid) == "besom-warm"][:1]
            case "that of the trials":  # which the first one has forked
                return [pid for pid in ours if _name(pid) == "besom-warm"][1:]
            case _:
                return [pid for pid in ours if _name(pid) == f"besom-{victim.removeprefix('a ').removeprefix('the ')}"][
                    :1
                ]

    def doctor(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.shell.run(BESOM, "doctor", "app", *words)


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def _kill(pids: list[int]) -> int:
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:  # it was faster
            continue
    return killed


@pytest.mark.timeout(3600)
def test_whatever_is_killed_at_whatever_moment_nothing_is_lost(shell: Shell) -> None:
    chance, chaos, kills = Random(SEED), Chaos(shell), Counter[str]()
    while kills.total() < KILLS:
        if chance.random() < 0.8:  # most of them while trials run; a start takes longer than a trial
            eventually(lambda: chaos.pids("a trial") or chaos.process.poll() is not None, "a trial, or the end")
        time.sleep(chance.uniform(0.0, 2.0))  # a moment nobody has chosen
        if chaos.process.poll() is not None:
            said = chaos.process.communicate()
            assert chaos.process.returncode == 0, said
            assert_whole(shell, chaos.n_trials)
            chaos.go_on(MORE)
            continue
        victim = chance.choice([victim for victim in VICTIMS if chaos.pids(victim)])
        if not _kill(chaos.pids(victim)):
            continue
        kills[victim] += 1
        if victim in ("the supervisor", "everything"):
            chaos.process.communicate()
            eventually(lambda: not processes_in(shell.folder), "the workers to end")
            if (shell.folder / "optuna.db").exists():
                chaos.doctor("--fix")
                healthy = chaos.doctor()
                assert healthy.returncode == 0 or "no study" in healthy.stderr, healthy.stdout + healthy.stderr
                assert "RUNNING" not in [run.info.status for run in shell.runs()]
            chaos.go_on()
    out, err = chaos.process.communicate(timeout=600)
    assert chaos.process.returncode == 0, out + err
    assert_whole(shell, chaos.n_trials)
    done = chaos.doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    _assert_no_acknowledged_value_was_lost(shell)
    _print_table(shell, kills)


def _assert_no_acknowledged_value_was_lost(shell: Shell) -> None:
    trials = study(shell).trials
    for log in shell.folder.glob("multirun/*/*/*/acknowledged"):
        trial = trials[int(log.parent.name)]
        for step in map(int, log.read_text().split()):
            assert trial.intermediate_values[step] == trial.params["+x"] + step


def _print_table(shell: Shell, kills: Counter[str]) -> None:
    trials = study(shell).trials
    ends = Counter(end for trial in trials for end in trial.user_attrs.get("besom.ends", []))
    states = Counter(trial.state.name for trial in trials)
    print(f"\nseed {SEED}: {kills.total()} kills: " + ", ".join(f"{victim} {kills[victim]}" for victim in VICTIMS))
    print(f"{len(trials)} trials: {dict(states)}; attempts that ended early: {dict(ends)}; violations: 0")
    print(f"folders: {sum(1 for _ in Path(shell.folder).glob('multirun/*/*'))}")
