"""What is left open is timed, and the fastest that agrees with plain fp32 is taken."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config

from besom.config.schema import Trainer
from besom.data import ImageData, Images, Splits
from besom.model import CNN, Classifier
from besom.training import step_tuning
from besom.training.step_tuning import StepConfig, tune_step

PLAIN = StepConfig()


@pytest.fixture
def data() -> ImageData:
    pixels = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = Images("noise", "a test", pixels, torch.arange(64) % 4, list("abcd"))
    return ImageData(whole, Splits.of(whole, 0.25, 0.25, seed=0), batch_size=8, seed=0)


@pytest.fixture
def module(data: ImageData) -> Classifier:
    torch.manual_seed(0)
    network = CNN(
        data.input_shape, 4, depth=2, width=8, kernel_size=3, activation="relu", norm="batch", pool="max", hidden=[8],
        dropout=0.1,
    )  # fmt: skip

    def adam(parameters: Any, fused: bool | None) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, fused=fused)

    return Classifier(network, torch.nn.CrossEntropyLoss(), adam, lambda *_: {}, num_classes=4)


def trainer(**asked: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 1, "accelerator": "cpu", "devices": "auto", "strategy": "auto", "precision": "auto",
        "memory_format": "auto", "fused": "auto", "float32_matmul_precision": "auto", "compile": "auto",
        "tune_step": "auto", "num_threads": None, "deterministic": False, "gradient_clip_val": None,
        "accumulate_grad_batches": 1, "early_stopping": None,
    }  # fmt: skip
    return Trainer.model_validate({**settings, **asked})


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[StepConfig, float]:
    """Seconds a step, as if measured; 1.0 for what is not named."""
    seconds: dict[StepConfig, float] = {}
    monkeypatch.setattr(
        step_tuning._Candidate, "seconds", property(lambda candidate: seconds.get(candidate.numerics, 1.0))
    )
    monkeypatch.setattr(step_tuning, "_cpu_flags", lambda: ["avx2", "avx512_bf16"])
    return seconds


BF16 = StepConfig("bf16-mixed", "channels_last", None)


def test_the_fastest_is_taken(timed, module, data):
    timed[BF16] = 0.5

    found = tune_step(trainer(), module, data)

    assert found.numerics == BF16
    assert found.said == (
        "bf16-mixed, channels_last: 500.0 ms a step on cpu, 2.0 times as fast as 32-true, contiguous (1000.0 ms)"
    )


def test_a_small_gain_is_not_worth_another_rounding(timed, module, data):
    timed[BF16] = 0.98

    assert tune_step(trainer(), module, data).numerics == PLAIN


@pytest.mark.parametrize(("error", "taken"), [(0.005, BF16), (0.02, PLAIN), (-0.02, PLAIN)])
def test_what_does_not_agree_with_fp32_is_not_taken(timed, module, data, monkeypatch, error, taken):
    timed[BF16] = 0.5
    step = step_tuning._Candidate.step

    def wrong(candidate):
        step(candidate)
        if candidate.numerics.precision == "bf16-mixed":
            candidate.losses[-1] *= 1 + error

    monkeypatch.setattr(step_tuning._Candidate, "step", wrong)

    assert tune_step(trainer(), module, data).numerics == taken


def test_a_loss_that_is_no_number_does_not_agree(timed, module, data, monkeypatch):
    timed[BF16] = 0.5
    step = step_tuning._Candidate.step

    def overflown(candidate):
        step(candidate)
        if candidate.numerics.precision == "bf16-mixed":
            candidate.losses[-1] = float("nan")

    monkeypatch.setattr(step_tuning._Candidate, "step", overflown)

    assert tune_step(trainer(), module, data).numerics == PLAIN


def test_a_cpu_without_bf16_units_computes_fp32(timed, module, data, monkeypatch):
    monkeypatch.setattr(step_tuning, "_cpu_flags", lambda: ["avx2", "avx512f"])
    timed[BF16] = 0.1

    assert tune_step(trainer(), module, data).numerics.precision == "32-true"


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ({"precision": "32-true"}, StepConfig("32-true", "channels_last", True)),
        ({"memory_format": "contiguous"}, StepConfig("bf16-mixed", "contiguous", True)),
        ({"fused": False}, StepConfig("bf16-mixed", "channels_last", False)),
        ({"precision": 32}, StepConfig("32", "channels_last", True)),
        (
            {"precision": "64-true", "memory_format": "contiguous", "fused": True},
            StepConfig("64-true", "contiguous", True),
        ),
    ],
)
def test_what_was_asked_for_stays(timed, module, data, asked, taken):
    timed[replace(taken, fused=asked.get("fused"))] = 0.2
    timed[taken] = 0.1

    assert tune_step(trainer(**asked), module, data).numerics == taken


LONG = {"max_epochs": 1000}
COMPILED = replace(PLAIN, compile=True)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one; nothing of what it made earlier."""
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("asked", "seconds", "taken"),
    [
        (LONG, 0.5, COMPILED),
        (LONG, 0.98, PLAIN),  # too small a gain
        (LONG, 0.9, COMPILED),
        ({"max_epochs": 1}, 0.5, PLAIN),  # too short a trial
        (LONG | {"compile": False}, 0.5, PLAIN),
    ],
)
def test_a_network_is_compiled_where_that_pays_back_in_a_trial(timed, compiler, module, data, asked, seconds, taken):
    timed[COMPILED] = seconds

    assert tune_step(trainer(**asked), module, data).numerics == taken


def test_a_compiler_that_fails_is_done_without(timed, compiler, module, data):
    timed[COMPILED] = 0.5

    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert tune_step(trainer(**LONG), module, data).numerics == PLAIN


def test_a_compiled_network_has_the_names_of_a_plain_one(compiler, module):
    before = list(module.state_dict())

    COMPILED.prepare(module.network)
    module(torch.rand(8, 1, 8, 8)).sum().backward()

    assert list(module.state_dict()) == before


def test_the_network_stays_as_it_was(module, data):
    before = {name: value.clone() for name, value in module.network.state_dict().items()}

    tune_step(trainer(), module, data)

    assert all(value.equal(before[name]) for name, value in module.network.state_dict().items())
    assert module.network.features[0][0].weight.is_contiguous()


def test_what_was_found_is_what_trials_are_told(module, data):
    found = tune_step(trainer(), module, data).numerics

    told = dict(line.removeprefix("trainer.").split("=") for line in found.overrides())
    assert told.pop("tune_step") == "null"
    values = {"true": True, "false": False}
    again = trainer(**{key: values.get(value, value) for key, value in told.items()}, tune_step=None)
    assert StepConfig.asked(again) == found


def test_what_is_left_open_and_not_tuned_is_plain():
    assert StepConfig.asked(trainer(tune_step=None)) == PLAIN
