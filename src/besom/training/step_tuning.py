"""How a training step is computed: precision, memory layout, kernels; chosen by timing them on the device."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from besom.config.schema import MatmulPrecision, MemoryFormat, Precision, Trainer
from besom.data import Batch, ImageData
from besom.model import Classifier

log = logging.getLogger(__name__)

STEPS = 4  # of each candidate, of which the fastest counts: others are this machine's noise
HOPELESS = 1.4  # times as slow as the fastest so far: not looked at any longer
BATCHES = 3  # that they train on, in turn
# of the loss, relative: of the first step, from the same weights, and of all; a training that is near its limit doubles
# the difference with every step, in any precision
FIRST, ALL = 0.01, 0.1
LONG_S = 300.0  # of a trial's steps: in shorter ones a compiler, which takes tens of seconds, is not tried
COMPILED = 4  # in a trial: batches and their rest, in training and in validation, of which a probe compiles the first
GAIN = 0.97  # of the plain step's time; what gains less than 3 % is not worth another rounding


@dataclass(frozen=True)
class StepConfig:
    """By the names that `trainer` has for them."""

    precision: Precision = "32-true"
    memory_format: MemoryFormat = "contiguous"
    fused: bool | None = None  # None: as torch decides
    float32_matmul_precision: MatmulPrecision = "highest"
    compile: bool = False

    @classmethod
    def asked(cls, trainer: Trainer) -> StepConfig:
        """What is `auto` is plain."""
        return cls(
            precision=_precision(trainer) or "32-true",
            memory_format="contiguous" if trainer.memory_format == "auto" else trainer.memory_format,
            fused=None if trainer.fused == "auto" else trainer.fused,
            float32_matmul_precision=_matmul(trainer) or "highest",
            compile=trainer.compile is True,
        )

    def overrides(self) -> list[str]:
        fused = "auto" if self.fused is None else str(self.fused).lower()
        return [
            f"trainer.precision={self.precision}",
            f"trainer.memory_format={self.memory_format}",
            f"trainer.fused={fused}",
            f"trainer.float32_matmul_precision={self.float32_matmul_precision}",
            f"trainer.compile={str(self.compile).lower()}",
            "trainer.tune_step=null",
        ]

    def prepare(self, network: nn.Module) -> None:
        """Lay it out in memory; compile it at its first step."""
        if self.memory_format == "channels_last":
            network.to(memory_format=torch.channels_last)
        if self.compile:
            network.compile(mode="reduce-overhead")

    def __str__(self) -> str:
        matmul = "" if self.float32_matmul_precision == "highest" else f"{self.float32_matmul_precision} matmul"
        kernels = ("fused" if self.fused else "", "compiled" if self.compile else "")
        return ", ".join(filter(None, (self.precision, matmul, self.memory_format, *kernels)))


@dataclass(frozen=True)
class Tuned:
    numerics: StepConfig
    said: str


def tune_step(trainer: Trainer, module: Classifier, data: ImageData) -> Tuned:
    """The fastest of what `trainer` leaves open, on its device, whose losses agree with plain fp32's.

    Each candidate trains a copy of the network on the same batches; `module` stays as it is.
    """
    device = _device(trainer.accelerator)
    batches = list(itertools.islice(data.train_dataloader(), BATCHES))

    def candidate(numerics: StepConfig) -> _Candidate:
        return _Candidate(numerics, module, data, batches, device)

    plain, *others = map(candidate, _candidates(trainer, device))
    best = _fastest(plain, others)
    if trainer.fused == "auto":
        best = _fastest(best, [candidate(replace(best.numerics, fused=True))])
    steps = trainer.max_epochs * len(data.train_dataloader())
    if trainer.compile == "auto" and steps * best.seconds > LONG_S:
        best = _compiled_if_it_pays(best, candidate, steps)
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


def _compiled_if_it_pays(best: _Candidate, candidate: Callable[[StepConfig], _Candidate], steps: int) -> _Candidate:
    """In a trial of so many steps; it loses where torch has no compiler for this device, too."""
    compiled = candidate(replace(best.numerics, compile=True))
    try:
        fastest = _fastest(best, [compiled])
    except Exception as error:  # whatever the compiler raises
        log.info("the network is not compiled: %s", error)
        return best
    return fastest if steps * (best.seconds - compiled.seconds) > COMPILED * compiled.first_s else best


def _candidates(trainer: Trainer, device: torch.device) -> Iterator[StepConfig]:
    """The plain one first."""
    asked = _precision(trainer)
    precisions: list[Precision] = [asked] if asked else ["32-true", *_fast_precisions(device)]
    formats: list[MemoryFormat] = ["contiguous", "channels_last"]
    if trainer.memory_format != "auto":
        formats = [trainer.memory_format]
    plain = StepConfig.asked(trainer)
    for precision, layout in itertools.product(precisions, formats):
        yield replace(plain, precision=precision, memory_format=layout)
        if device.type == "cuda" and _matmul(trainer) is None and precision in ("32", "32-true"):
            yield replace(plain, precision=precision, memory_format=layout, float32_matmul_precision="high")


def _precision(trainer: Trainer) -> Precision | None:
    """None: it is to be found. Lightning takes 16, 32 and 64 as numbers too."""
    match trainer.precision:
        case "auto":
            return None
        case int(bits):
            return {16: "16", 32: "32", 64: "64"}[bits]  # type: ignore[return-value]
        case named:
            return named


def _matmul(trainer: Trainer) -> MatmulPrecision | None:
    return None if trainer.float32_matmul_precision == "auto" else trainer.float32_matmul_precision


def _fast_precisions(device: torch.device) -> Sequence[Precision]:
    """Those the device computes, and does not only imitate."""
    if device.type == "cuda":
        return ["bf16-mixed"] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return ["bf16-mixed"] if device.type == "cpu" and has_bf16_units() else []


def has_bf16_units() -> bool:
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
        self, numerics: StepConfig, module: Classifier, data: ImageData, batches: Sequence[Batch], device: torch.device
    ) -> None:
        self.numerics = numerics
        self.losses: list[float] = []
        self._seconds: list[float] = []
        self._device = device
        self._network = copy.deepcopy(module.network).to(device).train()
        numerics.prepare(self._network)
        self._loss = module.loss
        self._optimizer = module.make_optimizer(self._network.parameters(), numerics.fused)
        self._batches = [data.normalised(images.to(device), numerics.memory_format) for images, _ in batches]
        self._labels = [labels.to(device) for _, labels in batches]

    @property
    def seconds(self) -> float:
        """Of a step; the first one, which sets up, does not count."""
        return min(self._seconds[1:])

    @property
    def first_s(self) -> float:
        """All that the first step takes: of a compiled network, to compile it."""
        return self._seconds[0]

    def step(self) -> None:
        number = len(self._seconds)
        images, labels = (of[number % len(self._batches)] for of in (self._batches, self._labels))
        torch.manual_seed(number)  # of dropout, the same for all
        self._wait()
        began = time.perf_counter()
        with self._computing():
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

    @contextmanager
    def _computing(self) -> Iterator[None]:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.numerics.float32_matmul_precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def _casting(self) -> AbstractContextManager[Any]:
        if self.numerics.precision != "bf16-mixed":  # others are only there where they were asked for
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
