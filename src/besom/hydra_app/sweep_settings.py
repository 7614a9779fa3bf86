"""What belongs to a sweep as a whole: no trial of it can have another sweeper, launcher or folder of the sweep."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from besom.config.redaction import redact_urls
from besom.errors import InputError, first_line

WORKERS = "workers"  # beside the trials' folders
LONGEST = 255  # bytes of a file's name
FOLDER = "besom names a trial's folder by its number, and links the name that hydra.sweep.subdir asks for to it"


def refuse_another(trial: DictConfig, sweep: DictConfig) -> None:
    """Raises InputError: what is searched would bring something that only the sweep's start can choose."""
    trial = redact_urls(trial)
    for part in ("launcher", "sweeper"):
        mine, other = _raw(sweep.hydra[part]), _raw(trial.hydra[part])
        if mine == other:
            continue
        if mine.get("_target_") != other.get("_target_"):
            chosen = trial.hydra.runtime.choices.get(f"hydra/{part}")
            brought = f"hydra/{part}={chosen}"
        else:
            key = next(key for key in {**mine, **other} if mine.get(key) != other.get(key))
            brought = f"hydra.{part}.{key}"
        raise InputError(
            f"it brings {brought}, but a sweep has one {part}, chosen before its first trial: a trial's would be "
            f"ignored. Take it out of what is searched, or give it on the command line"
        )
    with read_write(trial.hydra), open_dict(trial.hydra):
        trial.hydra.job.num, trial.hydra.job.id = 0, "0"
    # some resolvers answer otherwise each time
    if folder_of(sweep) == folder_of(sweep) != folder_of(trial):
        raise InputError(
            f"it makes hydra.sweep.dir {folder_of(trial)}, and the sweep's is {folder_of(sweep)}: a sweep has one "
            "folder, and its trials have theirs in it; name those by what is searched: hydra.sweep.subdir=lr_${lr}"
        )
    trial_name(trial)


def folder_of(config: DictConfig) -> str:
    """The sweep's folder. Raises InputError: it depends on what only a trial has."""
    try:
        return str(config.hydra.sweep.dir)
    except OmegaConfBaseException as error:
        given = _raw(config.hydra.sweep)["dir"]
        raise InputError(
            f"hydra.sweep.dir={given}: a sweep has one folder, made before its first trial, and this cannot be "
            f"resolved then: {first_line(error)}"
        ) from error


def trial_name(config: DictConfig) -> str:
    """The name that a trial's folder should have; its number, unless the app or its user asks for another.

    Raises:
        InputError: it cannot be the name of a link to that folder.
    """
    number = str(config.hydra.job.num)
    try:
        name = str(config.hydra.sweep.subdir)
    except OmegaConfBaseException as error:
        raise InputError(f"hydra.sweep.subdir cannot be resolved: {first_line(error)}") from error
    parts = PurePath(name).parts
    if name == number:
        return number
    if not parts or PurePath(name).is_absolute() or ".." in parts:
        raise InputError(f"hydra.sweep.subdir={name}: {FOLDER}; that name would lie outside the sweep's folder")
    if parts[0].isdecimal() or parts[0] == WORKERS:
        raise InputError(
            f"hydra.sweep.subdir={name}: {FOLDER}; that name is itself one of besom's own folders, as the number of "
            "a trial: put a word before it"
        )
    if any(len(os.fsencode(part)) > LONGEST for part in parts):
        raise InputError(f"hydra.sweep.subdir={name}: {FOLDER}; no file's name can be as long as that one")
    return name


def link(folder: Path, name: str) -> str:
    """Make the trial's folder known by that name too; the name, with the number behind it if another trial has it."""
    for one in (name, f"{name}_{folder.name}"):
        place = folder.parent / one
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            place.symlink_to(os.path.relpath(folder, place.parent), target_is_directory=True)
        except FileExistsError:
            if place.resolve() != folder.resolve():
                continue
        return one
    raise InputError(f"{folder.parent / name}: there is something else of that name; choose another hydra.sweep.subdir")


def _raw(config: Any) -> dict[Any, Any]:
    raw: Any = OmegaConf.to_container(config, resolve=False)
    return dict(raw)
