"""What Hydra 1.3 and 1.4 want to hear differently."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import hydra.utils
import hydra.version
from hydra._internal import config_loader_impl
from hydra.core.override_parser.types import Override
from hydra.utils import instantiate
from omegaconf import DictConfig

_execution_whitelist = getattr(hydra.utils, "execution_whitelist", None)  # since 1.4

# for hydra.main and its like: 1.3 warns where it is missing, 1.4 where it is given
VERSION_BASE: dict[str, Any] = {} if _execution_whitelist else {"version_base": "1.3"}


def changes_directory(config: DictConfig) -> bool:
    """Whether a job's working directory is its own folder; where the app does not say, its `version_base` decides."""
    asked = config.hydra.job.chdir
    at_least = getattr(hydra.version, "base_at_least", None)  # 1.4 knows no older behaviour
    return bool(asked if asked is not None else at_least and not at_least("1.2"))


def expect_any_target() -> None:
    """Silence Hydra 1.4's warnings of a `_target_`, callback or log handler that it was not told of beforehand.

    In besom's own app whatever the config names is meant: people's own classes plug in by name, and a list of those
    allowed would lock them out. What Hydra never runs from a config (`os.system`, `eval`, ...) it still refuses.
    """
    for text in ("hydra.utils.instantiate.. resolved _target_", "Hydra configured Python logging without"):
        warnings.filterwarnings("ignore", text)


def build(config: Mapping[str, Any]) -> Any:
    """What a config of the sweep's own names by `_target_`, at any depth; no list of what the app allows must know it.

    Raises:
        InstantiationException: Hydra refuses it, or it fails.
    """
    with _allowed(sorted(set(_targets(config)))):
        return instantiate(dict(config))


def _allowed(targets: list[str]) -> AbstractContextManager[None]:
    return _execution_whitelist(targets) if _execution_whitelist else nullcontext()


def _targets(config: Any) -> Iterator[str]:
    match config:
        case Mapping():
            yield from (str(value) for key, value in config.items() if key == "_target_")
            for value in config.values():
                yield from _targets(value)
        case str():
            return
        case Sequence():
            for value in config:
                yield from _targets(value)


def name_by_overrides(config: DictConfig, overrides: list[Override]) -> None:
    """Set `hydra.job.override_dirname`; Hydra 1.4 finds it when it is asked for."""
    if hasattr(config_loader_impl, "get_overrides_dirname"):
        named = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(
            overrides=overrides, exclude_keys=named.exclude_keys, item_sep=named.item_sep, kv_sep=named.kv_sep
        )
