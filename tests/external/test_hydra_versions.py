"""Besom on the Hydra to come: the release candidate of 1.4, beside the Hydra that is installed here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from doors import BESOM, Shell

from sweeps import study

pytestmark = pytest.mark.usefixtures("stocked")

HYDRA = "1.4.0rc3"
OMEGACONF = "2.4.1rc1"  # the oldest that it takes

# with a list of what Hydra may instantiate, on which nothing of the sweep's own stands
APP = f"""
import besom
import hydra
import hydra.utils

assert hydra.__version__ == "{HYDRA}"

@hydra.main(config_path=".", config_name="conf", execution_whitelist=["mine.number"])
def main(cfg):
    x = hydra.utils.instantiate(dict(_target_="mine.number", x=cfg.x))
    if cfg.forbidden:
        hydra.utils.instantiate(dict(_target_="mine.other"))
    for step in range(3):
        besom.report(x, step)
    return x + cfg.extra

if __name__ == "__main__":
    main()
"""
CONF = """
defaults: [_self_, {override hydra/sweeper: besom}]
x: 1.0
kind: plain
hue: red
extra: 0
forbidden: false
hydra:
  sweeper:
    params:
      x: tag(log, interval(0.1, 10))
      kind:
        plain:
        more: {extra: "int(range(1.5, 4))"}
"""
SWEEP = (sys.executable, "app.py", "-m", "hue=choice(red,green)")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with it; whatever comes first on the path is imported."""
    folder = tmp_path_factory.mktemp("packages")
    wanted = (f"hydra-core=={HYDRA}", f"omegaconf=={OMEGACONF}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *wanted]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"pip reaches no registry that has Hydra {HYDRA}: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture
def shell(tmp_path: Path, packages: Path) -> Shell:
    shell = Shell(tmp_path)
    shell.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(packages), shell.env.get("PYTHONPATH"))))
    shell.write("app.py", APP)
    shell.write("conf.yaml", CONF)
    shell.write("mine.py", "number = lambda x: x\nother = lambda: None")
    return shell


def states(shell: Shell, name: str) -> list[str]:
    return [trial.state.name for trial in study(shell, name).trials]


def run(shell: Shell, *words: str) -> tuple[int, str, str]:
    process = shell.start(*words)
    out, err = process.communicate()
    return process.returncode, out, err


def test_any_app_is_swept_with_a_conditional_space_and_a_pruner_and_goes_on(shell: Shell) -> None:
    pruner = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=2", "hydra.sweeper.sampler.seed=0")
    for budget in (6, 8):
        code, out, err = run(shell, *SWEEP, *pruner, f"hydra.sweeper.n_trials={budget}")
        assert (code, err) == (0, "")
        assert f"{budget} of {budget} trials" in out
    assert len(states(shell, "app")) == 8
    assert set(states(shell, "app")) == {"COMPLETE", "PRUNED"}
    children = [run for run in shell.runs() if "besom.trial" in run.data.tags]
    assert len(children) == 8
    for child in children:
        assert child.info.status == "FINISHED"  # those that were pruned too
        assert ("extra" in child.data.params) == (child.data.params["kind"] == "more")
        assert child.data.params.get("extra", "1") in ("1", "2", "3")


def test_what_the_app_does_not_allow_its_trials_cannot_instantiate(shell: Shell) -> None:
    code, _, err = run(shell, *SWEEP, "forbidden=true", "hydra.sweeper.n_trials=1")
    assert code == 1
    assert "'mine.other' is not in the Hydra execution whitelist" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*SWEEP, "x=interval(3,1)"], "low <= high"),
        ([*SWEEP, "y=interval(1,3)"], "in the search space at"),
        ([BESOM, "train", "optimizer.lrr=1"], "did you mean 'optimizer.lr'"),
        ([BESOM, "train", "optimizer=admw"], "did you mean 'adamw'"),
        ([BESOM, "train", "model.depth=7"], "at most 3"),
        ([BESOM, "sweep", "digits", "model.activation=choice(relu,rellu)"], "did you mean 'relu'"),
        ([BESOM, "sweep", "digits", "hydra.sweeper.n_trials=many"], "hydra.sweeper.n_trials=many"),
    ],
    ids=lambda given: given if isinstance(given, str) else given[-1],
)
def test_a_wrong_input_is_refused_with_one_message(shell: Shell, words: list[str], says: str) -> None:
    code, _, err = run(shell, *words)
    assert code == 2, err
    assert err.startswith("besom: ")
    assert err.count("besom: ") == 1
    assert says in err
    assert shell.runs() == []


def test_besom_sweeps_and_repeats_a_trial_without_a_warning(shell: Shell) -> None:
    small = ("trainer.max_epochs=1", "model.width=8", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")
    code, out, err = run(shell, BESOM, "sweep", "digits", *small)
    assert (code, err) == (0, "")
    for log in shell.folder.glob("multirun/*/*/*/output.log"):
        assert "Warning" not in log.read_text()
    [line] = [line for line in out.splitlines() if line.startswith("repeat it:")]
    code, _, err = run(shell, BESOM, *line.removeprefix("repeat it:").split()[1:])
    assert (code, err) == (0, "")
    *_, repeated = shell.runs()
    best = max(run.data.metrics["objective"] for run in shell.runs() if "besom.trial" in run.data.tags)
    assert repeated.data.metrics["objective"] == best
