"""What a trial's exception says is told, whatever it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from besom.config import redaction
from besom.engine.outcome import Outcome, as_outcome, tail
from besom.system.storable import MAX_TEXT


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    return OmegaConf.create({"hydra": {"run": {"dir": str(tmp_path)}}})


def _of(error: BaseException, config: DictConfig) -> Outcome:
    def task(_: object) -> None:
        raise error

    return as_outcome(task, config)


@pytest.mark.parametrize(
    ("text", "told"), [("caf\udce9", "caf\\udce9"), ("a\0b", "a\\x00b"), ("\ud83d\udca5", "\\ud83d\\udca5")]
)
def test_a_reason_is_text_that_a_database_takes(config, text, told):
    assert _of(ValueError(text), config).reason == f"ValueError: {told}"
    assert _of(SystemExit(text), config).reason == f"SystemExit: {told}"


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_long_reason_is_cut_and_stands_whole_in_the_trials_folder(config, tmp_path, kind):
    text = "ü" * 20_000_000

    reason = _of(kind(text), config).reason

    assert len(reason) <= MAX_TEXT
    assert reason.startswith(f"{kind.__name__}: üüü")
    assert f"the whole is in {tmp_path}/exception.txt" in reason
    assert (tmp_path / "exception.txt").read_text(encoding="utf-8") == f"{kind.__name__}: {text}"


def test_the_last_lines_of_an_output_are_read_without_the_rest(tmp_path):
    output = tmp_path / "output.log"
    output.write_bytes(b"x" * 5_000_000 + b"\nlast \xff\0\n")

    assert tail(output).endswith("\nlast \\xff\\x00")
    assert len(tail(output)) <= MAX_TEXT


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_trials_fault(config, number):
    outcome = _of(OSError(number, os.strerror(number), "/data/x"), config)

    assert (outcome.state, outcome.kind) == ("interrupted", "disk full")
    assert "/data/x" in outcome.reason


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_exception_that_repeats_a_secret_is_told_without_it(monkeypatch, capsys):
    monkeypatch.setattr(redaction, "_known", set())
    redaction.know("hunter2")

    def task(config: DictConfig) -> float:
        raise ConnectionError("the server refuses me:hunter2")

    outcome = as_outcome(task, OmegaConf.create({}))

    assert outcome.reason == "ConnectionError: the server refuses me:***"
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("code", ["no such corpus: hunter2", 3])
def test_an_exit_with_words_is_told_with_them(code, monkeypatch):
    monkeypatch.setattr(redaction, "_known", {"hunter2"})

    def task(config: DictConfig) -> float:
        raise SystemExit(code)

    outcome = as_outcome(task, OmegaConf.create({}))

    assert outcome.reason == f"SystemExit: {str(code).replace('hunter2', '***')}"
    assert outcome.kind == "exception"
