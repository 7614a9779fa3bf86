"""`besom reproduce`: a run trained again from what was frozen in it gives the same number."""

from __future__ import annotations

from pathlib import Path

import pytest
from doors import Shell
from mlflow.entities import Run

QUICK = ("trainer.max_epochs=2", "model.width=8", "trainer.num_threads=1")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """In a git repository, a run with the folder's own conf/, and a sweep of one trial."""
    shell = Shell(tmp_path_factory.mktemp("recorded"))
    shell.write("conf/optimizer/mine.yaml", "defaults: [sgd, _self_]\nlr: 0.07\n")
    shell.write("notes.txt", "first")
    for words in (["init"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-m", "first"]):
        assert shell.run("git", *words).returncode == 0
    one = shell.besom("train", "optimizer=mine", "tracking.run_name=one", *QUICK)
    assert one.returncode == 0, one.stderr
    swept = shell.besom("sweep", "digits", "hydra.sweeper.n_trials=1", "trainer.max_epochs=1")
    assert swept.returncode == 0, swept.stderr
    return shell


def original(shell: Shell) -> Run:
    [run] = [run for run in shell.runs() if run.info.run_name == "one"]
    return run


def reproductions(shell: Shell, of: Run) -> list[Run]:
    return [run for run in shell.runs() if run.data.tags.get("besom.reproduces") == of.info.run_id]


def test_a_run_is_trained_again_from_its_frozen_config_and_the_difference_is_0(recorded: Shell) -> None:
    """The conf/ it was composed from says something else by now."""
    run = original(recorded)
    recorded.write("conf/optimizer/mine.yaml", "defaults: [adam, _self_]\nlr: 1.0\n")
    recorded.run("git", "update-index", "--assume-unchanged", "conf/optimizer/mine.yaml")
    done = recorded.besom("reproduce", run.info.run_id[:8])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    [again] = reproductions(recorded, run)
    value = run.data.metrics["objective"]
    assert again.data.metrics["objective"] == value
    assert done.stdout.splitlines()[-1] == f"val/acc: {value!r} then, {value!r} now, difference 0.0"
    assert f"the same commit: {run.data.tags['mlflow.source.git.commit'][:10]}" in done.stdout
    assert again.info.run_name == "one again"
    assert again.data.params == run.data.params
    assert len(list(recorded.folder.glob("outputs/*/*/run.jsonl"))) == 2


def test_a_trial_of_a_sweep_is_reproduced_alone(recorded: Shell) -> None:
    [trial] = [run for run in recorded.runs() if run.data.tags.get("besom.trial") == "0"]
    recorded.write("notes.txt", "changed")
    refused = recorded.besom("reproduce", "digits/0")
    assert refused.returncode == 2
    assert "changes not committed: false then, true now" in refused.stderr
    assert reproductions(recorded, trial) == []
    done = recorded.besom("reproduce", "digits/0", "--force")
    assert done.returncode == 0, done.stderr
    assert "other code: changes not committed: false then, true now" in done.stdout
    assert done.stdout.rstrip().endswith("difference 0.0")
    [again] = reproductions(recorded, trial)
    assert again.data.metrics["objective"] == trial.data.metrics["objective"]
    assert "mlflow.parentRunId" not in again.data.tags


def test_a_class_of_ones_own_is_built_only_when_its_package_is_trusted(tmp_path: Path) -> None:
    """Its module lies elsewhere: one of the working directory is asked for."""
    shell, elsewhere = Shell(tmp_path / "here"), Shell(tmp_path / "elsewhere")
    shell.folder.mkdir(exist_ok=True)
    elsewhere.folder.mkdir(exist_ok=True)
    elsewhere.write("my_lib/nets.py", "from besom.model import CNN\nclass Net(CNN): pass\n")
    there = {"PYTHONPATH": str(elsewhere.folder)}
    done = shell.besom("train", "trainer.max_epochs=1", "model._target_=my_lib.nets.Net", **there)
    assert done.returncode == 0, done.stderr
    [run] = shell.runs()
    unknown = shell.besom("reproduce", run.info.run_id, **there)
    assert unknown.returncode == 2
    assert "--trust my_lib" in unknown.stderr
    always = shell.besom("reproduce", run.info.run_id, **there, BESOM_TRUSTED="other, my_lib")
    assert always.returncode == 0, always.stderr


def test_a_wrong_override_is_refused_before_anything_starts(recorded: Shell) -> None:
    outputs = sorted(recorded.folder.glob("outputs/*/*"))
    done = recorded.besom("reproduce", original(recorded).info.run_id, "--force", "optimizer.lr=-1")
    assert done.returncode == 2
    assert done.stderr.startswith("besom: the config does not fit:")
    assert "optimizer.lr=-1: Input should be greater than 0" in done.stderr
    assert sorted(recorded.folder.glob("outputs/*/*")) == outputs
