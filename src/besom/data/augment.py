"""What makes more of a training set: each picture of a batch is changed in its own way, all at once, on their device.

torchvision's v2 transforms draw one change for a whole batch; any of them may stand beside these in `data.augment`.
Pictures: [B, C, H, W], of the source's own scale, uint8 or float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from besom.config.schema import Augment
from besom.errors import InputError


def _chance(images: Tensor, low: float, high: float) -> Tensor:
    """One number for each picture, [B, 1, 1, 1]."""
    return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(low, high)


@dataclass(frozen=True)
class Flip:
    """Left becomes right, of a share `p` of the pictures."""

    p: float = 0.5

    def __call__(self, images: Tensor) -> Tensor:
        count = len(images)
        flipped = torch.rand(count, device=images.device) < self.p
        both = torch.cat([images, images.flip(3)])  # and whole pictures out of it: ten times faster than `where`
        return both.index_select(0, torch.arange(count, device=images.device) + count * flipped)


@dataclass(frozen=True)
class Crop:
    """Moved by up to `padding` pixels each way; what comes in is 0."""

    padding: int

    def __call__(self, images: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        padded = functional.pad(images, [self.padding] * 4)
        top, left = torch.randint(2 * self.padding + 1, (2, count, 1, 1), device=images.device)
        # where each row begins, in the padded pictures as one long line: [B, C, H]
        planes = torch.arange(count * channels, device=images.device).view(count, channels, 1)
        rows = planes * padded.shape[2] + top + torch.arange(height, device=images.device)
        begins = (rows * padded.shape[3] + left).flatten()
        # a row from every place of that line on; they overlap
        windows = padded.as_strided((padded.numel() - width + 1, width), (1, 1))
        return windows.index_select(0, begins).view(images.shape)


@dataclass(frozen=True)
class Cutout:
    """A square of `size` pixels becomes 0, anywhere, over the edge too.

    DeVries and Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout, arXiv:1708.04552.
    """

    size: int

    def __call__(self, images: Tensor) -> Tensor:
        *_, height, width = images.shape
        inside = self._covers(images, height, 2) & self._covers(images, width, 3)
        return images.masked_fill(inside, 0)

    def _covers(self, images: Tensor, length: int, along: int) -> Tensor:
        center = (_chance(images, 0, 1) * length).long()
        begin = center - self.size // 2
        shape = [1, 1, 1, 1]
        shape[along] = length
        place = torch.arange(length, device=images.device).view(shape)
        return (place >= begin) & (place < begin + self.size)


@dataclass(frozen=True)
class Affine:
    """Turned by up to `degrees`, moved by up to the share `translate` of its side, and `scale`d.

    What comes in is 0.
    """

    degrees: float = 0.0
    translate: float = 0.0
    scale: Sequence[float] = (1.0, 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        angle = _chance(images, -self.degrees, self.degrees).flatten() * (math.pi / 180)
        grow = 1 / _chance(images, self.scale[0], self.scale[1]).flatten()
        height, width = images.shape[2:]
        cos, sin = angle.cos() * grow, angle.sin() * grow
        # from a place in the new picture to the one in the old it is taken from; a side is 2 long; rows: x, then y
        turn = torch.stack(
            [torch.stack([cos, -sin * height / width], 1), torch.stack([sin * width / height, cos], 1)], 1
        )
        move = torch.empty(len(images), 2, 1, device=images.device).uniform_(-2 * self.translate, 2 * self.translate)
        theta = torch.cat([turn, -turn @ move], 2)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images.float(), grid, align_corners=False)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation times a number between 1 - x and 1 + x; of pictures of 0..255.

    As torchvision's v2, whose grey is 0.299 R + 0.587 G + 0.114 B.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        images = images.float()
        images = (images * self._factor(images, self.brightness)).clamp(0, 255)
        images = _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), self._factor(images, self.contrast))
        return _blend(images, _grey(images), self._factor(images, self.saturation))

    def _factor(self, images: Tensor, by: float) -> Tensor:
        return _chance(images, max(0.0, 1 - by), 1 + by)


def augmentation(asked: Augment, shape: tuple[int, int, int]) -> list[Callable[[Tensor], Tensor]]:
    """What is asked for, in this order: colours first, while all pixels are the picture's own.

    Raises:
        InputError: it does not fit pictures of that shape (channels, height, width).
    """
    _, height, width = shape
    for name, pixels in (("crop", asked.crop), ("cutout", asked.cutout)):
        if pixels >= min(height, width):
            raise InputError(
                f"data.augment.{name}={pixels}: nothing may be left of a {height}x{width} picture; "
                f"set at most {min(height, width) - 1}"
            )
    steps: list[Callable[[Tensor], Tensor]] = []
    if asked.brightness or asked.contrast or asked.saturation:
        steps.append(ColorJitter(asked.brightness, asked.contrast, asked.saturation))
    if asked.degrees or asked.translate or list(asked.scale) != [1, 1]:
        steps.append(Affine(asked.degrees, asked.translate, asked.scale))
    if asked.crop:
        steps.append(Crop(asked.crop))
    if asked.flip:
        steps.append(Flip(asked.flip))
    if asked.cutout:
        steps.append(Cutout(asked.cutout))
    return steps


def _grey(images: Tensor) -> Tensor:
    """[B, 1, H, W]"""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (other + factor * (images - other)).clamp(0, 255)
