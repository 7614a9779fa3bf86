"""Where images come from. A source is any callable that returns `Images`, or `RawDataset`, which are decoded once.

Name your own by `data.source._target_`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from besom.data.folder import Found, files, formats, picture
from besom.data.images import Chunk, RawDataset
from besom.system.encoding import say

AT_ONCE = 1 << 24  # bytes of pictures in memory while a set is decoded


def digits() -> RawDataset:
    """1,797 handwritten digits, 8x8 pixels of 0..16 (UCI ML, doi:10.24432/C50P49), shipped with scikit-learn."""

    def decode() -> tuple[Sequence[str], Iterator[Chunk]]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(bunch.target).to(torch.int64)
        return [str(name) for name in bunch.target_names], iter([Chunk(images, labels)])

    return RawDataset("digits", "scikit-learn", {"scikit-learn": version("scikit-learn")}, tuple, decode)


def image_folder(folder: str, size: Sequence[int], channels: int) -> RawDataset:
    """A person's own pictures: `folder/CLASS/*.png`, or another format of PIL's, resized to `size` (height, width)."""
    there = Path(folder).absolute()
    settings = {"folder": str(there), "size": list(size), "channels": channels, "formats": sorted(formats())}
    height, width = size

    def look() -> Found:
        return Found.of(there, f"data.source.folder={folder}")

    def decode() -> tuple[Sequence[str], Iterator[Chunk]]:
        found = look()
        say(f"{folder}: {found}", file=sys.stderr, flush=True)
        read = partial(picture, size=(width, height), channels=channels)
        return found.classes, _in_chunks(found.samples, read, _at_once(size, channels))

    return RawDataset(there.name, folder, settings, partial(files, there), decode, note=lambda: str(look()))


def read_pictures(paths: Iterable[str | Path], shape: Sequence[int]) -> Tensor:
    """Pictures to be judged by a network that was trained on `image_folder`'s: uint8 [N, C, H, W].

    `shape`: channels, height, width, as `Classifier.input_shape` has it.

    Raises:
        InputError: one cannot be read.
    """
    channels, height, width = shape
    return torch.stack([picture(str(path), size=(width, height), channels=channels) for path in paths])


def fake(n: int, size: Sequence[int], channels: int, classes: int, seed: int) -> RawDataset:
    """As many pictures as are asked for, to try a machine's limits: noise around a pattern of each class's own."""
    settings = {"fake": [n, *size, channels, classes, seed]}

    def chunks() -> Iterator[Chunk]:
        chance = torch.Generator().manual_seed(seed)
        patterns = torch.randint(0, 128, (classes, channels, *size), generator=chance)
        for labels in torch.split(torch.arange(n) % classes, _at_once(size, channels)):
            noise = torch.randint(0, 128, (len(labels), channels, *size), generator=chance)
            yield Chunk((patterns[labels] + noise).to(torch.uint8), labels)

    return RawDataset("fake", "made up", settings, tuple, lambda: ([str(name) for name in range(classes)], chunks()))


def _at_once(size: Sequence[int], channels: int) -> int:
    return max(1, AT_ONCE // (size[0] * size[1] * channels))


def _in_chunks(samples: Sequence[tuple[str, int]], decode: partial[Tensor], at_once: int) -> Iterator[Chunk]:
    """Decoded by all cores: PIL lets go of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(samples), at_once):
            paths, labels = zip(*samples[start : start + at_once], strict=True)
            yield Chunk(torch.stack(list(pool.map(decode, paths))), torch.tensor(labels))
