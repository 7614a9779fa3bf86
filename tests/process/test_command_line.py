"""What the user hears before anything heavy is loaded."""

from __future__ import annotations

import sys

import pytest
from doors import Shell

HEAVY = ("torch", "pytorch_lightning", "torchvision", "mlflow", "sklearn")

# prints at the very end which heavy modules the command has loaded
SPY = """
import atexit, sys
atexit.register(lambda: print("loaded:", sorted(set(%r) & set(sys.modules))))
from besom.cli.main import main
main()
"""

# what is typed → what the one message must name: the place, the value, the way out
WRONG = {
    "optimizer.lrr=1": ["optimizer.lrr", "did you mean 'optimizer.lr'"],
    "lr=1": ["lr: no such key", "did you mean 'optimizer.lr'"],
    "optimizr=sgd": ["optimizr: no such key", "'optimizer'"],
    "optimizer=admw": ["optimizer=admw", "did you mean 'adamw'"],
    "optimizer.lr=-1": ["optimizer.lr=-1", "greater than 0"],
    "optimizer.lr=abc": ["optimizer.lr=abc", "valid number"],
    "model.activation=rellu": ["model.activation=rellu", "did you mean 'relu'"],
    "data.batch_size=0": ["data.batch_size=0", "greater than or equal to 1"],
    "trainer.max_epochs=0": ["trainer.max_epochs=0", "greater than or equal to 1"],
    "data.val_split=0.9": ["val_split=0.9", "together they must stay below 1"],
    "data=image_folder": ["data.source.folder: missing"],
    "+data.source.folder=nowhere": ["data.source.folder: no such key"],
    "model._target_=nomodule.Net": ["nomodule", "module.ClassName"],
    "tracking.system_metrics=0": ["tracking.system_metrics=0", "greater than 0"],
    "tracking.uri=nonsense": ["tracking.uri=nonsense", "sqlite:///mlflow.db"],
    "tracking.uri=http://127.0.0.1:9": ["nobody answers at 127.0.0.1:9"],
    "tracking.uri=http://127.0.0.1:port": ["malformed"],
    "tracking.uri=sqlite:////no/such/folder/m.db": ["no such folder: /no/such/folder"],
    "hydra.run.dir=/dev/null/out": ["/dev/null/out", "hydra.run.dir="],
    "sweeps=digts": ["no sweep 'digts'", "did you mean 'digits'"],
    "nonsense": ["nonsense", "key=value"],
    "optimizer.lr=intervall(0,1)": ["no function 'intervall'", "did you mean 'interval'"],
    "optimizer.lr=interval(0,1)": ["is a search, and this is one run", "besom sweep"],
    "objective.metric=val/accuracy": ["objective.metric=val/accuracy is never logged", "did you mean 'val/acc'"],
}


def assert_refused(shell: Shell, err: str, says: list[str]) -> None:
    assert err.startswith("besom: ")
    assert err.count("besom: ") == 1
    assert "Traceback" not in err
    assert "Error executing job" not in err
    for part in says:
        assert part in err
    assert shell.runs() == []


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_config_is_refused_with_one_message_and_nothing_loaded_or_written(shell: Shell, override: str) -> None:
    done = shell.run(sys.executable, "-c", SPY % (HEAVY,), "train", override)
    assert done.returncode == 2
    assert_refused(shell, done.stderr, WRONG[override])
    assert done.stdout == "loaded: []\n"
    assert list(shell.folder.iterdir()) == []


def test_all_mistakes_of_a_config_are_named_at_once(shell: Shell) -> None:
    err = shell.besom("train", "optimizer.lr=-1", "data.batch_size=0", "model.activation=rellu").stderr
    assert_refused(shell, err, ["optimizer.lr=-1", "data.batch_size=0", "model.activation=rellu"])


def test_help_names_every_verb_and_loads_nothing_heavy(shell: Shell) -> None:
    done = shell.run(sys.executable, "-c", SPY % (HEAVY,), "--help")
    assert done.returncode == 0
    for verb in ("besom train", "besom sweep", "besom ui"):
        assert verb in done.stdout
    assert done.stdout.endswith("loaded: []\n")


def test_version(shell: Shell) -> None:
    assert shell.besom("--version").stdout.startswith("besom 0.")


def test_an_unknown_verb_is_refused_with_the_near_one(shell: Shell) -> None:
    done = shell.besom("swep")
    assert done.returncode == 2
    assert_refused(shell, done.stderr, ["no such command: swep", "did you mean 'sweep'"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["digts"], ["no sweep 'digts'", "did you mean 'digits'"]),
        (["nowhere/mine.yaml"], ["no sweep file nowhere/mine.yaml"]),
        (["digits", "data.batch_size=0"], ["data.batch_size=0"]),
        (["digits", "tracking.uri=nonsense"], ["tracking.uri=nonsense"]),
        (["digits", "model.activation=choice()"], ["model.activation=choice()"]),
        (["digits", "optimizer.lr=interval(1,0)"], ["optimizer.lr=interval(1,0)", "low <= high"]),
        (["digits", "optimizer.lr=tag(log,interval(0,1))"], ["optimizer.lr=tag(log,interval(0,1))"]),
        (["digits", "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0", "at least 1"]),
        (["digits", "n_trial=5"], ["n_trial: no such key", "did you mean 'n_trials'"]),
        (["digits", "objective.metric=val/accuracy"], ["val/accuracy is never logged", "did you mean 'val/acc'"]),
        (["digits", "test=true"], ["a sweep never sees the test set"]),
        (["digits", "hydra.sweeper.n_jobs=0"], ["hydra.sweeper.n_jobs=0", "at least 1"]),
        (["digits", "hydra.sweeper.lease=0"], ["hydra.sweeper.lease=0", "above 0 seconds"]),
        (["digits", "hydra.sweeper.system_metrics=0"], ["hydra.sweeper.system_metrics=0", "above 0 seconds"]),
        (["digits", "hydra.sweeper.sampler=null"], ["hydra.sweeper.sampler=null", "hydra/sweeper/sampler=tpe"]),
        (["digits", "hydra/sweeper/sampler=tp"], ["hydra/sweeper/sampler=tp", "did you mean 'tpe'"]),
        (["digits", "hydra.sweeper.n_trials=many"], ["hydra.sweeper.n_trials=many", "Integer"]),
        (["digits", "hydra.sweeper.direction=up"], ["hydra.sweeper.direction=up", "maximize or minimize"]),
        (["digits", "hydra.sweeper.storage=nonsense"], ["hydra.sweeper.storage=nonsense"]),
        (["digits", "hydra.sweep.dir=/dev/null/out"], ["/dev/null/out", "hydra.sweep.dir="]),
        (["digits", "+hydra.sweeper.sampler.nope=1"], ["TPESampler", "nope"]),
        (["digits", "model.activation=choice(relu,rellu)"], ["model.activation=rellu", "did you mean 'relu'"]),
        (["digits", "optimizer=choice(sgd,admw)"], ["optimizer=admw"]),
        (["digits", "optimizer.lrr=interval(0,1)"], ["optimizer.lrr"]),
        (["digits", "optimizer.lr=interval(0,1)"], ["optimizer.lr=0.0", "greater than 0"]),
    ],
    ids=lambda words: words[-1],
)
def test_a_wrong_sweep_is_refused_before_trial_0(shell: Shell, words: list[str], says: list[str]) -> None:
    done = shell.besom("sweep", *words)
    assert done.returncode == 2
    assert_refused(shell, done.stderr, says)
    assert not (shell.folder / "optuna.db").exists()


def test_an_app_that_searches_without_a_sweeper_is_told_of_one(shell: Shell) -> None:
    shell.write(
        "app.py", "import hydra\n@hydra.main(version_base='1.3', config_path=None)\ndef main(cfg): return 1\nmain()\n"
    )
    done = shell.run(sys.executable, "app.py", "-m", "+C=interval(0,1)")
    assert done.returncode == 2
    assert_refused(shell, done.stderr, ["+C=interval(0,1)", "add hydra/sweeper=besom"])
