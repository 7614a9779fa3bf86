"""How a training step is computed: its precision, memory layout and optimizer kernel; chosen by timing them here."""

from __future__ import annotations

import copy
import itertools
import math
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from besom.data import Batch, ImageData
from besom.model import Classifier
from besom.settings import MemoryFormat, Precision, Trainer

STEPS = 4  # of each candidate, of which the fastest counts: others are this machine's noise
HOPELESS = 1.4  # times as slow as the fastest so far: not looked at any longer
BATCHES = 3  # that they train on, in turn
# of the loss, relative: of the first step, from the same weights, and of all; a training that is near its limit doubles
# the difference with every step, in any precision
FIRST, ALL = 0.01, 0.1
GAIN = 0.97  # of the plain step's time; what gains less than 3 % is not worth another rounding


@dataclass(frozen=True)
class Numerics:
    """By the names that `trainer` has for them."""

    precision: Precision = "32-true"
    memory_format: MemoryFormat = "contiguous"
    fused: bool | None = None  # None: as torch decides

    @classmethod
    def asked(cls, trainer: Trainer) -> Numerics:
        """What is `auto` is plain."""
        return cls(
            precision=_precision(trainer) or "32-true",
            memory_format="contiguous" if trainer.memory_format == "auto" else trainer.memory_format,
            fused=None if trainer.fused == "auto" else trainer.fused,
        )

    def overrides(self) -> list[str]:
        fused = "auto" if self.fused is None else str(self.fused).lower()
        return [
            f"trainer.precision={self.precision}",
            f"trainer.memory_format={self.memory_format}",
            f"trainer.fused={fused}",
            "trainer.tune_step=null",
        ]

    def layout(self, module: nn.Module) -> None:
        if self.memory_format == "channels_last":
            module.to(memory_format=torch.channels_last)

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.precision, self.memory_format, "fused" if self.fused else "")))


@dataclass(frozen=True)
class Tuned:
    numerics: Numerics
    said: str


def tuned(trainer: Trainer, module: Classifier, data: ImageData) -> Tuned:
    """The fastest of what `trainer` leaves open, on its device, whose losses agree with plain fp32's.

    Each candidate trains a copy of the network on the same batches; `module` stays as it is.
    """
    device = _device(trainer.accelerator)
    batches = list(itertools.islice(data.train_dataloader(), BATCHES))

    def candidate(numerics: Numerics) -> _Candidate:
        return _Candidate(numerics, module, data, batches, device)

    plain, *others = map(candidate, _candidates(trainer, device))
    best = _fastest(plain, others)
    if trainer.fused == "auto":
        best = _fastest(best, [candidate(replace(best.numerics, fused=True))])
    gain = plain.seconds / best.seconds
    said = f"{best.numerics}: {best.seconds * 1e3:.1f} ms a step on {device.type}"
    if best is not plain:
        said += f", {gain:.1f} times as fast as {plain.numerics} ({plain.seconds * 1e3:.1f} ms)"
    return Tuned(best.numerics, said)


def _fastest(plain: _Candidate, others: Sequence[_Candidate]) -> _Candidate:
    """Of those whose losses agree with the plain one's; the plain one where the others gain too little."""
    racing = [plain, *others]
    for round_ in range(STEPS):  # one step of each in turn: what disturbs this machine disturbs all of them
        for each in racing:
            each.step()
        if round_:
            enough = HOPELESS * min(each.seconds for each in racing)
            racing = [each for each in racing if each is plain or each.seconds < enough]
    best = min((each for each in racing if each.agrees_with(plain)), key=lambda each: each.seconds, default=plain)
    return best if best.seconds < GAIN * plain.seconds else plain


def _candidates(trainer: Trainer, device: torch.device) -> Iterator[Numerics]:
    """The plain one first."""
    asked = _precision(trainer)
    precisions: list[Precision] = [asked] if asked else ["32-true", *_fast_precisions(device)]
    formats: list[MemoryFormat] = ["contiguous", "channels_last"]
    if trainer.memory_format != "auto":
        formats = [trainer.memory_format]
    fused = None if trainer.fused == "auto" else trainer.fused
    for precision, layout in itertools.product(precisions, formats):
        yield Numerics(precision, layout, fused)


def _precision(trainer: Trainer) -> Precision | None:
    """None: it is to be found. Lightning takes 16, 32 and 64 as numbers too."""
    match trainer.precision:
        case "auto":
            return None
        case int(bits):
            return {16: "16", 32: "32", 64: "64"}[bits]  # type: ignore[return-value]
        case named:
            return named


def _fast_precisions(device: torch.device) -> Sequence[Precision]:
    """Those the device computes, and does not only imitate."""
    if device.type == "cuda":
        return ["bf16-mixed"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return ["bf16-mixed"] if device.type == "cpu" and _has_bf16_units() else []


def _has_bf16_units() -> bool:
    """Whether the CPU says so; one without them imitates bf16, slowly."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_cpu_flags())


def _cpu_flags() -> Sequence[str]:
    """As Linux names them; elsewhere nothing is known."""
    return Path("/proc/cpuinfo").read_text().split() if platform.system() == "Linux" else ()


def _device(accelerator: str) -> torch.device:
    if accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "mps", "gpu") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


class _Candidate:
    """One way to compute a step, tried on a copy of the network."""

    def __init__(
        self, numerics: Numerics, module: Classifier, data: ImageData, batches: Sequence[Batch], device: torch.device
    ) -> None:
        self.numerics = numerics
        self.losses: list[float] = []
        self._seconds: list[float] = []
        self._device = device
        self._network = copy.deepcopy(module.network).to(device).train()
        numerics.layout(self._network)
        self._loss = module.loss
        self._optimizer = module.make_optimizer(self._network.parameters(), numerics.fused)
        self._batches = [data.normalised(images.to(device), numerics.memory_format) for images, _ in batches]
        self._labels = [labels.to(device) for _, labels in batches]

    @property
    def seconds(self) -> float:
        """Of a step; the first one, which sets up, does not count."""
        return min(self._seconds[1:])

    def step(self) -> None:
        number = len(self._seconds)
        images, labels = (of[number % len(self._batches)] for of in (self._batches, self._labels))
        torch.manual_seed(number)  # of dropout, the same for all
        self._wait()
        began = time.perf_counter()
        with self._casting():
            loss: Tensor = self._loss(self._network(images), labels)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._wait()
        self._seconds.append(time.perf_counter() - began)
        self.losses.append(loss.item())

    def agrees_with(self, plain: _Candidate) -> bool:
        first = math.isclose(self.losses[0], plain.losses[0], rel_tol=FIRST, abs_tol=1e-3)
        steps = min(len(self.losses), len(plain.losses))
        mine, its = fmean(self.losses[:steps]), fmean(plain.losses[:steps])
        return first and math.isclose(mine, its, rel_tol=ALL, abs_tol=1e-2)

    def _casting(self) -> AbstractContextManager[Any]:
        if self.numerics.precision != "bf16-mixed":  # others are only there where they were asked for
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
