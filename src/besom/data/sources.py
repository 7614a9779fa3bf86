"""Where images come from. A source is any callable that returns `Images`; name your own by `data.source._target_`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """A whole labelled set, before it is split.

    images: uint8 [N, C, H, W]; their scale does not matter, each channel is normalised by the training split.
    labels: int64 [N], each in 0..len(classes)-1.
    """

    name: str
    origin: str  # a path or a library: where a person would look for the originals
    images: Tensor
    labels: Tensor
    classes: Sequence[str]

    def __post_init__(self) -> None:
        """Raises ValueError where the tensors do not fit the promise above."""
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            got = f"{self.images.dtype} {list(self.images.shape)}"
            raise ValueError(f"images of {self.name} must be uint8 [N, C, H, W], but got {got}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"labels of {self.name} must be int64 [{len(self.images)}], "
                f"but got {self.labels.dtype} {list(self.labels.shape)}"
            )
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"labels of {self.name} must lie in 0..{len(self.classes) - 1}")

    def digest(self) -> str:
        """The same for the same pictures and labels in the same order."""
        content = hashlib.sha256(self.images.numpy().tobytes())
        content.update(self.labels.numpy().tobytes())
        return content.hexdigest()[:16]


def digits() -> Images:
    """1,797 handwritten digits, 8x8 pixels of 0..16 (UCI ML, doi:10.24432/C50P49), shipped with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return Images(
        name="digits",
        origin="scikit-learn",
        images=torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1),
        labels=torch.from_numpy(bunch.target).to(torch.int64),
        classes=[str(name) for name in bunch.target_names],
    )


def image_folder(folder: str, size: Sequence[int], channels: int) -> Images:
    """A person's own pictures: `folder/CLASS/*.png`, or any format PIL reads, resized to `size` (height, width)."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.PILToTensor(), v2.Grayscale(channels), v2.Resize(list(size), antialias=True)]
    if channels == 3:
        steps[1] = v2.RGB()
    pictures = ImageFolder(folder, transform=v2.Compose(steps))
    images, labels = zip(*pictures, strict=True)
    return Images(
        name=folder.rstrip("/").rpartition("/")[2],
        origin=folder,
        images=torch.stack(images),
        labels=torch.tensor(labels),
        classes=pictures.classes,
    )
