"""What the official Optuna sweeper's documentation shows, with `hydra/sweeper=besom` in its place."""

from __future__ import annotations

import subprocess
import sys

import optuna
import pytest
from doors import Shell

from sweeps import UNRECORDED, study

SPHERE = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def sphere(cfg):
    return cfg.x**2 + cfg.y**2

if __name__ == "__main__":
    sphere()
"""
CONFIG = """
defaults:
  - override hydra/sweeper: besom
  - override hydra/sweeper/sampler: tpe

hydra:
  sweeper:
    sampler:
      seed: 123
    direction: minimize
    study_name: sphere
    storage: sqlite:///optuna.db
    n_trials: 20
    n_jobs: 1
    max_failure_rate: 0.0
    params:
      x: range(-5.5, 5.5, step=0.5)
      y: choice(-5, 0, 5)

x: 1
y: 1
z: 100
"""
# a function `configure(cfg, trial)` there; here it is part of the space
CUSTOM = """
defaults:
  - override hydra/sweeper: besom
  - _self_

hydra:
  sweeper:
    study_name: sphere
    n_trials: 20
    sampler: {seed: 123}
    params:
      x: range(-5.5, 5.5, step=0.5)
      y:
        -5: {+z: "range(0, 3)"}
        0: null
        5: {+z: "interval(3, 5)"}

x: 1
y: 1
"""


def sphere(shell: Shell, config: str, *words: str) -> subprocess.CompletedProcess[str]:
    shell.write("example/sphere.py", SPHERE)
    shell.write("example/conf/config.yaml", config)
    return shell.run(sys.executable, "example/sphere.py", "--multirun", UNRECORDED, *words)


def trials(shell: Shell) -> list[optuna.trial.FrozenTrial]:
    return study(shell, "sphere").trials


def test_sphere(shell: Shell) -> None:
    done = sphere(shell, CONFIG)
    assert done.returncode == 0, done.stderr
    found = trials(shell)
    assert len(found) == 20
    for trial in found:
        assert set(trial.params) == {"x", "y"}
        assert trial.params["x"] in [n / 2 for n in range(-11, 11)]  # as in Hydra, without the stop
        assert trial.params["y"] in (-5, 0, 5)
        assert trial.value == trial.params["x"] ** 2 + trial.params["y"] ** 2


@pytest.mark.parametrize(
    ("typed", "distributions"),
    [
        (
            ["x=interval(-5.0,5.0)", "y=interval(1,10)"],
            ["FloatDistribution(-5.0, 5.0)", "FloatDistribution(1.0, 10.0)"],
        ),
        (["x=int(interval(-5,5))", "y=range(0,5)"], ["IntDistribution(-5, 5)", "IntDistribution(0, 4)"]),
        (["x=tag(log,interval(1,100))", "y=choice(1,2)"], ["FloatDistribution(1.0, 100.0, log)", "(1, 2)"]),
        (["x=tag(log,int(interval(1,100)))", "y=1,2"], ["IntDistribution(1, 100, log)", "(1, 2)"]),
        (["x=range(0,1,0.25)", "y=3"], ["FloatDistribution(0.0, 0.75, step 0.25)"]),
    ],
)
def test_the_command_line_wins_over_the_config(shell: Shell, typed: list[str], distributions: list[str]) -> None:
    done = sphere(shell, CONFIG, *typed, "hydra.sweeper.n_trials=1")
    assert done.returncode == 0, done.stderr
    [trial] = trials(shell)
    assert list(map(described, trial.distributions.values())) == distributions


def described(searched: optuna.distributions.BaseDistribution) -> str:
    match searched:
        case optuna.distributions.CategoricalDistribution():
            return str(searched.choices)
        case optuna.distributions.IntDistribution() | optuna.distributions.FloatDistribution():
            log = ", log" if searched.log else ""
            step = f", step {searched.step}" if searched.step and searched.step != 1 else ""
            return f"{type(searched).__name__}({searched.low}, {searched.high}{log}{step})"
    raise AssertionError(searched)


def test_a_custom_search_space(shell: Shell) -> None:
    done = sphere(shell, CUSTOM)
    assert done.returncode == 0, done.stderr
    for trial in trials(shell):
        z = [value for name, value in trial.params.items() if "z" in name]
        match trial.params["y"]:
            case 0:
                assert z == []
            case -5:
                assert z[0] in (0, 1, 2)
            case 5:
                assert 3 <= z[0] <= 5
