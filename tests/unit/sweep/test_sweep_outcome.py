from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from besom import secrecy
from besom.sweep.outcome import as_outcome


def test_an_exception_that_repeats_a_secret_is_told_without_it(monkeypatch, capsys):
    monkeypatch.setattr(secrecy, "_known", set())
    secrecy.know("hunter2")

    def task(config: DictConfig) -> float:
        raise ConnectionError("the server refuses me:hunter2")

    outcome = as_outcome(task, OmegaConf.create({}))

    assert outcome.reason == "ConnectionError: the server refuses me:***"
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("code", ["no such corpus: hunter2", 3])
def test_an_exit_with_words_is_told_with_them(code, monkeypatch):
    monkeypatch.setattr(secrecy, "_known", {"hunter2"})

    def task(config: DictConfig) -> float:
        raise SystemExit(code)

    outcome = as_outcome(task, OmegaConf.create({}))

    assert outcome.reason == f"SystemExit: {str(code).replace('hunter2', '***')}"
    assert outcome.kind == "exception"
