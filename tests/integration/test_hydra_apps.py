"""Apps that run alone run in a sweep, and find there what they find with Hydra's own sweeper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from doors import Shell

from sweeps import BASE, UNRECORDED

pytestmark = pytest.mark.usefixtures("stocked")

WORDS = (*BASE[:1], *BASE[2:3], UNRECORDED, "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=0")


def sweep(shell: Shell, *words: str, app: str = "app.py") -> subprocess.CompletedProcess[str]:
    return shell.run(sys.executable, *app.split(), "-m", *WORDS, *words)


def trials(shell: Shell) -> list[Path]:
    return sorted(path for path in shell.folder.glob("multirun/*/*/*") if path.name.isdigit())


def output(shell: Shell) -> str:
    """What all trials printed, for a test that has failed."""
    return "\n".join(path.read_text() for path in shell.folder.glob("multirun/*/*/*/output.log"))


CHDIR = """
import os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd, to_absolute_path

@hydra.main({version}config_path=None)
def main(cfg):
    Path("mine.txt").write_text(str(cfg.x))
    Path(to_absolute_path("seen.txt")).open("a").write(f"{{Path.cwd()}}\\t{{get_original_cwd()}}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("version_base='1.3', ", ("hydra.job.chdir=true",)),
        ("", ()),
        ("version_base='1.1', ", ("hydra.sweeper.isolation=none",)),
    ],
)
def test_each_trial_works_in_its_own_folder_and_knows_the_original_one(
    shell: Shell, version: str, words: tuple[str, ...]
) -> None:
    shell.write("app.py", CHDIR.format(version=version))
    done = sweep(shell, "+x=interval(0,1)", *words)
    assert done.returncode == 0, done.stderr + output(shell)
    seen = [line.split("\t") for line in (shell.folder / "seen.txt").read_text().splitlines()]
    assert sorted(cwd for cwd, _ in seen) == list(map(str, trials(shell)))
    assert {original for _, original in seen} == {str(shell.folder)}
    assert len({(folder / "mine.txt").read_text() for folder in trials(shell)}) == 2
    assert not list(shell.folder.glob("**/workers/*/mine.txt"))


CALLBACKS = """
import logging, os, pickle
from pathlib import Path
from hydra.experimental.callback import Callback

class Told(Callback):
    def __init__(self, base):
        self.base = Path(base)
        self.before = []

    def _say(self, *words):
        with (self.base / "told.txt").open("a") as file:
            print(*words, sep="|", file=file)

    def on_multirun_start(self, config, **kwargs):
        self.before.append("multirun")
        self._say("multirun start")

    def on_multirun_end(self, config, **kwargs):
        self._say("multirun end")

    def on_job_start(self, config, *, task_function, **kwargs):
        self._say("start", task_function.__name__, self.before, config.hydra.output_subdir)

    def on_job_end(self, config, job_return, **kwargs):
        value = job_return._return_value
        self._say("end", job_return.status.name, type(value).__name__, value,
                  config.hydra.runtime.output_dir, job_return.hydra_cfg.hydra.output_subdir)
"""
CALLED = """
import hydra, besom
from pathlib import Path

def prepared(cfg):
    return [], ""

@hydra.main(version_base="1.3", config_path=".", config_name="conf")
@besom.prepare("callbacks.prepared")
def main(cfg):
    if cfg.x == 2:
        raise ValueError("two")
    if cfg.x == 3:
        raise besom.TrialPruned("enough")
    return float(cfg.x)

if __name__ == "__main__":
    main()
"""
CONF = """
x: 0
hydra:
  callbacks:
    told: {_target_: callbacks.Told, base: "${hydra.runtime.cwd}"}
    kept: {_target_: hydra.experimental.callbacks.PickleJobInfoCallback}
"""


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_hydras_callbacks_are_told_of_each_trial_once_and_of_nothing_else(shell: Shell, isolation: str) -> None:
    shell.write("callbacks.py", CALLBACKS + "\n\ndef prepared(cfg):\n    return [], ''\n")
    shell.write("app.py", CALLED)
    shell.write("conf.yaml", CONF)
    words = ("hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=3", f"hydra.sweeper.isolation={isolation}")
    done = sweep(shell, "x=1,2,3", *words, "hydra.sweeper.max_failure_rate=null")
    assert done.returncode == 0, done.stderr + output(shell)
    told = [line.split("|") for line in (shell.folder / "told.txt").read_text().splitlines()]
    assert told[0] == ["multirun start"]
    assert told[-1] == ["multirun end"]
    starts = [line[1:] for line in told if line[0] == "start"]
    assert starts == [["main", "['multirun']", ".hydra"]] * 3
    ends = sorted(line[1:] for line in told if line[0] == "end")
    assert [line[:3] for line in ends] == [
        ["COMPLETED", "float", "1.0"],
        ["FAILED", "TrialPruned", "enough"],
        ["FAILED", "ValueError", "two"],
    ]
    assert sorted(line[3] for line in ends) == list(map(str, trials(shell)))
    for folder in trials(shell):
        assert (folder / ".hydra" / "job_return.pickle").exists()
        assert (folder / ".hydra" / "config.yaml").exists()


INTERPOLATED = """
import os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    job = HydraConfig.get().job
    Path("seen.txt").open("a").write(f"{job.name} {os.environ['GIVEN']} {cfg.out}\\n")
    return cfg.x

if __name__ == "__main__":
    main()
"""


def test_interpolations_in_hydras_own_overrides_are_each_trials_and_secrets_are_not_written(shell: Shell) -> None:
    shell.write("app.py", INTERPOLATED)
    words = (
        "hydra.job.name=run_${x}",
        "hydra.sweeper.study_name=s",
        "+hydra.job.env_set.GIVEN=${oc.env:WHISPERED}",
        "+out=${hydra:runtime.output_dir}",
        "hydra.run.dir=somewhere/${x}",
    )
    done = shell.run(sys.executable, "app.py", "-m", *WORDS, "+x=1,2", "hydra/sweeper/sampler=grid", *words,
                     WHISPERED="h4rmless")  # fmt: skip
    assert done.returncode == 0, done.stderr + output(shell)
    seen = sorted((shell.folder / "seen.txt").read_text().splitlines())
    assert [line.split()[:2] for line in seen] == [[f"run_{x}", "h4rmless"] for x in (1, 2)]
    assert sorted(line.split()[2] for line in seen) == list(map(str, trials(shell)))
    for folder in trials(shell):
        kept = yaml.safe_load((folder / ".hydra" / "hydra.yaml").read_text())["hydra"]
        assert kept["job"]["env_set"]["GIVEN"] == "${oc.env:WHISPERED}"
    for path in shell.folder.rglob("*.yaml"):
        assert "h4rmless" not in path.read_text(), path
