"""A trial's own random numbers: a generator that was forked would give all trials of its worker the same ones.

Whatever has drawn its seed from the system draws another. A generator that somebody has given a seed is left as it is:
a run of the app alone would begin with the same numbers.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from types import ModuleType
from typing import Any

DRAWN = 1 << 32  # a seed that the system has drawn is larger; one that a person has chosen hardly ever
TORCHS_OWN = 67280421310721  # the seed that torch begins with, in those releases where that is the same for all


def reseed() -> None:
    """Called in a process that has just been forked. Python's own generator has done so by itself."""
    if numpy := sys.modules.get("numpy.random"):
        if _is_drawn(numpy.mtrand._rand._bit_generator):
            numpy.seed()
        for generator in _of_the_users(numpy.Generator, numpy.RandomState):
            bits = getattr(generator, "bit_generator", None) or generator._bit_generator
            if _is_drawn(bits):
                bits.state = type(bits)().state
    torch = sys.modules.get("torch")
    if torch and hasattr(torch, "initial_seed") and DRAWN < torch.initial_seed() != TORCHS_OWN:
        torch.seed()


def _is_drawn(bits: Any) -> bool:
    """`seed_seq` is None of one that was seeded in numpy's old way."""
    entropy = getattr(bits.seed_seq, "entropy", None)
    return isinstance(entropy, int) and entropy > DRAWN


def _of_the_users(*kinds: type) -> Iterator[Any]:
    """Generators that stand at the top of modules, but for Python's and the libraries' own."""
    seen = set()
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and not _is_installed(module):
            for value in list(vars(module).values()):
                if type(value) in kinds and id(value) not in seen:  # which asks nothing of the value
                    seen.add(id(value))
                    yield value


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not file:
        return module.__name__ not in ("__main__", "__mp_main__")
    return str(file).startswith(_INSTALLED) or "site-packages" in str(file)


_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
