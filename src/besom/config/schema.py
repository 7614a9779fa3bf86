"""What a config may say: one class a section, one line a key, with its type and its limits.

A section with a `_target_` that besom knows is checked key by key; any other `_target_` is the user's own class and
takes what it likes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import core_schema

from besom.config.directions import default_mode
from besom.errors import near

# torch.nn's activations by the names people use; a dotted path names any other class
ACTIVATIONS = {
    "celu": "CELU", "elu": "ELU", "gelu": "GELU", "hardshrink": "Hardshrink", "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish", "hardtanh": "Hardtanh", "identity": "Identity", "leaky_relu": "LeakyReLU",
    "logsigmoid": "LogSigmoid", "mish": "Mish", "prelu": "PReLU", "relu": "ReLU", "relu6": "ReLU6", "rrelu": "RReLU",
    "selu": "SELU", "sigmoid": "Sigmoid", "silu": "SiLU", "softplus": "Softplus", "softshrink": "Softshrink",
    "softsign": "Softsign", "swish": "SiLU", "tanh": "Tanh", "tanhshrink": "Tanhshrink",
}  # fmt: skip


# what besom's Classifier logs each epoch: the metrics that an objective of its can follow
LOGGED = frozenset({f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "acc", "f1")} | {"train/lr"})


def _activation(name: str) -> str:
    if name in ACTIVATIONS or "." in name:
        return name
    raise ValueError(f"no such activation{near(name, ACTIVATIONS)}")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _folder(path: str) -> str:
    if Path(path).is_dir():
        return path
    raise ValueError(
        f"no such folder (looked in {Path(path).absolute()}); make it, or name the one that holds the data"
    )


def _devices(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    if isinstance(value, list) and value and all(type(number) is int and number >= 0 for number in value):
        return value
    raise ValueError("must be auto, a count of at least 1, or a list of device numbers such as [0, 1]")


Positive = Annotated[float, Field(gt=0), AfterValidator(_finite)]
NonNegative = Annotated[float, Field(ge=0), AfterValidator(_finite)]
Fraction = Annotated[float, Field(ge=0, lt=1)]  # 0 included, 1 not: a momentum, a dropout, a share of the data
Count = Annotated[int, Field(ge=1)]
Betas = Annotated[list[Fraction], Field(min_length=2, max_length=2)]
Activation = Annotated[str, AfterValidator(_activation)]
Folder = Annotated[str, AfterValidator(_folder)]
Precision = Literal[
    "32-true", "16-mixed", "bf16-mixed", "64-true", "16-true", "bf16-true", "32", "16", "bf16", "64"
]  # fmt: skip
MemoryFormat = Literal["contiguous", "channels_last"]
MatmulPrecision = Literal["highest", "high", "medium"]
Size = Annotated[list[Count], Field(min_length=2, max_length=2)]  # height, width
Devices = Annotated[Any, AfterValidator(_devices)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Target(Section):
    """A section that names what to build; `arguments` are that class's own keywords."""

    target: str = Field(alias="_target_")

    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"target"})

    @property
    def name(self) -> str:
        return self.target.rpartition(".")[2]


class Custom(Target):
    """The user's own class, found from the working directory; its keywords are its own business."""

    model_config = ConfigDict(extra="allow")


# ── data ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Digits(Target):
    target: Literal["besom.data.digits"] = Field(alias="_target_")


class ImageFolder(Target):
    target: Literal["besom.data.image_folder"] = Field(alias="_target_")
    folder: Folder
    size: Size
    channels: Literal[1, 3]


class Fake(Target):
    target: Literal["besom.data.fake"] = Field(alias="_target_")
    n: Count
    size: Size
    channels: Count
    classes: Annotated[int, Field(ge=2)]
    seed: int


class Vision(Target):
    target: Literal["besom.data.vision"] = Field(alias="_target_")
    dataset: Literal["MNIST", "FashionMNIST", "KMNIST", "EMNIST", "CIFAR10", "CIFAR100", "SVHN"]
    root: str
    download: bool
    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] | None = None

    @model_validator(mode="after")
    def _has_a_split_if_it_needs_one(self) -> Vision:
        if (self.dataset == "EMNIST") != bool(self.split):
            raise ValueError("split: EMNIST needs one, as data=emnist has it; the other datasets have none")
        return self


class Augment(Section):
    """Of the pictures to train on, by the names of torchvision's v2."""

    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    crop: Annotated[int, Field(ge=0)] = 0
    degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    translate: Fraction = 0.0
    scale: Annotated[list[Positive], Field(min_length=2, max_length=2)] = [1.0, 1.0]
    cutout: Annotated[int, Field(ge=0)] = 0
    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    more: list[Custom] = []


# ── model ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
class CNN(Target):
    target: Literal["besom.model.CNN"] = Field(alias="_target_")
    depth: Count
    width: Count
    kernel_size: Count
    activation: Activation
    norm: Literal["batch", "group", "instance", "none"]
    pool: Literal["max", "avg", "none"]
    hidden: list[Count]
    dropout: Fraction


# ── loss ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
class CrossEntropy(Target):
    target: Literal["torch.nn.CrossEntropyLoss"] = Field(alias="_target_")
    label_smoothing: Fraction


class NLL(Target):
    target: Literal["besom.model.NLL"] = Field(alias="_target_")


class Focal(Target):
    target: Literal["besom.model.FocalLoss"] = Field(alias="_target_")
    gamma: NonNegative


# ── optimizer ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Optimizer(Target):
    lr: Positive
    weight_decay: NonNegative


class SGD(Optimizer):
    target: Literal["torch.optim.SGD"] = Field(alias="_target_")
    momentum: Fraction
    nesterov: bool

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SGD:
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "nesterov=true needs a momentum above 0; set optimizer.momentum or optimizer.nesterov=false"
            )
        return self


class Adam(Optimizer):
    target: Literal["torch.optim.Adam", "torch.optim.AdamW"] = Field(alias="_target_")
    betas: Betas
    eps: Positive
    amsgrad: bool


class NAdam(Optimizer):
    target: Literal["torch.optim.NAdam"] = Field(alias="_target_")
    betas: Betas
    eps: Positive
    momentum_decay: NonNegative


class RAdam(Optimizer):
    target: Literal["torch.optim.RAdam"] = Field(alias="_target_")
    betas: Betas
    eps: Positive


class RMSprop(Optimizer):
    target: Literal["torch.optim.RMSprop"] = Field(alias="_target_")
    alpha: Fraction
    momentum: Fraction
    eps: Positive
    centered: bool


class Adagrad(Optimizer):
    target: Literal["torch.optim.Adagrad"] = Field(alias="_target_")
    lr_decay: NonNegative
    initial_accumulator_value: NonNegative
    eps: Positive


# ── scheduler ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Scheduler(Target):
    """`interval`: when Lightning steps it."""

    interval: Literal["epoch", "step"]

    def arguments(self) -> dict[str, Any]:
        return self.model_dump(exclude={"target", "interval"})


class CustomScheduler(Scheduler):
    model_config = ConfigDict(extra="allow")
    interval: Literal["epoch", "step"] = "epoch"


class Constant(Scheduler):
    target: Literal["torch.optim.lr_scheduler.ConstantLR"] = Field(alias="_target_")
    factor: Annotated[float, Field(gt=0, le=1)]


class Cosine(Scheduler):
    target: Literal["torch.optim.lr_scheduler.CosineAnnealingLR"] = Field(alias="_target_")
    T_max: Count
    eta_min: NonNegative


class Step(Scheduler):
    target: Literal["torch.optim.lr_scheduler.StepLR"] = Field(alias="_target_")
    step_size: Count
    gamma: Positive


class OneCycle(Scheduler):
    target: Literal["torch.optim.lr_scheduler.OneCycleLR"] = Field(alias="_target_")
    max_lr: Positive
    pct_start: Fraction
    div_factor: Positive
    final_div_factor: Positive
    total_steps: Count | None


class Plateau(Scheduler):
    target: Literal["torch.optim.lr_scheduler.ReduceLROnPlateau"] = Field(alias="_target_")
    mode: Literal["min", "max"]
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    min_lr: NonNegative


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class OneOf:
    """The section whose `_target_` it is; `custom` takes every `_target_` that is not ours."""

    def __init__(self, *sections: type[Target], custom: type[Target] = Custom) -> None:
        self._custom = custom
        self.known = {target: section for section in sections for target in _targets(section)}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        choices = {_CUSTOM: self._custom, **self.known}
        return core_schema.tagged_union_schema(
            {tag: handler.generate_schema(section) for tag, section in choices.items()}, discriminator=self._tag
        )

    def _tag(self, section: Any) -> str:
        target = section.get("_target_") if isinstance(section, Mapping) else None
        return target if isinstance(target, str) and target in self.known else _CUSTOM


_CUSTOM = "besom.custom"  # a dot, as in every `_target_`: so a union's tag is told from a config key


def _targets(section: type[Target]) -> tuple[str, ...]:
    return get_args(section.model_fields["target"].annotation)


class Data(Section):
    source: Annotated[Target, OneOf(Digits, ImageFolder, Fake, Vision)]
    augment: Augment = Augment()  # a data config of a user's own need not name it
    batch_size: Count
    val_split: Annotated[float, Field(gt=0, lt=1)]
    test_split: Annotated[float, Field(gt=0, lt=1)] | None

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Data:
        if self.val_split + (self.test_split or 0) >= 1:
            raise ValueError(
                f"val_split={self.val_split} and test_split={self.test_split} leave nothing to train on: "
                "together they must stay below 1"
            )
        return self


class Objective(Section):
    metric: str
    mode: Literal["max", "min"]  # null: by the metric's name
    reduce: Literal["best", "last"]

    @model_validator(mode="before")
    @classmethod
    def _has_a_mode(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("mode", None) is None and isinstance(given.get("metric"), str):
            return {**given, "mode": default_mode(given["metric"])}
        return given


class EarlyStopping(Section):
    patience: Count
    min_delta: NonNegative


class Trainer(Section):
    """Of Lightning's Trainer, but for how a step is computed: `besom.training.step_tuning`."""

    max_epochs: Count
    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"]
    devices: Devices
    strategy: str
    precision: Literal[Precision, "auto", 16, 32, 64]
    memory_format: Literal[MemoryFormat, "auto"]
    fused: Literal["auto", True, False]
    float32_matmul_precision: Literal[MatmulPrecision, "auto"]
    compile: Literal["auto", True, False]
    tune_step: Literal["auto"] | None
    num_threads: Count | None
    deterministic: bool
    gradient_clip_val: Positive | None
    accumulate_grad_batches: Count
    early_stopping: EarlyStopping | None


class Tracking(Section):
    """`uri` null: record nothing."""

    uri: str | None
    experiment: Annotated[str, Field(min_length=1)]
    run_name: str | None
    tags: dict[str, str]
    log_checkpoint: bool
    system_metrics: Positive | None


class Settings(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    test: bool
    objective: Objective
    data: Data
    model: Annotated[Target, OneOf(CNN)]
    loss: Annotated[Target, OneOf(CrossEntropy, NLL, Focal)]
    optimizer: Annotated[Target, OneOf(SGD, Adam, NAdam, RAdam, RMSprop, Adagrad)]
    scheduler: Annotated[Scheduler, OneOf(Constant, Cosine, Step, OneCycle, Plateau, custom=CustomScheduler)]
    trainer: Trainer
    tracking: Tracking


def known(section: str, target: str) -> type[Target] | None:
    """The class that checks a section with that `_target_`; None: it is the user's own."""
    model: type[BaseModel] = Settings
    *outer, last = section.split(".")
    for name in outer:
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    choice = next(one for one in model.model_fields[last].metadata if isinstance(one, OneOf))
    return choice.known.get(target)
