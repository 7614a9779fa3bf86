"""What docstrings show is what happens."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import hydra
import pytest

import besom

ROOT = Path(besom.__file__).parent
MODULES = [
    ".".join(("besom", *path.relative_to(ROOT).with_suffix("").parts))
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module):
    ran = doctest.testmod(import_module(module), extraglobs={"besom": besom, "hydra": hydra})

    assert ran.attempted
    assert not ran.failed
