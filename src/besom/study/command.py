"""How a sweep was started, kept in its study: others join it by it, and people are told how to go on."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from besom.config.redaction import redacted_override
from besom.study.attrs import COMMAND
from besom.study.study import Study


@dataclass(frozen=True)
class Command:
    """How an app was started, without passwords."""

    app: tuple[str, ...]  # behind the interpreter's name
    arguments: tuple[str, ...]
    folder: str  # the working directory
    sweeps: str | None = None  # where `besom sweep FILE` has found its file

    @classmethod
    def mine(cls) -> Self:
        main = sys.modules["__main__"]
        app = ("-m", main.__spec__.name) if main.__spec__ else (sys.argv[0],)
        arguments = tuple(redacted_override(argument) for argument in sys.argv[1:])
        return cls(app, arguments, str(Path.cwd()), os.environ.get("BESOM_SWEEPS"))

    @classmethod
    def of(cls, study: Study) -> Self | None:
        """None: the study's sweep was killed before it had said so."""
        kept = study.recall(COMMAND)
        return cls(**kept) if kept else None

    def remember(self, study: Study) -> None:
        study.remember(COMMAND, asdict(self))

    def __str__(self) -> str:
        """To paste into a shell, from wherever: `cd /data/cells && besom sweep digits`."""
        where = [] if self.folder == str(Path.cwd()) else [f"cd {shlex.quote(self.folder)} &&"]
        return " ".join([*where, shlex.join(self._typed())])

    def _typed(self) -> list[str]:
        """As the user typed it."""
        match self.app, self.arguments:
            case ("-m", "besom.train"), ("--multirun", name, "hydra/sweeper=besom", *rest) if name.startswith(
                "sweeps="
            ):
                return ["besom", "sweep", self._sweep(name.removeprefix("sweeps=")), *rest]
            case _:
                return ["python", *self.app, *self.arguments]

    def _sweep(self, name: str) -> str:
        """A sweep by its name, or one found by its file, by that."""
        if self.sweeps is None:
            return name
        file = Path(self.sweeps, f"{name}.yaml")
        return str(file.relative_to(self.folder) if file.is_relative_to(self.folder) else file)
