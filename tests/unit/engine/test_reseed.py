from __future__ import annotations

import sys
from types import ModuleType

import numpy
import torch

from besom.engine.reseed import reseed


def test_what_the_system_has_seeded_is_seeded_anew(monkeypatch):
    module = ModuleType("users_own")
    module.__file__ = "/home/me/users_own.py"
    module.drawn, module.seeded = numpy.random.default_rng(), numpy.random.default_rng(3)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_own", module)
    states = [generator.bit_generator.state for generator in (module.drawn, module.seeded)]

    reseed()

    assert module.drawn.bit_generator.state != states[0]
    assert module.seeded.bit_generator.state == states[1]


def test_a_seed_that_a_person_has_chosen_stands():
    numpy.random.seed(5)
    torch.manual_seed(5)
    reseed()
    drawn = numpy.random.rand(), float(torch.rand(1))
    numpy.random.seed(5)
    torch.manual_seed(5)

    assert drawn == (numpy.random.rand(), float(torch.rand(1)))
    torch.seed()
    numpy.random.seed()
