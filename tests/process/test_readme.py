"""The README is executed: every command in it works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from doors import Shell
from pictures import paint
from warped_digits import write

from sweeps import UNRECORDED

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line]
SWEEP_LESS = ["hydra.sweeper.n_trials=2", "trainer.max_epochs=1"]
MYMODULE = """
import pytorch_lightning as pl
import torch
from torch import nn

class MyNet(nn.Sequential):
    def __init__(self, input_shape, num_classes, size):
        first = nn.LazyLinear(size)
        super().__init__(nn.Flatten(), first, nn.ReLU(), nn.Linear(size, num_classes))
        self(torch.zeros(1, *input_shape))

class MyModule(pl.LightningModule):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def validation_step(self, batch, index):
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
"""
TRAIN_LESS = ["trainer.max_epochs=1", "model.width=8"]


def test_it_opens_with_the_two_commands_of_a_newcomer() -> None:
    assert COMMANDS[:2] == [["make", "sweep"], ["make", "test"]]
    targets = (ROOT / "Makefile").read_text()
    assert "\nsweep: " in targets
    assert "\ntest: " in targets


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[:2] == ["besom", "train"]], ids=shlex.join)
def test_a_training_command_works(shell: Shell, words: list[str]) -> None:
    write(shell.folder / "data", train=300, test=50)
    paint(shell.folder / "pictures", 80, side=9)
    shell.write("mymodule.py", MYMODULE)
    less = [] if "--cfg" in words else TRAIN_LESS
    if any(word.startswith("model._target_=") for word in words):
        less = [word for word in less if not word.startswith("model.")]
    done = shell.besom(*words[1:], *less)
    assert done.returncode == 0, done.stderr


def test_the_sweep_commands_work_one_after_the_other(shell: Shell) -> None:
    digits = (ROOT / "sweeps/digits.yaml").read_text()
    shell.write("my/own/file.yaml", digits.replace("study_name: digits", "study_name: own"))
    commands = [words for words in COMMANDS if words[:2] == ["besom", "sweep"]]
    assert len(commands) >= 3
    for number, words in enumerate(commands):
        less = SWEEP_LESS if number == 0 else [*SWEEP_LESS, UNRECORDED]
        done = shell.besom(*words[1:], *less)
        assert done.returncode == 0, done.stderr


def test_every_verb_of_the_readme_is_in_the_help(shell: Shell) -> None:
    help_text = shell.besom("--help").stdout
    for words in COMMANDS:
        if words[0] == "besom":
            assert f"besom {words[1]}" in help_text
