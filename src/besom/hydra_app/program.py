"""The swept app as its user would start it for one run.

People are told it, to paste. And a trial's process, which no command has started, is made to look like it: whatever
starts a process once more goes by `sys.argv` and `__main__`. Lightning's DDP does, for all ranks but the first.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Self

from hydra._internal.utils import get_args_parser


def script_of_this_process() -> str | None:
    """The file that it runs; None: there is none, as in a notebook or behind `python -`."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return str(Path(file).absolute()) if file and Path(file).is_file() else None


@dataclass(frozen=True)
class Program:
    script: str
    module: str | None = None  # of `python -m module`
    options: tuple[str, ...] = ()  # where Hydra finds the config: --config-name other
    file: str | None = None  # the script's; None: there is none, as in a notebook
    path: tuple[str, ...] = ()  # where it imports from

    @classmethod
    def running(cls) -> Self:
        """The Hydra app of this process."""
        main = sys.modules["__main__"]
        spec = main.__spec__
        given = vars(get_args_parser().parse_known_args()[0])
        options = [
            word
            for name in ("config_path", "config_name", "config_dir")
            if given[name] is not None
            for word in (f"--{name.replace('_', '-')}", given[name])
        ]
        path = tuple(str(Path(place).absolute()) for place in sys.path)
        return cls(sys.argv[0], spec.name if spec else None, tuple(options), script_of_this_process(), path)

    @property
    def runs_again(self) -> bool:
        """Whether there is a script that another process can run, to find what this one's `__main__` has."""
        return self.file is not None

    def __str__(self) -> str:
        match self.module:
            case "besom.train":
                start = ["besom", "train"]
            case None:
                start = ["python", self.script]
            case module:
                start = ["python", "-m", module]
        return shlex.join([*start, *self.options])

    @contextmanager
    def posing(self, overrides: Sequence[str]) -> Iterator[None]:
        """Meanwhile this process looks as if it had been started so, with these overrides."""
        main, before = sys.modules["__main__"], sys.argv
        spec, main.__spec__ = main.__spec__, ModuleSpec(self.module, loader=None) if self.module else None
        sys.argv = [self.script, *self.options, *overrides]
        try:
            yield
        finally:
            main.__spec__, sys.argv = spec, before
