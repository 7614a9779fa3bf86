"""`plan=true`: what a sweep would do is said, and nothing is done."""

from __future__ import annotations

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
    """What `python app.py -m ... hydra.sweeper.plan=true` says; not a byte is another after it."""
    shell.write("app.py", APP)
    before = contents(shell)
    done = shell.run(sys.executable, "app.py", "-m", *BASE, *words, "hydra.sweeper.plan=true")
    assert done.returncode == code, done.stdout + done.stderr
    assert contents(shell) == before
    return done.stdout + done.stderr


def contents(shell: Shell) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}


def first_trials(said: str) -> list[str]:
    """The lines indented."""
    return [line.strip() for line in said.splitlines() if line.startswith("  ")]


def test_besoms_own_sweep_is_planned_with_an_estimate_and_its_first_trials_are_those_of_the_sweep(shell: Shell) -> None:
    done = shell.besom("sweep", "digits", "plan=true")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(shell.folder.iterdir()) == []
    for line in (
        "study      digits",
        "objective  maximize val/acc",
        "trials     20",
        "slots      2, threads of each: ",
        "sampler    TPESampler, seed 0",
        "pruner     none",
        f"storage    sqlite:///{shell.folder}/optuna.db",
        f"recorded   sqlite:///{shell.folder}/mlflow.db, experiment besom",
        f"folders    {shell.folder}/multirun/",
        "optimizer         choice(sgd, adamw, rmsprop)",
        "optimizer.lr      tag(log, interval(0.0001, 0.1))",
        "every trial: sweeps=digits",
        "time  about ",
        "20 trials of 10 epochs, 2 at a time",
        "disk  about ",
    ):
        assert line in done.stdout
    first, *others = first_trials(done.stdout)
    assert len(others) == 2
    swept = shell.besom("sweep", "digits", UNRECORDED, "hydra.sweeper.n_trials=1", "trainer.max_epochs=1")
    assert swept.returncode == 0, swept.stderr
    words = [word for word in swept.stdout.split("repeat it:  ")[1].split() if not word.startswith("trainer.")]
    assert " ".join(words) == first


def test_of_another_app_all_but_the_estimate_is_said(shell: Shell) -> None:
    said = plan(shell, UNRECORDED)
    assert "its first trials (the sampler has no seed: each time others):" in said
    assert "recorded   nowhere" in said
    assert first_trials(said)[0].startswith("python app.py +x=0.")
    assert "no estimate of time and disk" in said


def test_a_conditional_space_is_shown_with_its_conditions(shell: Shell) -> None:
    shell.write("conf/space/mine.yaml", CONDITIONAL)
    said = plan(shell, UNRECORDED, "--config-dir", "conf", "+space=mine")
    assert "+depth  range(2, 6, 1)      kind=deep" in said
    assert "+depth  1                   kind=flat" in said
    assert first_trials(said)[0] == "python app.py --config-dir conf +space=mine +x=0.25 +kind=deep +depth=4"


def test_a_study_that_is_there_is_planned_from_where_it_stands(shell: Shell) -> None:
    shell.write("app.py", APP)
    words = ("app.py", "-m", *BASE, UNRECORDED, "hydra.sweeper.sampler.seed=1")
    assert shell.run(sys.executable, *words, "hydra.sweeper.n_trials=1").returncode == 0
    said = plan(shell, UNRECORDED, "hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=3")
    assert "trials     3, of which 1 have ended" in said
    planned = first_trials(said)
    assert len(planned) == 2
    assert "the budget is spent" in plan(shell, UNRECORDED, "hydra.sweeper.n_trials=1")
    assert "searches another space" in plan(shell, UNRECORDED, "+y=interval(0,1)", code=2)
    assert shell.run(sys.executable, *words, "hydra.sweeper.n_trials=2").returncode == 0
    assert f"+x={study(shell).trials[1].params['+x']}" in planned[0]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("hydra.sweeper.storage=nonsense", "hydra.sweeper.storage=nonsense"),
        ("hydra.sweeper.tracking_uri=nonsense", "not a store MLflow can write to"),
        ("hydra.sweep.dir=/dev/null/out", "the output folder /dev/null/out cannot be written"),
        ("+y=interval(1,0)", "y=interval(1,0)"),
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
