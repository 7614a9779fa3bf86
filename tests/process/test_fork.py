"""A changed sweep: refused with the difference, or a study of its own that uses the trials that fit."""

from __future__ import annotations

import subprocess
import sys

import pytest
from doors import Shell

from sweeps import UNRECORDED, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import besom
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    besom.report(cfg.x, 0)
    return cfg.x + cfg.get("y", 0)

if __name__ == "__main__":
    main()
"""


def sweep(shell: Shell, *words: str) -> subprocess.CompletedProcess[str]:
    shell.write("app.py", APP)
    return shell.run(sys.executable, "app.py", "-m", "hydra/sweeper=besom", "hydra.sweeper.n_jobs=1", *words)


def test_a_changed_space_is_refused_with_the_difference_and_the_way_out(shell: Shell) -> None:
    assert sweep(shell, "+x=interval(0,10)", "hydra.sweeper.n_trials=2", UNRECORDED).returncode == 0
    done = sweep(shell, "+x=interval(0,5)", "hydra.sweeper.n_trials=4", UNRECORDED)
    assert done.returncode == 2
    assert "- +x: interval(0.0, 10.0)\n  + +x: interval(0.0, 5.0)" in done.stderr
    assert "hydra.sweeper.resume=fork" in done.stderr
    assert len(study(shell, "app").trials) == 2


def test_a_fork_begins_with_the_trials_that_fit_and_leaves_the_old_study_alone(shell: Shell) -> None:
    assert sweep(shell, "+x=interval(0,10)", "hydra.sweeper.n_trials=8").returncode == 0
    fit = [trial.params["+x"] for trial in study(shell, "app").trials if trial.params["+x"] <= 6]
    assert 0 < len(fit) < 8
    words = ("+x=interval(0,6)", "hydra.sweeper.n_trials=12", "hydra.sweeper.resume=fork")
    done = sweep(shell, *words)
    assert done.returncode == 0, done.stderr
    assert f"study app-2: a fork of app, of whose trials {len(fit)} fit" in done.stdout
    fork = study(shell, "app-2")
    assert len(fork.trials) == 12
    assert [trial.params["+x"] for trial in fork.trials[: len(fit)]] == fit
    assert all(trial.params["+x"] <= 6 for trial in fork.trials)
    assert len(study(shell, "app").trials) == 8
    again = sweep(shell, *words, "hydra.sweeper.n_trials=13")  # goes on with the same fork
    assert again.returncode == 0, again.stderr
    assert len(study(shell, "app-2").trials) == 13
    children = [
        run for run in shell.runs() if run.data.tags.get("besom.study") == "app-2" and "besom.trial" in run.data.tags
    ]
    assert sorted(int(run.data.tags["besom.trial"]) for run in children) == list(range(len(fit), 13))


def test_a_fork_with_another_direction_keeps_every_trial(shell: Shell) -> None:
    assert sweep(shell, "+x=interval(0,10)", "hydra.sweeper.n_trials=3", UNRECORDED).returncode == 0
    words = ("+x=interval(0,10)", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=4", UNRECORDED)
    assert sweep(shell, *words).returncode == 2
    done = sweep(shell, *words, "hydra.sweeper.resume=fork")
    assert done.returncode == 0, done.stderr
    assert [trial.values for trial in study(shell, "app-2").trials][:3] == [
        trial.values for trial in study(shell, "app").trials
    ]


def test_a_fork_with_a_new_key_begins_with_nothing(shell: Shell) -> None:
    assert sweep(shell, "+x=interval(0,10)", "hydra.sweeper.n_trials=2", UNRECORDED).returncode == 0
    done = sweep(
        shell,
        "+x=interval(0,10)",
        "+y=choice(1,2)",
        "hydra.sweeper.n_trials=2",
        UNRECORDED,
        "hydra.sweeper.resume=fork",
    )
    assert done.returncode == 0, done.stderr
    assert all("+y" in trial.params for trial in study(shell, "app-2").trials)


def test_a_fork_of_a_grid_is_refused(shell: Shell) -> None:
    done = sweep(shell, "+x=range(0,4)", "hydra/sweeper/sampler=grid", "hydra.sweeper.resume=fork")
    assert done.returncode == 2
    assert "a grid tries each of its points in turn" in done.stderr


def test_a_sweep_that_has_not_changed_is_not_forked(shell: Shell) -> None:
    for n_trials in (2, 3):
        done = sweep(
            shell, "+x=interval(0,1)", f"hydra.sweeper.n_trials={n_trials}", UNRECORDED, "hydra.sweeper.resume=fork"
        )
        assert done.returncode == 0, done.stderr
    assert len(study(shell, "app").trials) == 3
