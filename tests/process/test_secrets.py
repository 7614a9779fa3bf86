"""No secret is written anywhere: canaries are planted, and every byte that was written or said is searched for them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from doors import BESOM, Shell

APP = """
import sys
import besom, hydra
from omegaconf import OmegaConf

@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    assert cfg.db.password == "canary-password" and cfg.outside == "canary-outside" and cfg.by_way == "canary-outside"
    besom.report(cfg.x, 0)
    if cfg.x > 0.5:
        raise ConnectionError("no answer from " + cfg.db.url)
    return cfg.x

if __name__ == "__main__":
    main()
"""
MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, api_key):
        assert api_key == "canary-key"
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""
PLANTED = (
    "+db.password=canary-password",
    "+db.url='postgresql://me:canary-url@host/db'",
    "+more={user: me, api_token: canary-token}",
    "+outside='${oc.env:OUTSIDE}'",
    "+by_way='${outside}'",
)


def written(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("app.py", "net.py"):
            yield path, path.read_bytes()


def assert_no_canary(shell: Shell, said: str) -> None:
    assert "canary" not in said
    assert [path for path, content in written(shell.folder) if b"canary" in content] == []


def assert_nobody_else_may_read(folder: Path) -> None:
    """Only the owner gets into the folder, or at the files in it that may hold config."""
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("run.jsonl", "config.yaml", "overrides.yaml", "hydra.yaml", "output.log"):
        assert [path for path in folder.rglob(name) if path.stat().st_mode & 0o077] == []


@contextmanager
def watched_command_lines(of: Path) -> Iterator[set[str]]:
    """Of all processes that work in a folder, but for the one that a user has typed (and its forks)."""
    seen: set[str] = set()
    typed: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    if process.cwd() == str(of):
                        (typed if process.ppid() == os.getpid() else seen).add(" ".join(process.cmdline()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()
        seen -= typed


@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_a_sweep_writes_no_secret(shell: Shell, launcher: str) -> None:
    shell.write("app.py", APP)
    words = ("-m", "hydra/sweeper=besom", f"hydra/launcher={launcher}", "+x=0.2,0.8", "hydra/sweeper/sampler=grid")
    with watched_command_lines(shell.folder) as lines:
        done = shell.run(sys.executable, "app.py", *words, *PLANTED, OUTSIDE="canary-outside")
    assert done.returncode == 0, done.stderr
    assert "1 complete, 0 pruned, 1 failed" in done.stdout
    assert_no_canary(shell, done.stdout + done.stderr + "\n".join(lines))
    (folder,) = (path.parent for path in shell.folder.glob("multirun/*/*/workers"))
    assert_nobody_else_may_read(folder)


def test_a_run_writes_no_secret(shell: Shell) -> None:
    shell.write("net.py", MODEL)
    own = ("model._target_=net.Net", "+model.api_key=canary-key", "+tracking.tags={hf_token: canary-tag}")
    few = ("trainer.max_epochs=1", "trainer.accelerator=cpu")
    done = shell.besom("train", "~model", "+model={_target_: net.Net, api_key: canary-key}", *own[2:], *few)
    assert done.returncode == 0, done.stderr
    assert_no_canary(shell, done.stdout + done.stderr)
    (folder,) = shell.folder.glob("outputs/*/*")
    assert_nobody_else_may_read(folder)
    assert (folder / ".hydra" / "overrides.yaml").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        ("tracking.uri=postgresql://me:canary@127.0.0.1:1/runs",),
        ("tracking.uri=mongodb://me:canary@host/runs",),
        ("+model.api_key=canary",),
        ("loss.password=canary",),
        ("optimizer.token={",),
    ],
)
def test_an_error_says_no_secret(shell: Shell, wrong: tuple[str, ...]) -> None:
    done = shell.besom("train", *wrong)
    assert done.returncode == 2, done.stderr
    assert_no_canary(shell, done.stdout + done.stderr)


def test_the_commands_about_a_study_say_no_password(shell: Shell) -> None:
    url = "postgresql://me:canary@127.0.0.1:1/runs"
    for words in (("doctor", "--storage", url), ("worker", "digits", "--storage", url)):
        done = shell.run(BESOM, *words)
        assert done.returncode == 2, done.stderr
        assert_no_canary(shell, done.stdout + done.stderr)
