"""Whatever a trial does, its worker survives it, its end is told as what it was, and nothing of it reaches the next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from doors import Shell
from optuna.trial import FrozenTrial

from sweeps import UNRECORDED, study

pytestmark = pytest.mark.usefixtures("stocked")

APP = """
import asyncio, os, shutil, sys
from pathlib import Path
import besom
import hydra
from hydra.core.hydra_config import HydraConfig

class Odd(Exception):
    def __str__(self):
        raise ValueError

class Mute:
    def __repr__(self):
        raise ValueError

def delete(folder):
    shutil.rmtree(folder)
    return 1.0

def replace_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("mine")
    return 1.0

def fail(error):
    raise error

ENDS = {
    "exit_words": lambda folder: sys.exit("no such corpus"),
    "exit_0": lambda folder: sys.exit(0),
    "exit_3": lambda folder: sys.exit(3),
    "huge": lambda folder: 10**400,
    "huge_to_print": lambda folder: [10**5000],
    "ctrl-c": lambda folder: fail(KeyboardInterrupt()),
    "cancelled": lambda folder: fail(asyncio.CancelledError("by the loop")),
    "odd_error": lambda folder: fail(Odd()),
    "mute": lambda folder: Mute(),
    "nothing": lambda folder: None,
    "bytes": lambda folder: bytearray(b"1"),
    "step": lambda folder: besom.report(1.0, 2**70),
    "flag": lambda folder: True,
    "delete": delete,
    "file": replace_by_a_file,
}

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    return ENDS[cfg.how](Path(HydraConfig.get().runtime.output_dir))

if __name__ == "__main__":
    main()
"""
HOW = [
    "exit_words", "exit_0", "exit_3", "huge", "huge_to_print", "ctrl-c", "cancelled", "odd_error", "mute", "nothing",
    "bytes", "step", "flag", "delete", "file",
]  # fmt: skip


def sweep(shell: Shell, how: list[str], *words: str, app: str = APP, **env: str) -> subprocess.CompletedProcess[str]:
    shell.write("app.py", app)
    ours = (
        *("hydra/sweeper=besom", "hydra/sweeper/sampler=grid", "hydra.sweeper.max_failure_rate=null"),
        *("hydra.sweeper.max_retries=1", "hydra.sweeper.n_trials=99", UNRECORDED),
    )
    return shell.run(sys.executable, "app.py", "-m", *ours, f"+how=choice({','.join(how)})", *words, **env)


def _by_how(shell: Shell) -> dict[str, FrozenTrial]:
    return {trial.params["+how"]: trial for trial in study(shell).trials}


ENDED = {
    "exit_words": ("exception", "SystemExit: no such corpus"),
    "exit_0": ("bad value", "called sys.exit(0)"),
    "exit_3": ("exception", "SystemExit: 3"),
    "huge": ("bad value", "returned 1000"),
    "huge_to_print": ("bad value", "returned a list"),
    "ctrl-c": ("exception", "KeyboardInterrupt"),
    "cancelled": ("exception", "CancelledError: by the loop"),
    "odd_error": ("exception", "Odd: (its text cannot be had"),
    "mute": ("bad value", "returned a Mute"),
    "nothing": ("bad value", "returned None"),
    "bytes": ("bad value", "returned bytearray"),
    "step": ("exception", "a step is a whole number from 0 to 2147483647"),
}


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_each_end_of_a_trial_is_told_as_what_it_was(shell: Shell, isolation: str) -> None:
    done = sweep(shell, HOW[:-1], f"hydra.sweeper.isolation={isolation}")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = _by_how(shell)
    for how, (kind, reason) in ENDED.items():
        assert trials[how].state.name == "FAIL", how
        assert trials[how].user_attrs["besom.kind"] == kind, how
        assert reason in trials[how].user_attrs["besom.reason"], how
        assert trials[how].user_attrs["besom.ends"] == [kind], how  # and was not tried again
    assert (trials["flag"].value, trials["delete"].value) == (1.0, 1.0)


def test_a_trial_whose_folder_cannot_be_written_is_not_tried_for_ever(shell: Shell) -> None:
    done = sweep(shell, ["file", "flag"], "hydra.sweeper.n_jobs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    trials = _by_how(shell)
    assert trials["file"].value == 1.0  # it came back with its value, which is what counts
    assert trials["flag"].value == 1.0


ENVIRONMENT = """
import json, os
from pathlib import Path
import besom, hydra
from hydra.core.hydra_config import HydraConfig
import draws

@hydra.main(version_base="1.3", config_path=None)
@besom.preload("draws")
def main(cfg):
    import numpy
    here = Path(HydraConfig.get().runtime.output_dir)
    (here / "environment.json").write_text(json.dumps(dict(os.environ)))
    drawn = [numpy.random.rand(), draws.own.random(), draws.old.rand(), draws.seeded.random()]
    (here / "drawn.json").write_text(json.dumps(drawn))
    return 1.0

if __name__ == "__main__":
    main()
"""
DRAWS = """
import numpy
own = numpy.random.default_rng()
old = numpy.random.RandomState()
seeded = numpy.random.default_rng(7)
"""


def test_trials_draw_their_own_numbers_in_their_users_environment(shell: Shell) -> None:
    shell.write("draws.py", DRAWS)
    words = ("hydra.sweeper.tracking_uri=sqlite:///mlflow.db", "hydra.sweeper.n_jobs=1")
    users = {"OMP_NUM_THREADS": "1", "MLFLOW_RUN_TAG": "mine"}
    done = sweep(shell, ["a", "b"], *words, app=ENVIRONMENT, **users)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted(shell.folder.glob("multirun/*/*/[01]"))
    first, second = (json.loads((folder / "drawn.json").read_text()) for folder in folders)
    assert [one == other for one, other in zip(first, second, strict=True)] == [False, False, False, True]

    environment = json.loads((folders[0] / "environment.json").read_text())
    assert environment["OMP_NUM_THREADS"] == "1"
    known = {**shell.env, **users}
    ours = {name for name, value in environment.items() if known.get(name) != value}
    assert ours <= {"BESOM_STUDY", "BESOM_TRIAL", "LC_CTYPE", "KMP_INIT_AT_FORK"}, ours  # the last is a library's
    assert not {name for name in known if name not in environment} - {"_"}
    assert Path(folders[0]).exists()
