"""The same command again: another study's folder, other settings, other data are never mixed in silence."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from doors import Shell

from sweeps import UNRECORDED, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import besom
import hydra
from hydra.core.hydra_config import HydraConfig
from pathlib import Path

def digests(cfg):
    return {"data": Path("data.txt").read_text()}

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
@besom.fingerprint("app.digests")
def main(cfg):
    kept = Path(HydraConfig.get().runtime.output_dir) / "kept.txt"
    before = kept.read_text() if kept.exists() else ""
    kept.write_text(before + f"{cfg.who} {cfg.x}\\n")
    return cfg.x * cfg.factor + len(before)

if __name__ == "__main__":
    main()
"""
CONFIG = """
defaults: [_self_, {net: small}]
who: a
x: 0
factor: 1
log_dir: logs
"""


@pytest.fixture
def app(shell: Shell) -> Shell:
    shell.write("app.py", APP)
    shell.write("conf/config.yaml", CONFIG)
    shell.write("conf/net/small.yaml", "width: 8\n")
    shell.write("conf/net/large.yaml", "width: 64\n")
    shell.write("data.txt", "first")
    return shell


def sweep(shell: Shell, *words: str) -> subprocess.CompletedProcess[str]:
    ours = ("hydra/sweeper=besom", "hydra.sweeper.n_jobs=1", UNRECORDED)
    return shell.run(sys.executable, "app.py", "-m", *ours, *words)


def test_two_studies_in_one_folder_share_nothing(app: Shell) -> None:
    fixed = ("hydra.sweep.dir=out", "hydra.sweeper.n_trials=2", "x=choice(1,2)")
    assert sweep(app, *fixed, "hydra.sweeper.study_name=a").returncode == 0
    done = sweep(app, *fixed, "hydra.sweeper.study_name=b", "who=b")
    assert done.returncode == 0, done.stderr
    assert "belongs to study 'a'" in done.stdout
    for name, folder in (("a", "out"), ("b", "out/study-b")):
        for trial in study(app, name).trials:
            assert (app.folder / folder / f"{trial.number}/kept.txt").read_text() == f"{name} {trial.params['x']}\n"
    again = sweep(app, *fixed, "hydra.sweeper.study_name=b", "who=b", "hydra.sweeper.n_trials=3")
    assert again.returncode == 0, again.stderr
    assert (app.folder / "out/study-b/2/kept.txt").exists()
    # a study that begins anew, where its old one was thrown away
    (app.folder / "optuna.db").unlink()
    assert sweep(app, *fixed, "hydra.sweeper.study_name=a").returncode == 0
    assert (app.folder / "out/study-a/0/kept.txt").read_text().count("\n") == 1


def test_other_settings_are_refused_accepted_or_forked(app: Shell) -> None:
    space = ("x=interval(0,10)", "net=choice(small,large)")
    assert sweep(app, *space, "hydra.sweeper.n_trials=2").returncode == 0
    # what changes no result does not count
    same = sweep(app, *space, "hydra.sweeper.n_trials=2", "log_dir=elsewhere", "hydra.sweeper.question=why?")
    assert same.returncode == 0, same.stderr

    done = sweep(app, *space, "hydra.sweeper.n_trials=3", "factor=2")
    assert done.returncode == 2
    assert "- factor: 1\n  + factor: 2" in done.stderr
    assert "hydra.sweeper.resume=anyway" in done.stderr
    assert len(study(app).trials) == 2

    forked = sweep(app, *space, "hydra.sweeper.n_trials=2", "factor=2", "hydra.sweeper.resume=fork")
    assert forked.returncode == 0, forked.stderr
    assert len(study(app, "app-2").trials) == 2
    assert all(trial.value == 2 * trial.params["x"] for trial in study(app, "app-2").trials)

    mixed = sweep(app, *space, "hydra.sweeper.n_trials=3", "factor=2", "hydra.sweeper.resume=anyway")
    assert mixed.returncode == 0, mixed.stderr
    assert len(study(app).trials) == 3
    status = app.besom("status", "app").stdout
    assert "after 2 trials it went on with a change:\n  - factor: 1\n  + factor: 2" in status
    app.besom("report", "app")
    assert "+ factor: 2" in (app.folder / "report.html").read_text()

    # an option's file, too
    app.write("conf/net/large.yaml", "width: 65\n")
    done = sweep(app, *space, "hydra.sweeper.n_trials=4", "factor=2")
    assert done.returncode == 2
    assert "- net.width [net=large]: 64\n  + net.width [net=large]: 65" in done.stderr


def test_other_data_are_refused_accepted_or_forked(app: Shell) -> None:
    space = ("x=interval(0,10)",)
    assert sweep(app, *space, "hydra.sweeper.n_trials=1").returncode == 0
    app.write("data.txt", "second")
    done = sweep(app, *space, "hydra.sweeper.n_trials=2")
    assert done.returncode == 2, done.stdout
    assert "- data: first\n  + data: second" in done.stderr
    assert len(study(app).trials) == 1

    forked = sweep(app, *space, "hydra.sweeper.n_trials=1", "hydra.sweeper.resume=fork")
    assert forked.returncode == 0 or "app-2" in forked.stdout, forked.stderr

    mixed = sweep(app, *space, "hydra.sweeper.n_trials=2", "hydra.sweeper.resume=anyway")
    assert mixed.returncode == 0, mixed.stderr
    assert [trial.state.name for trial in study(app).trials] == ["COMPLETE"] * 2
    assert "+ data: second" in app.besom("status", "app").stdout


def test_doctor_compares_what_is_there_with_what_should_be(app: Shell) -> None:
    assert sweep(app, "x=interval(0,10)", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=out").returncode == 0
    well = app.besom("doctor", "app")
    assert well.returncode == 0, well.stdout
    assert "all is well: 2 trials with their folders; none is recorded in MLflow" in well.stdout

    log = app.folder / "out/1/run.jsonl"
    value = study(app).trials[1].value
    log.write_text(log.read_text().replace(f'"objective": {value}', '"objective": 77.0'))
    shutil.rmtree(app.folder / "out/0")
    ill = app.besom("doctor", "app")
    assert ill.returncode == 1
    assert "trial 0: nothing in" in ill.stdout
    assert f"trial 1 has the values [{value}] in the study, [77.0] in its log" in ill.stdout
