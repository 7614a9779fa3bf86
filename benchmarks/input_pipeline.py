"""How many pictures a second reach the model, and how soon the first ones, against torchvision and torch's DataLoader.

python benchmarks/input_pipeline.py
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from contenders.photographs import Photographs
from table import heading, table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms
from warped_digits import write

from besom.data import ImageData, Images, Splits, decoded, vision
from besom.data.augment import Crop, Flip

BATCH, COUNT, SECONDS = 128, 20_000, 6.0
TRIES = 20


def images_a_second(epoch: Callable[[], Iterator[object]]) -> float:
    """Of whole epochs, with all that one costs to begin."""
    next(epoch())
    begin, seen = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        seen += sum(BATCH for _ in epoch())
    return seen / (time.perf_counter() - begin)


def besom(whole: Images, *augment: Callable[[Tensor], Tensor]) -> float:
    data = ImageData(whole, Splits.of(whole, 0.1, 0.1, seed=0), BATCH, seed=0)

    def epoch() -> Iterator[object]:
        for images, _ in data.train_dataloader():
            for step in augment:
                images = step(images)
            yield data.normalised(images, "contiguous")

    return images_a_second(epoch)


def loader(pictures: Dataset[tuple[Tensor, int]], workers: int) -> float:
    batches = DataLoader(pictures, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    return images_a_second(lambda: iter(batches))


def digits(root: str) -> list[list[str]]:
    return _rows("28x28, normalised", besom(decoded(vision("MNIST", root, download=False))), mnist(root))


def mnist(root: str) -> datasets.MNIST:
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.2, 0.33)])
    return datasets.MNIST(root, train=True, transform=steps)


def ready(root: str) -> list[list[str]]:
    """From nothing but the settings to a trial's first batch, of a set that is decoded already."""

    def ours() -> object:
        whole = decoded(vision("MNIST", root, download=False))
        data = ImageData(whole, Splits.of(whole, 0.1, 0.1, seed=0), BATCH, seed=0)
        images, labels = next(iter(data.train_dataloader()))
        return data.normalised(images, "contiguous"), labels

    def theirs() -> object:
        return next(iter(DataLoader(mnist(root), batch_size=BATCH, shuffle=True)))

    first, floor = _milliseconds(ours), _milliseconds(theirs)
    return [
        ["besom", f"{first:.1f}", f"{first / floor:.2f}"],
        ["torchvision, DataLoader with 0 workers", f"{floor:.1f}", "1.00"],
    ]


def _milliseconds(once: Callable[[], object]) -> float:
    taken = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        once()
        taken.append(time.perf_counter() - begin)
    return 1000 * median(taken)


def photographs() -> list[list[str]]:
    pixels = torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8)
    whole = Images("noise", "made up", pixels, torch.arange(COUNT) % 10, [str(name) for name in range(10)])
    steps = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    theirs = Photographs(pixels.permute(0, 2, 3, 1).contiguous().numpy(), steps)
    return _rows("32x32x3, cropped and flipped, normalised", besom(whole, Crop(4), Flip()), theirs)


def _rows(what: str, ours: float, theirs: Dataset[tuple[Tensor, int]]) -> list[list[str]]:
    rows = [[f"{what}: besom", f"{ours:,.0f}", ""]]
    for workers in (0, 2):
        rate = loader(theirs, workers)
        rows.append([f"  torchvision, DataLoader with {workers} workers", f"{rate:,.0f}", f"{ours / rate:.1f}"])
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BESOM_CACHE"] = f"{folder}/cache"
        root = str(write(Path(folder), train=COUNT, test=1000))
        rates, first = digits(root) + photographs(), ready(root)
    print(heading("input_pipeline"))
    print(table(["pictures into the model, one thread", "images/s", "besom's, in these"], rates))
    print()
    print(table([f"{COUNT:,} pictures of 28x28, to the first batch", "ms", "ratio"], first))
