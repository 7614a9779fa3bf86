"""`dry_run=true`: what a sweep would do is said, and nothing is done."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from doors import Shell

from sweeps import APP, BASE, UNRECORDED, study

CONDITIONAL = """
# @package _global_
hydra:
  sweeper:
    params:
      +x: interval(0, 1)
      +kind:
        deep: {+depth: "range(2, 6)"}
        flat: {+depth: 1}
    enqueue:
      - {x: 0.25, kind: deep, depth: 4}
"""


def plan(shell: Shell, *words: str, code: int = 0) -> str:
    """What `python app.py -m ... hydra.sweeper.dry_run=true` says; not a byte is another after it."""
    shell.write("app.py", APP)
    before = contents(shell)
    done = shell.run(sys.executable, "app.py", "-m", *words, *BASE, "hydra.sweeper.dry_run=true")
    assert done.returncode == code, done.stdout + done.stderr
    assert contents(shell) == before
    return done.stdout + done.stderr


def contents(shell: Shell) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}


def first_trials(said: str) -> list[str]:
    """The lines indented."""
    return [line.strip() for line in said.splitlines() if line.startswith("  ")]


def test_besoms_own_sweep_is_planned_with_an_estimate(shell: Shell) -> None:
    done = shell.besom("sweep", "digits", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(shell.folder.iterdir()) == []
    for line in (
        "study      digits",
        "objective  maximize val/acc",
        "trials     20",
        "slots      2, threads of each: ",
        "sampler    TPESampler, seed 0",
        "pruner     HyperbandPruner",
        f"storage    sqlite:///{shell.folder}/optuna.db",
        f"recorded   sqlite:///{shell.folder}/mlflow.db, experiment besom",
        f"folders    {shell.folder}/multirun/",
        "optimizer         choice(sgd, adamw, rmsprop)",
        "optimizer.lr      tag(log, interval(0.0001, 0.1))",
        "every trial: sweeps=digits",
        "time  about ",
        "20 trials of 10 epochs, 2 at a time, at most: a pruner ends some of them early",
        "disk  about ",
    ):
        assert line in done.stdout
    assert len(first_trials(done.stdout)) == 3
    assert first_trials(done.stdout)[0].startswith("besom train sweeps=digits model.activation=")


def test_what_is_settled_for_all_trials_is_settled_before_the_estimate(shell: Shell) -> None:
    done = shell.besom("sweep", "digits", "dry_run=true", "trainer.tune_step=auto", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^all trials: .* ms a step on cpu", done.stdout, re.MULTILINE)
    assert list(shell.folder.iterdir()) == []


def test_pictures_that_no_trial_can_read_are_refused(shell: Shell) -> None:
    done = shell.besom("sweep", "digits", "dry_run=true", "data=image_folder", "data.source.folder=nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("besom: ")
    assert "nowhere" in done.stderr
    assert list(shell.folder.iterdir()) == []


def test_of_another_app_all_but_the_estimate_is_said(shell: Shell) -> None:
    said = plan(shell, UNRECORDED)
    assert "its first trials (the sampler has no seed: each time others):" in said
    assert "recorded   nowhere" in said
    assert first_trials(said)[0].startswith("python app.py +x=0.")
    assert "no estimate of time and disk" in said


def test_a_conditional_space_is_shown_with_its_conditions(shell: Shell) -> None:
    shell.write("conf/space/mine.yaml", CONDITIONAL)
    said = plan(shell, "--config-dir", "conf", UNRECORDED, "+space=mine")
    rows = [re.split(" {2,}", line) for line in said.splitlines()]
    assert ["key", "searched", "only with"] in rows
    assert ["+kind", "choice(deep, flat)"] in rows
    assert ["+depth", "int(interval(2, 5))", "kind=deep"] in rows
    assert ["+depth", "1", "kind=flat"] in rows
    assert first_trials(said)[0] == "python app.py --config-dir conf +space=mine +kind=deep +depth=4 +x=0.25"


def test_the_trials_planned_are_those_that_are_run_from_wherever_the_study_stands(shell: Shell) -> None:
    seeded = (UNRECORDED, "hydra.sweeper.sampler.seed=1")
    planned = first_trials(plan(shell, *seeded))
    done = shell.run(sys.executable, "app.py", "-m", *BASE, *seeded, "hydra.sweeper.n_trials=1")
    assert done.returncode == 0, done.stderr
    [first] = study(shell).trials
    assert planned[0] == f"python app.py +x={first.params['+x']}"
    said = plan(shell, *seeded, "hydra.sweeper.n_trials=3")
    assert "trials     3, of which 1 have ended" in said
    assert first_trials(said) == planned[1:]
    assert "the budget is spent" in plan(shell, *seeded, "hydra.sweeper.n_trials=1")
    assert "searches another space" in plan(shell, *seeded, "+y=interval(0,1)", code=2)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hydra.sweeper.storage=nonsense", "hydra.sweeper.storage=nonsense"),
        ("hydra.sweeper.tracking_uri=nonsense", "not a store MLflow can write to"),
        ("hydra.sweep.dir=/dev/null/out", "the output folder /dev/null/out cannot be written"),
        ("+hydra.sweeper.sampler.nope=1", "nope"),
    ],
)
def test_what_the_sweep_would_refuse_is_refused(shell: Shell, word: str, says: str) -> None:
    said = plan(shell, word, code=2)
    assert said.startswith("besom: ")
    assert said.count("besom: ") == 1
    assert says in said


def test_a_wrong_plan_is_refused_in_besoms_words(shell: Shell) -> None:
    done = shell.besom("sweep", "digits", "plan=maybe")
    assert done.returncode == 2
    assert "plan" in done.stderr
    assert "Traceback" not in done.stderr
