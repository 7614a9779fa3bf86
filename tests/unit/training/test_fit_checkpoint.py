"""A retried attempt goes on from the last checkpoint, and starts afresh where nothing can be gone on with from it."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from besom.config.load import load
from besom.tracking.run_log import RunLog, read
from besom.training import fit

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice, to whoever trains


@pytest.fixture
def attempt(compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Train to so many epochs, as an attempt at a trial; the epochs that it has trained."""
    monkeypatch.setattr(fit, "in_sweep", lambda: True)

    def attempt(epochs: int) -> list[int]:
        settings = load(compose("trainer.accelerator=cpu", f"trainer.max_epochs={epochs}", "trainer.tune_step=null"))
        log = RunLog(tmp_path / "run.jsonl")
        log.attempt()
        fit.fit(settings, log, tmp_path, lambda: None)
        trained: list[int] = []
        for entry, _ in read(log.path):
            if entry["kind"] == "attempt":
                trained = []
            elif entry["kind"] == "metrics" and "train/loss" in entry["values"]:
                trained.append(entry["step"])
        return trained

    return attempt


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one attempt has left what it had to say: training is slow."""
    return tmp_path_factory.mktemp("first")


@pytest.fixture
def begun(attempt: Callable[[int], list[int]], first: Path, tmp_path: Path) -> None:
    """One attempt has ended in the folder."""
    if not _last(first).exists():
        attempt(1)
        shutil.copytree(tmp_path, first, dirs_exist_ok=True)
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)


def _last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def _said(folder: Path) -> str:
    tags = [entry["values"] for entry, _ in read(folder / "run.jsonl") if entry["kind"] == "tags"]
    return next((values["besom.checkpoint"] for values in tags if "besom.checkpoint" in values), "")


def _without(*keys: str) -> Callable[[Path, dict[str, Any]], object]:
    def damage(path: Path, content: dict[str, Any]) -> None:
        torch.save({key: value for key, value in content.items() if key not in keys}, path)

    return damage


def _with(**changes: Any) -> Callable[[Path, dict[str, Any]], object]:
    return lambda path, content: torch.save({**content, **changes}, path)


def _weights(change: Callable[[str, Any], tuple[str, Any]]) -> Callable[[Path, dict[str, Any]], object]:
    def damage(path: Path, content: dict[str, Any]) -> None:
        weights = dict(change(*pair) for pair in content["state_dict"].items())
        torch.save({**content, "state_dict": weights}, path)

    return damage


def _zip_of(name: str, content: bytes) -> Callable[[Path, dict[str, Any]], object]:
    def damage(path: Path, _: dict[str, Any]) -> None:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, content)

    return damage


DAMAGES: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "a zip of something else": _zip_of("notes.txt", b"dear diary"),
    "pickle garbage": _zip_of("archive/data.pkl", b"\x80\x02garbage"),
    "another object": _zip_of("archive/data.pkl", pickle.dumps(["a list"], 2)),
    "nothing in it": lambda path, content: torch.save({}, path),
    "a list": lambda path, content: torch.save([1, 2], path),
    "no weights": _without("state_dict"),
    "no loops": _without("loops"),
    "no optimizers": _without("optimizer_states"),
    "no version": _without("pytorch-lightning_version"),
    "no callbacks": _without("callbacks"),
    "other shapes": _weights(lambda name, weight: (name, torch.zeros(3))),
    "another network": _weights(lambda name, weight: (f"other.{name}", weight)),
    "weights that are words": _weights(lambda name, weight: (name, "w")),
    "optimizers of another": _with(optimizer_states=[{"state": {}, "param_groups": []}]),
    "loops of another": _with(loops={"fit_loop": "done"}),
}


@pytest.mark.usefixtures("begun")
def test_it_goes_on_from_a_whole_one(attempt, tmp_path):
    assert len(attempt(3)) == 2
    assert _said(tmp_path) == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("begun")
def test_it_starts_afresh_where_the_checkpoint_cannot_be_used(attempt, tmp_path, capsys, damage):
    path = _last(tmp_path)
    DAMAGES[damage](path, torch.load(path, weights_only=False))

    trained = attempt(2)

    assert len(trained) == 2
    assert f"{path} " in _said(tmp_path)
    assert "starts afresh" in capsys.readouterr().out


@pytest.mark.usefixtures("begun")
def test_a_failure_that_is_not_the_checkpoints_is_told_as_what_it_is(attempt, tmp_path, monkeypatch):
    whole = _last(tmp_path).read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: the device is gone")

    monkeypatch.setattr("besom.model.Classifier.configure_optimizers", fail)
    with pytest.raises(RuntimeError, match="the device is gone"):
        attempt(2)

    assert _last(tmp_path).read_bytes() == whole  # for the attempt after this one
