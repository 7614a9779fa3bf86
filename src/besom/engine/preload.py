"""What the warm process is asked to import for trials."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from besom.hydra_app.program import Program

# they start threads or take a GPU, some only with their first use: each trial imports them for itself
NEVER = frozenset(
    ("mlflow", "ray", "wandb", "tensorflow", "jax", "jaxlib", "cupy", "pycuda", "comet_ml", "neptune", "clearml")
)


@dataclass(frozen=True)
class Preload:
    named: tuple[str, ...] = ()  # by `besom.preload`
    found: tuple[str, ...] = ()  # at the top of the app's script
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, named: Sequence[str], program: Program) -> Self:
        return cls((*named,), tuple(imported(program)), program.path)

    def without(self, module: str) -> Self:
        return replace(self, found=tuple(other for other in self.found if other != module))


def imported(program: Program) -> Iterator[str]:
    """The modules that the app's script imports at its top, whatever else is written there."""
    if not program.runs_again or program.file is None:
        return
    try:
        tree = ast.parse(Path(program.file).read_bytes())
    except (OSError, SyntaxError, ValueError):  # a trial says better what is wrong with it
        return
    package = program.module.rpartition(".")[0] if program.module else ""
    for module in dict.fromkeys(_modules(tree.body, package)):
        if module.partition(".")[0] not in NEVER:
            yield module


def _modules(body: Sequence[ast.stmt], package: str) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                try:
                    source = importlib.util.resolve_name("." * level + (module or ""), package)
                except ImportError:  # beyond the top-level package
                    continue
                yield source
                yield from (f"{source}.{name.name}" for name in names if name.name != "*" and level and not module)
            case ast.Try(body=inner) | ast.With(body=inner):
                yield from _modules(inner, package)
