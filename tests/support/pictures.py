"""A person's own pictures: a folder for each class."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image


def paint(folder: Path, count: int, side: int = 32) -> None:
    """Of two classes: dark and bright noise."""
    noise = torch.randint(0, 128, (count, side, side, 3), dtype=torch.uint8)
    for name in ("bright", "dark"):
        (folder / name).mkdir(parents=True)

    def save(number: int) -> None:
        name, light = ("dark", 0) if number % 2 else ("bright", 120)
        Image.fromarray((noise[number] + light).numpy()).save(folder / name / f"{number}.jpg", quality=50)

    with ThreadPoolExecutor() as pool:
        list(pool.map(save, range(count)))
