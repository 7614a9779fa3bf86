"""Shell completion, asked of real shells: what a press of TAB offers."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest
from doors import BESOM, Shell

from besom.study.objective import Objective
from besom.study.study import Study

# what the shell does at TAB: the words so far, cut at COMP_WORDBREAKS too, and the function that it was told to ask
BASH = """
eval "$(besom completion bash)"
press() {
    COMP_LINE=$1 COMP_POINT=${#1}
    read -ra COMP_WORDS <<< "$1"
    _besom
    printf '%s|' "${COMPREPLY[@]}"
    echo
}
"""
OFFERED = {
    "besom com": ["completion "],
    "besom completion ": ["bash ", "fish ", "zsh "],
    "besom train optimizer=ad": ["adagrad ", "adam ", "adamw "],
    "besom train opt": ["optimizer.", "optimizer="],
    "besom train optimizer=sgd optimizer.ne": ["optimizer.nesterov="],
    "besom sweep mi": ["mine "],
    "besom sweep mine optimizer.we": ["optimizer.weight_decay="],
    "besom sweep mine dr": ["dry_run=true "],
    "besom sweep mine 'model.activation=choice(relu, gelu)' hydra/sweeper/sampler=t": ["tpe "],
    "besom sweep mine hydra.sweeper.n_t": ["hydra.sweeper.n_trials="],
    "besom doctor ear": ["earlier "],
    "besom train nothing.like.th": [""],
}


@pytest.fixture
def shell(shell: Shell) -> Shell:
    shell.env["PATH"] = f"{Path(BESOM).parent}{os.pathsep}{shell.env['PATH']}"
    shell.write("sweeps/mine.yaml", "# @package _global_\nseed: 1\n")
    storage = f"sqlite:///{shell.folder / 'optuna.db'}"
    Study.create(storage, "earlier", [Objective("loss", "minimize")], shell.folder, {})
    return shell


def test_bash_is_offered_verbs_sweeps_and_overrides(shell: Shell) -> None:
    lines = "\n".join(f'press "{line}"' for line in OFFERED)
    done = shell.run("bash", "-c", BASH + lines)
    assert done.stderr == ""
    offered = [line.split("|")[:-1] for line in done.stdout.splitlines()]
    assert dict(zip(OFFERED, offered, strict=True)) == OFFERED


def installed(name: str) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    return name


@pytest.mark.parametrize("words", [("bash", "--norc", "--noprofile", "-i"), ("zsh", "-f", "-i")])
def test_a_tab_completes_the_word_in_a_terminal(shell: Shell, words: tuple[str, ...]) -> None:
    name = installed(words[0])
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        words,
        cwd=shell.folder,
        env={**shell.env, "TERM": "dumb", "PS1": "", "INPUTRC": "/dev/null", "HISTFILE": "", "HOME": str(shell.folder)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    emacs = "" if name == "bash" else "bindkey -e; "
    os.write(ours, f'{emacs}eval "$(besom completion {name})"\n'.encode())
    # and then, with Ctrl-A, to the line's beginning: it is not run, but shown
    os.write(ours, b"besom train optimizer=adamw optimizer.weig\t0.1 model.activ\tgelu]'\x01echo '[\nexit\n")
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the shell has left
            break
    os.close(ours)
    asked.wait()
    assert "[besom train optimizer=adamw optimizer.weight_decay=0.1 model.activation=gelu]" in shown.decode()


def test_fish_is_offered_what_bash_is(shell: Shell) -> None:
    asked = 'besom completion fish | source; complete -C "besom train optimizer=ad"'
    done = shell.run(installed("fish"), "--no-config", "-c", asked)
    assert done.stdout.split() == ["optimizer=adagrad", "optimizer=adam", "optimizer=adamw"]
