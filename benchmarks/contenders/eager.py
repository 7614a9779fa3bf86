"""Lightning as its documentation shows it, on one device: a CNN, on MNIST's files or on photographs.

python benchmarks/contenders/eager.py digits|photographs FOLDER EPOCHS ACCELERATOR
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from by_hand import Classifier, loaders, quietly, train
from photographs import Photographs
from points import BATCH, TRAIN, VAL
from torch.utils.data import DataLoader
from torchvision import transforms


def photographs() -> tuple[DataLoader[Any], DataLoader[Any]]:
    chance = np.random.default_rng(0)
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])

    def some(count: int) -> Photographs:
        return Photographs(chance.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), steps)

    return DataLoader(some(TRAIN), batch_size=BATCH, shuffle=True), DataLoader(some(VAL), batch_size=BATCH)


def main(what: str, folder: str, epochs: str, accelerator: str) -> None:
    quietly(0)
    batches, shape = (loaders(folder), (1, 28)) if what == "digits" else (photographs(), (3, 32))
    train(Classifier("relu", "adamw", 0.003, None, *shape), int(epochs), *batches, accelerator=accelerator)


if __name__ == "__main__":
    main(*sys.argv[1:])
