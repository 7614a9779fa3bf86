"""`besom worker`: more slots for a sweep that runs elsewhere.

The study remembers how its sweep was started. A worker starts the app in the same way, told to join: so it composes the
same trials, from the code and the config that it finds on its own machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna

from besom.errors import InputError, near
from besom.locks import masked
from besom.sweep.storage import open_storage
from besom.sweep.study import COMMAND, Study

STORAGE = "BESOM_STORAGE"
HIDDEN = ":***@"  # where a password was


@dataclass(frozen=True)
class Command:
    """How an app was started, without passwords."""

    app: tuple[str, ...]  # behind the interpreter's name
    arguments: tuple[str, ...]
    folder: str  # the working directory
    sweeps: str | None = None  # where `besom sweep FILE` has found its file

    @classmethod
    def mine(cls) -> Command:
        main = sys.modules["__main__"]
        app = ("-m", main.__spec__.name) if main.__spec__ else (sys.argv[0],)
        arguments = tuple(masked(argument) for argument in sys.argv[1:])
        return cls(app, arguments, str(Path.cwd()), os.environ.get("BESOM_SWEEPS"))

    def remember(self, study: Study) -> None:
        study.remember(COMMAND, asdict(self))


def join(url: str, name: str, overrides: Sequence[str]) -> None:
    """Become a worker of a study that is swept; `overrides` come behind those of its sweep. Does not return.

    Raises:
        InputError: there is no such study, nobody sweeps it, or its app is not here.
    """
    storage = open_storage(url)
    there = optuna.get_all_study_names(storage)
    if name not in there:
        raise InputError(f"no study {name!r} in {masked(url)}{near(name, there)}")
    study = Study(url, name)
    if not (known := study.recall(COMMAND)) or study.supervisor() is None:
        raise InputError(f"study {name!r} is not being swept: start the sweep first, then its workers")
    command = Command(**known)
    folder = _folder(command)
    os.environ[STORAGE] = url  # anybody may read a command line
    more = [
        f"hydra.sweeper.storage=${{oc.env:{STORAGE}}}",
        f"hydra.sweeper.study_name={name}",
        "hydra.sweeper.join=true",
    ]
    arguments = [*_without_secrets(command, overrides), *more, *overrides]
    if command.sweeps:
        os.environ["BESOM_SWEEPS"] = command.sweeps
    os.chdir(folder)
    os.execv(sys.executable, [sys.executable, *command.app, *arguments])


def _folder(command: Command) -> Path:
    """Here, if the app is here too; otherwise where the sweep was started."""
    if command.app[0] == "-m":
        return Path.cwd()
    for folder in (Path.cwd(), Path(command.folder)):
        if (folder / command.app[0]).is_file():
            return folder
    raise InputError(
        f"the sweep runs {command.app[0]}, which is neither in {Path.cwd()} nor in {command.folder}: start the worker "
        "in a folder with the same app"
    )


def _without_secrets(command: Command, overrides: Sequence[str]) -> list[str]:
    given = {override.partition("=")[0] for override in overrides} | {"hydra.sweeper.storage"}
    kept = []
    for argument in command.arguments:
        key = argument.partition("=")[0]
        if HIDDEN not in argument:
            kept.append(argument)
        elif key not in given:
            raise InputError(f"{argument}: the sweep's password was not kept; give the worker {key}=... again")
    return kept
