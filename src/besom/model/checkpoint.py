"""A trained `Classifier` in a file that needs nothing else: what it keeps beside the weights, and how it is rebuilt.

A checkpoint may come from anybody. It is read as plain values (torch's `weights_only`), nothing in it is resolved, and
of what it names only networks, losses and optimizers of besom, torch and torchvision are built without being trusted.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from besom.config.redaction import HIDDEN, redacted_value
from besom.config.schema import ACTIVATIONS
from besom.errors import InputError, first_line

KNOWN = ("besom.model", "torch.nn", "torch.optim", "torchvision.models", "torchvision.ops")
OF_HYDRA = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")
PARTS = ("network", "loss", "optimizer", "scheduler")  # of the hyperparameters: each a `_target_` and its keywords


def read(path: Any, map_location: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The hyperparameters and the state of a checkpoint.

    Raises:
        InputError: there is none, or it is not one that a `Classifier` can be built of.
    """
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint (looked in {Path(path).absolute().parent})") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is no checkpoint of besom's Classifier: it is damaged, or holds more than weights and plain "
            f"values; one of a LightningModule of your own is loaded by that class ({first_line(error)})"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint: {first_line(error)}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} is no checkpoint: it has no state_dict")
    values = content.get("hyper_parameters")
    if isinstance(values, dict) and "network" in values:
        return values, state
    if any(key.startswith("network.") for key in state) and not values:
        raise InputError(
            f"{path} does not say what its network is: an older besom wrote it. Train its run again (besom reproduce "
            "RUN), or build the network yourself and give it the weights: network.load_state_dict({key[8:]: value for "
            "key, value in checkpoint['state_dict'].items() if key.startswith('network.')})"
        )
    raise InputError(
        f"{path} is no checkpoint of besom's Classifier: load it by the class of the LightningModule that was trained, "
        "MyModule.load_from_checkpoint(...)"
    )


@dataclass(frozen=True)
class Builder:
    """Builds what a checkpoint names, if it is known, or of a package that is trusted."""

    path: Any
    trust: frozenset[str]

    @classmethod
    def of(cls, path: Any, trust: Iterable[str]) -> Builder:
        return cls(path, frozenset([trust] if isinstance(trust, str) else trust))

    def build(self, part: str, node: Any, *inputs: Any, **more: Any) -> Any:
        """Raises InputError: nobody has said that it may be built, or it cannot be."""
        if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
            raise InputError(f"{self.path}: its {part} has no _target_")
        if key := next(_hidden_in(node), None):
            raise InputError(
                f"{self.path}: its {part}'s {key} was a secret and is not in it: build the network yourself, and give "
                "it the weights by load_state_dict"
            )
        for target in _targets(node):
            self._refuse_stranger(part, target)
        try:
            return self._made({**node, **more}, inputs)
        except InputError:
            raise
        except Exception as error:  # whatever the class makes of its arguments
            raise InputError(
                f"{self.path}: its {part} {node['_target_']} cannot be built: {type(error).__name__}: {error}"
            ) from error

    def schedule(self, hyperparameters: Mapping[str, Any], optimizer: Optimizer, total_steps: int) -> dict[str, Any]:
        node = dict(hyperparameters["scheduler"])
        interval = node.pop("interval", "epoch")
        counted = {"total_steps": total_steps} if node.get("total_steps", 0) is None else {}
        scheduler = self.build("scheduler", node, optimizer, **counted)
        return {"scheduler": scheduler, "interval": interval, "monitor": hyperparameters.get("metric")}

    def _refuse_stranger(self, part: str, target: str) -> None:
        package = target.partition(".")[0]
        if package in self.trust or target.startswith(tuple(f"{name}." for name in (*self.trust, *KNOWN))):
            return
        raise InputError(
            f"{self.path}: its {part} is built by {target}, and loading it would run that code, which is not one of "
            f"besom's, torch's or torchvision's networks. If you trust both the file and that package: "
            f"Classifier.load_from_checkpoint(..., trust=[{package!r}])"
        )

    def _made(self, value: Any, inputs: Sequence[Any] = ()) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(self._made, value))
        if not isinstance(value, Mapping):
            return value
        made = value if value.get("_recursive_") is False else {key: self._made(child) for key, child in value.items()}
        if "_target_" not in value:
            return dict(made)
        found = self._found(str(value["_target_"]))
        arguments = {key: child for key, child in made.items() if key not in OF_HYDRA}
        positional = (*inputs, *made.get("_args_", ()))
        return partial(found, *positional, **arguments) if value.get("_partial_") else found(*positional, **arguments)

    def _found(self, target: str) -> Any:
        """Of besom, torch and torchvision only what a network, a loss or an optimizer is made of."""
        module, _, name = target.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if target.partition(".")[0] in self.trust or any(target.startswith(f"{name}.") for name in self.trust):
            return found
        kinds = (nn.Module, Optimizer, LRScheduler)
        is_class = inspect.isclass(found) and issubclass(found, kinds)
        is_model = inspect.isfunction(found) and found.__module__.startswith("torchvision.models.")
        if is_class or is_model:
            return found
        raise InputError(f"{self.path}: {target} is no network, loss, optimizer or schedule, and is not called")


def _targets(node: Any) -> Iterator[str]:
    """All that would be called or imported."""
    if isinstance(node, list | tuple):
        for child in node:
            yield from _targets(child)
    elif isinstance(node, Mapping):
        target = str(node.get("_target_", ""))
        if target:
            yield target
        activation = str(node.get("activation", ""))  # of besom's networks a name, or a path to a class
        if activation and activation not in ACTIVATIONS and (target.startswith("besom.") or "." in activation):
            yield activation
        for child in node.values():
            yield from _targets(child)


def _hidden_in(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _hidden_in(child, f"{key}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _hidden_in(child, key)
    elif isinstance(node, str) and HIDDEN in node:
        yield key


def without_secrets(node: Any, key: str) -> Any:
    """What is kept of a part: plain values, of which no secret is written down."""
    if isinstance(node, Mapping):
        return {name: without_secrets(child, f"{key}.{name}") for name, child in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(without_secrets(child, key) for child in node)
    return redacted_value(key, node)
