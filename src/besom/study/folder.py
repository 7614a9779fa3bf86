"""Whose a folder is: what lies in it belongs to one study, as a file in it proves, and not its name.

Two studies in one folder would share the folders of their trials, and with those their logs and their checkpoints.
"""

from __future__ import annotations

import json
import logging
import os
import re
from itertools import chain, count
from pathlib import Path
from typing import Any
from uuid import uuid4

from besom.config.redaction import redact
from besom.errors import InputError
from besom.system.encoding import say
from besom.system.locks import sqlite_file

MARKER = "study.json"  # in the study's folder: the identity of the study, its name and its storage

log = logging.getLogger(__name__)


def new_id() -> str:
    return uuid4().hex


def claim(folder: Path, study_id: str, name: str, storage: str) -> Path:
    """The folder, if it is free; or else one in it, which is said.

    Raises:
        InputError: nothing can be written there.
    """
    safe = re.sub(r"[^\w.-]", "_", name)
    own = folder / f"study-{safe}"
    for place in chain([folder, own], (Path(f"{own}-{n}") for n in count(2))):
        try:
            if _is_taken_by(place, study_id, {"id": study_id, "name": name, "storage": redact(storage)}):
                if place != folder:
                    say(f"study {name}: {folder} {_said(folder)}; the trials of this study go to {place}", flush=True)
                return place
        except OSError as error:
            raise InputError(
                f"the output folder {place} cannot be written ({error.strerror}); choose another: hydra.sweep.dir=..."
            ) from error
    raise AssertionError


def keep_claim(folder: Path, study_id: str, name: str, storage: str) -> None:
    """Of a study that is there already: nobody else has its folder.

    Raises:
        InputError: another study has it.
    """
    try:
        if _is_taken_by(folder, study_id, {"id": study_id, "name": name, "storage": redact(storage)}, again=True):
            return
    except OSError as error:
        raise InputError(
            f"the study's folder {folder} cannot be written ({error.strerror}): make room for it"
        ) from error
    raise InputError(
        f"{foreign(folder, study_id, name)}: put the study's own folder back, or choose another "
        "hydra.sweeper.study_name"
    )


def lies_in(recorded: Path, study_id: str | None, storage: str) -> Path:
    """Where the folder is now: if the database was moved or copied, the study's folder may have come along with it.

    It is found by the end of its path, below the database's folder, and proven by what lies in it.
    """
    database = sqlite_file(storage)
    if database is None or study_id is None or database.parent in recorded.parents:
        return recorded
    for start in range(1, len(recorded.parts)):
        place = database.parent.joinpath(*recorded.parts[start:])
        if is_own(place, study_id):
            return place
    return recorded


def store_beside(recorded: str | None, storage: str) -> str | None:
    """The URL of a store: of a file that is gone the one of that name beside the database, with which it was moved."""
    file, database = sqlite_file(recorded) if recorded else None, sqlite_file(storage)
    if file is None or database is None or file.exists() or not (moved := database.parent / file.name).is_file():
        return recorded
    return f"sqlite:///{moved}"


def is_own(folder: Path, study_id: str) -> bool:
    """Whether it says that it is that study's."""
    owner = _owner(folder)
    return owner is not None and owner.get("id") == study_id


def foreign(folder: Path, study_id: str, name: str) -> str | None:
    """What is to be said where the folder is another study's."""
    owner = _owner(folder)
    if owner is None or owner.get("id") == study_id:
        return None
    return f"study {name!r} has its trials in {folder}, but that {_said(folder)}"


def set_aside(folder: Path) -> Path | None:
    """Before a trial's first attempt: what lies in its folder is not its own; where it lies now."""
    if not folder.exists() or not any(folder.iterdir()):
        return None
    aside = next(place for n in count(1) if not (place := folder.with_name(f"{folder.name}.aside-{n}")).exists())
    folder.rename(aside)
    log.warning("%s held what is not of this study's trial %s; it lies in %s now", folder, folder.name, aside)
    return aside


def _is_taken_by(folder: Path, study_id: str, marker: dict[str, str], *, again: bool = False) -> bool:
    """Whether the folder is the study's from now on. `again`: it was so before."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if is_new:
        folder.chmod(0o700)  # what is written in it may hold config
    if (owner := _owner(folder)) is None and (again or not _has_trials(folder)):
        _mark(folder, marker)
        owner = _owner(folder)
    return owner is not None and owner.get("id") == study_id


def _mark(folder: Path, marker: dict[str, str]) -> None:
    """Whole or not at all, and only where there is none: of two studies that come at once, one has it."""
    new = folder / f".{MARKER}.{uuid4().hex}"  # a process's number is another's, too: in a container beside
    new.write_text(json.dumps(marker, indent=1) + "\n")
    new.chmod(0o600)
    try:
        os.link(new, folder / MARKER)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not (folder / MARKER).exists():
            new.replace(folder / MARKER)
    finally:
        new.unlink(missing_ok=True)


def _owner(folder: Path) -> dict[str, Any] | None:
    """None: nobody's; empty: somebody's, who cannot be read."""
    try:
        content = json.loads((folder / MARKER).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_trials(folder: Path) -> bool:
    return any(entry.name.isdecimal() for entry in folder.iterdir())


def _said(folder: Path) -> str:
    owner = _owner(folder)
    if owner is None:
        return "holds the folders of other jobs"
    return (
        f"belongs to study {owner['name']!r} of {owner['storage']}"
        if owner.keys() >= {"name", "storage"}
        else (f"belongs to another program, by its {MARKER}")
    )
