"""The map in CONTRIBUTING.md is that of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import besom

ROOT = Path(besom.__file__).parent
MAP = (ROOT.parents[1] / "CONTRIBUTING.md").read_text().partition("## Where things are")[2].partition("\n## ")[0]

ENGINE = "\n".join(
    re.findall(r"^\| (.*) \|.*\|$", MAP.partition("The engine, in the order of a sweep")[2], re.MULTILINE)
)


def rows() -> dict[str, set[str]]:
    """The rooms of the first table, each with its modules; those of the engine have a table of their own."""
    found = {
        room: set(re.findall(r"`(\w+)`", modules))
        for room, modules in re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", MAP, re.MULTILINE)
    }
    return found | {"engine": set(re.findall(r"`(\w+)`", ENGINE))}


def test_each_room_and_each_module_stands_in_the_map_and_nothing_else():
    tree = {
        room.name: {module.stem for module in room.glob("[a-z]*.py")}
        for room in ROOT.iterdir()
        if list(room.glob("*.py"))
    }
    assert rows() == tree
