"""What settings name, built: data, module, and whatever a `_target_` stands for; what fails says of which key."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.optim import Optimizer

import besom
from besom.config.redaction import redacted_override
from besom.config.schema import Settings, Target
from besom.config.schema import known as _known
from besom.data import ImageData, Images, RawDataset, Splits, augmentation, decoded
from besom.errors import InputError, near
from besom.model import Classifier
from besom.model.checkpoint import without_secrets
from besom.training.fit_to_targets import PARTS, fitted, ignored, refuse_unlogged


def build_data(settings: Settings, *, verify: bool = False) -> ImageData:
    """`verify`: decoded pictures are read through, to find what was damaged since."""
    data = settings.data
    found = _build(data.source, "data.source")
    images = decoded(found, verify=verify) if isinstance(found, RawDataset) else found
    if not isinstance(images, Images):
        raise InputError(
            f"data.source._target_={data.source.target} returned {type(images).__name__}: "
            "a source returns besom.data.Images, or RawDataset"
        )
    parts = Splits.of(images, data.val_split, data.test_split, settings.seed)
    rows = parts.sizes["train"]
    if data.batch_size > rows:
        raise InputError(
            f"data.batch_size={data.batch_size} is more than the {rows} pictures to train on (of {len(images.labels)} "
            f"in {images.name}): each epoch would be one smaller batch; set data.batch_size to at most {rows}"
        )
    steps = augmentation(data.augment, images.shape)
    for number, step in enumerate(data.augment.more):
        where = f"data.augment.more[{number}]"
        steps.append(_proven(_build(step, where), images.images[:2], f"{where}._target_={step.target}"))
    return ImageData(images, parts, data.batch_size, settings.seed, steps)


def _proven(step: Callable[[Tensor], Tensor], images: Tensor, where: str) -> Callable[[Tensor], Tensor]:
    """Of a step that is not besom's own it is only known by trying whether it takes these pictures."""
    try:
        with torch.random.fork_rng(devices=[]):
            changed = step(images.clone())
    except Exception as error:  # whatever it makes of them
        raise InputError(f"{where} cannot change pictures of {list(images.shape[1:])}: {error}") from error
    if changed.shape != images.shape:
        raise InputError(
            f"{where} makes {list(changed.shape)} of a batch of {list(images.shape)}: the pictures must keep their size"
        )
    return step


def build_module(settings: Settings, data: ImageData) -> pl.LightningModule:
    """The user's own LightningModule as it is; a network in besom's `Classifier`."""
    known = {"input_shape": data.input_shape, "num_classes": data.num_classes}
    model = _build(settings.model, "model", **known, **_parts_for(settings))
    if isinstance(model, pl.LightningModule):
        if settings.test and not is_overridden("test_step", model):
            raise InputError(f"test=true: {settings.model.target} has no test_step; write one, or leave test=true out")
        return model
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model._target_={settings.model.target} is a {type(model).__name__}: "
            "name a torch.nn.Module or a LightningModule"
        )
    refuse_unlogged(settings.objective.metric)
    return Classifier(
        network=model,
        loss=_build(settings.loss, "loss"),
        make_optimizer=partial(_optimizer, settings),
        make_schedule=partial(_schedule, settings),
        num_classes=data.num_classes,
        hyperparameters=_hyperparameters(settings, data, known),
    )


def _hyperparameters(settings: Settings, data: ImageData, known: Mapping[str, Any]) -> dict[str, Any]:
    """All that a checkpoint needs to be used elsewhere, in plain values."""
    network = _arguments(settings.model, _accepted(find(settings.model.target, "model"), known))
    scheduler = {"interval": settings.scheduler.interval, **_arguments(settings.scheduler, {})}
    parts = {
        "network": network,
        "loss": _arguments(settings.loss, {}),
        "optimizer": _arguments(settings.optimizer, {}),
        "scheduler": scheduler,
    }
    return {
        "besom": besom.__version__,
        **{name: without_secrets(part, name) for name, part in parts.items()},
        "metric": settings.objective.metric,
        "data": data.whole.name,
        "classes": [str(name) for name in data.whole.classes],
        "input_shape": list(data.input_shape),
        "mean": data.parts.mean.tolist(),
        "std": data.parts.std.tolist(),
    }


def _arguments(section: Target, accepted: Mapping[str, Any]) -> dict[str, Any]:
    """A `_target_` may be nested in it."""
    return {"_target_": section.target, **section.arguments(), **accepted}


def _accepted(found: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in offered.items() if name in inspect.signature(found).parameters}


def _parts_for(settings: Settings) -> dict[str, Any]:
    """For a LightningModule that declares them: the loss, and functions that make an optimizer and its schedule."""
    if not is_lightning_module(find(settings.model.target, "model")):
        return {}
    fused = settings.trainer.fused
    declared = declares(settings.model)
    parts = {
        "optimizer": partial(_optimizer, settings, fused=None if fused == "auto" else fused),
        "loss": _build(settings.loss, "loss") if "loss" in declared else None,
        "scheduler": partial(_schedule, settings),
    }
    return {name: part for name, part in parts.items() if name in declared}


def is_lightning_module(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, pl.LightningModule)


def declares(model: Target) -> list[str]:
    """Which parts the module's `__init__` asks for, and its own config does not give."""
    names = inspect.signature(find(model.target, "model")).parameters
    return [part for part in PARTS if part in names and part not in model.arguments()]


def fit_to_classes(config: DictConfig, hydra: Any) -> tuple[DictConfig, list[str]]:
    """`fitted`, with the user's own classes; what their LightningModule would ignore is refused.

    Raises:
        InputError: a class cannot be imported, or what is set has no effect.
    """
    config, said = fitted(config, hydra, find)
    target = str(config.model.get("_target_"))
    if _known("model", target) is not None:
        return config, said
    found = find(target, "model")
    if is_lightning_module(found):
        declared = [part for part in PARTS if part in inspect.signature(found).parameters]
        declared = [part for part in declared if part not in config.model]
        if words := list(ignored(config, hydra, declared)):
            raise InputError(_without_effect(words, target))
    elif inspect.isclass(found) and issubclass(found, nn.Module):
        refuse_unlogged(config.objective.metric)
    return config, said


def _without_effect(words: Sequence[str], target: str) -> str:
    part = words[0].lstrip("+~").partition("=")[0].partition(".")[0].partition("/")[0].replace("trainer", "optimizer")
    return (
        f"{', '.join(map(redacted_override, words))}: without effect, for {target} is a LightningModule that makes its "
        f"own {part}. Search or set a key of the module, as model.lr=...; or let its __init__ declare the argument "
        f"{part!r}, and it is given besom's: loss, a torch.nn.Module; optimizer(parameters), which makes one; "
        "scheduler(optimizer, total_steps), which makes Lightning's lr_scheduler config"
    )


def _build(section: Target, where: str, *inputs: Any, **offered: Any) -> Any:
    """Build what a section names; of `offered` it is given what it declares."""
    found = find(section.target, where)
    arguments = _arguments(section, {})
    try:
        return instantiate(arguments, *inputs, **_accepted(found, offered), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        foreign = [f"{where}.{key}" for key in _not_taken(found, arguments)] if isinstance(cause, TypeError) else []
        way = f"; it does not take {', '.join(foreign)}: neither set nor search that" if foreign else ""
        raise InputError(f"{where}._target_={section.target} cannot be built: {cause or error}{way}") from error


def _not_taken(found: Any, arguments: Mapping[str, Any]) -> list[str]:
    try:
        parameters = inspect.signature(found).parameters
    except ValueError:  # of a class written in C
        return []
    if any(one.kind == inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return []
    return [key for key in arguments if key not in parameters and not key.startswith("_")]


def find(target: str, where: str) -> Any:
    """What a `_target_` names. Raises InputError: there is no such thing, or its module cannot be imported."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        there = [other for other in dir(sys.modules[module]) if not other.startswith("_")]
        raise InputError(f"{where}._target_={target}: {module} has no {name}{near(name, there)}") from error
    except Exception as error:  # importing the user's module runs the user's code
        raise InputError(f"{where}._target_={target} cannot be imported: {type(error).__name__}: {error}") from error


def _optimizer(settings: Settings, parameters: Iterable[nn.Parameter], fused: bool | None = None) -> Optimizer:
    found: Optimizer = _build(
        settings.optimizer, "optimizer", list(parameters), **({} if fused is None else {"fused": fused})
    )
    return found


def _schedule(settings: Settings, optimizer: Optimizer, total_steps: int) -> dict[str, Any]:
    section = settings.scheduler
    # of OneCycleLR and its like; null in the config, known only here
    unknown = "total_steps" in section.arguments() and section.arguments()["total_steps"] is None
    counted = {"total_steps": total_steps} if unknown else {}
    scheduler = _build(section, "scheduler", optimizer, **counted)
    return {"scheduler": scheduler, "interval": section.interval, "monitor": settings.objective.metric}
