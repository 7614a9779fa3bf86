"""What settings name, built: data, module, and whatever a `_target_` stands for; what fails says of which key."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from besom.data import ImageData, Images, Originals, Parts, augmentation, decoded
from besom.errors import InputError, near
from besom.model import Classifier
from besom.settings import Settings, Target


def build_data(settings: Settings) -> ImageData:
    data = settings.data
    found = _build(data.source, "data.source")
    images = decoded(found) if isinstance(found, Originals) else found
    if not isinstance(images, Images):
        raise InputError(
            f"data.source._target_={data.source.target} returned {type(images).__name__}: "
            "a source returns besom.data.Images, or Originals"
        )
    parts = Parts.of(images, data.val_split, data.test_split, settings.seed)
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
    model = _build(settings.model, "model", input_shape=data.input_shape, num_classes=data.num_classes)
    if isinstance(model, pl.LightningModule):
        return model
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model._target_={settings.model.target} is a {type(model).__name__}: "
            "name a torch.nn.Module or a LightningModule"
        )
    metric = settings.objective.metric
    if metric not in Classifier.logs:
        raise InputError(f"objective.metric={metric} is never logged{near(metric, Classifier.logs)}")
    return Classifier(
        network=model,
        loss=_build(settings.loss, "loss"),
        make_optimizer=lambda parameters, fused: _build(
            settings.optimizer, "optimizer", list(parameters), **({} if fused is None else {"fused": fused})
        ),
        make_schedule=lambda optimizer, total_steps: _schedule(settings, optimizer, total_steps),
        num_classes=data.num_classes,
    )


def _build(section: Target, where: str, *inputs: Any, **offered: Any) -> Any:
    """Build what a section names; of `offered` it is given what it declares."""
    found = _find(section.target, where)
    accepted = {name: value for name, value in offered.items() if name in inspect.signature(found).parameters}
    arguments = {"_target_": section.target, **section.arguments()}  # in which a `_target_` may be nested
    try:
        return instantiate(arguments, *inputs, **accepted, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        raise InputError(f"{where}._target_={section.target} cannot be built: {cause or error}") from error


def _find(target: str, where: str) -> Any:
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        there = [other for other in dir(sys.modules[module]) if not other.startswith("_")]
        raise InputError(f"{where}._target_={target}: {module} has no {name}{near(name, there)}") from error
    except Exception as error:  # importing the user's module runs the user's code
        raise InputError(f"{where}._target_={target} cannot be imported: {type(error).__name__}: {error}") from error


def _schedule(settings: Settings, optimizer: Optimizer, total_steps: int) -> dict[str, Any]:
    section = settings.scheduler
    # of OneCycleLR and its like; null in the config, known only here
    unknown = "total_steps" in section.arguments() and section.arguments()["total_steps"] is None
    counted = {"total_steps": total_steps} if unknown else {}
    scheduler = _build(section, "scheduler", optimizer, **counted)
    return {"scheduler": scheduler, "interval": section.interval, "monitor": settings.objective.metric}
