"""Pictures as torchvision's CIFAR10 has them: an array of them, each made a PIL image when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset


class Photographs(Dataset[tuple[Tensor, int]]):
    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        """pixels: uint8 [N, H, W, C]."""
        self._pixels, self._transform = pixels, transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[row])), row % 10
