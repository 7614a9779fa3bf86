"""Pictures of 28x28 pixels in MNIST's own file format, without a download: scikit-learn's digits, warped.

    python benchmarks/warped_digits.py FOLDER [TRAIN] [TEST]

`besom train data=mnist data.source.root=FOLDER` then reads them as it would read MNIST. No digit of the test set is a
warped one of the training set.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

SIDE = 28
HELD_OUT = 1437  # the first 1,437 of 1,797 digits are warped for training, the others for the test


def write(folder: Path, train: int = 8000, test: int = 2000, seed: int = 0) -> Path:
    """As torchvision looks for MNIST's files below `folder`; returns it."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    bunch = load_digits()
    digits = torch.from_numpy(bunch.images).float() / 16
    labels = torch.from_numpy(bunch.target)
    chance = torch.Generator().manual_seed(seed)
    for name, count, some in (("train", train, slice(HELD_OUT)), ("t10k", test, slice(HELD_OUT, None))):
        rows = torch.randint(len(digits[some]), (count,), generator=chance)
        images = (_warped(digits[some][rows], chance) * 255).round().to(torch.uint8)
        write_idx(raw / f"{name}-images-idx3-ubyte", images)
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels[some][rows].to(torch.uint8))
    return folder


def _warped(digits: Tensor, chance: torch.Generator) -> Tensor:
    """[N, 8, 8] of 0..1 → [N, 28, 28]: turned, moved, sheared, grown, and bent by a smooth random field."""
    count = len(digits)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=chance) * (high - low) + low

    angle, shear, grow = between(-0.3, 0.3), between(-0.3, 0.3), between(1.15, 1.5)
    cos, sin = angle.cos() * grow, angle.sin() * grow
    theta = torch.stack(
        [
            torch.stack([cos, shear - sin, between(-0.2, 0.2)], 1),
            torch.stack([sin, cos, between(-0.2, 0.2)], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [count, 1, SIDE, SIDE], align_corners=False)
    field = torch.randn(count, 2, 5, 5, generator=chance) * 0.12
    bent = functional.interpolate(field, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    large = functional.interpolate(digits.unsqueeze(1), size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    return functional.grid_sample(large, grid + bent.permute(0, 2, 3, 1), align_corners=False).clamp(0, 1).squeeze(1)


def write_idx(path: Path, values: Tensor) -> None:
    """LeCun's format: two zero bytes, 8 for unsigned bytes, the number of dimensions, each as a big-endian int32."""
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.contiguous().numpy().tobytes())


if __name__ == "__main__":
    folder, *counts = sys.argv[1:] or sys.exit(__doc__)
    print(write(Path(folder), *map(int, counts)))
