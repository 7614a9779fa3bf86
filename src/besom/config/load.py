"""From a composed Hydra config to `Settings`, or to one message that says what is wrong. Neither needs torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from besom.config.redaction import redacted_value
from besom.config.schema import Settings
from besom.errors import InputError, first_line, near


def shipped(folder: Literal["conf", "sweeps"]) -> Path:
    """Where besom's own configs lie: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / folder
    return installed if installed.is_dir() else package.parent.parent / folder


def load(cfg: DictConfig) -> Settings:
    """Parse a composed config once, at the edge.

    Raises:
        InputError: one message with every wrong key, its value, and what would be right.

    """
    try:
        values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key}: missing; give it a value: {error.full_key}=...") from error
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key or 'config'}: {first_line(error)}") from error
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems = "\n  ".join(_problems(error, cfg))
        raise InputError(f"the config does not fit:\n  {problems}") from error
    _check_targets_exist(settings)
    return settings


def _problems(error: ValidationError, cfg: DictConfig) -> Iterator[str]:
    for problem in error.errors():
        path = [str(part) for part in problem["loc"] if "." not in str(part)]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            section = OmegaConf.select(cfg, ".".join(path[:-1])) if path[:-1] else cfg
            yield f"{key}: no such key{near(path[-1], [str(name) for name in section if str(name) != path[-1]])}"
        elif problem["type"] == "missing":
            yield f"{key}: missing; give it a value"
        elif problem["type"] in ("list_type", "tuple_type") and isinstance(problem["input"], int | float | str):
            given = redacted_value(key, problem["input"])
            yield f"{key}={given}: a list is meant: {key}=[{given}, ...]"
        else:
            given = "" if isinstance(problem["input"], Mapping) else f"={redacted_value(key, problem['input'])}"
            yield f"{key}{given}: {problem['msg'].removeprefix('Value error, ')}"


def _check_targets_exist(settings: Settings) -> None:
    """The user's own modules must at least be there; they are imported when they are built."""
    sections = [settings.data.source, settings.model, settings.loss, settings.optimizer, settings.scheduler]
    sections += settings.data.augment.more
    for section in sections:
        module = section.target.rpartition(".")[0]
        top = module.partition(".")[0]
        if not top or importlib.util.find_spec(top) is None:
            raise InputError(
                f"_target_={section.target}: no module {top or section.target!r} in the working directory or among the "
                "installed packages; write it as module.ClassName"
            )
