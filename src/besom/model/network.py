"""The convolutional network: blocks of convolution, norm, activation, pooling; then fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from besom.config.schema import ACTIVATIONS
from besom.errors import InputError


class ConvBlock(nn.Sequential):
    """[B, in, H, W] → [B, out, H, W], or [B, out, H/2, W/2] with pooling."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, activation: str, norm: str, pool: str
    ) -> None:
        super().__init__(
            # a norm right after brings its own bias
            nn.Conv2d(in_channels, out_channels, kernel_size, padding="same", bias=norm == "none"),
            _norm(norm, out_channels),
            _activation(activation),
            _pool(pool),
        )


class CNN(nn.Module):
    """`depth` blocks, the first `width` channels wide and each twice as wide as the one before; then `hidden` layers.

    Raises:
        InputError: the pooling would shrink the image to nothing.

    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int,
        *,
        depth: int,
        width: int,
        kernel_size: int,
        activation: str,
        norm: str,
        pool: str,
        hidden: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        channels, height, width_in = input_shape
        shrink = 1 if pool == "none" else 2**depth
        if min(height, width_in) < shrink:
            deepest = min(height, width_in).bit_length() - 1
            raise InputError(
                f"model.depth={depth}: pooling {depth} times leaves nothing of a {height}x{width_in} image; "
                f"set model.depth to at most {deepest}, or model.pool=none"
            )
        sizes = [channels, *(width * 2**level for level in range(depth))]
        self.features = nn.Sequential(
            *(
                ConvBlock(before, after, kernel_size=kernel_size, activation=activation, norm=norm, pool=pool)
                for before, after in pairwise(sizes)
            )
        )
        flat = sizes[-1] * (height // shrink) * (width_in // shrink)
        self.head = nn.Sequential(nn.Flatten())
        for before, after in zip([flat, *hidden], hidden, strict=False):
            self.head.extend([nn.Linear(before, after), _activation(activation), nn.Dropout(dropout)])
        self.head.append(nn.Linear(hidden[-1] if hidden else flat, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """images: float32 [B, C, H, W] → logits: [B, num_classes]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def _activation(name: str) -> nn.Module:
    if name in ACTIVATIONS:
        return getattr(nn, ACTIVATIONS[name])()  # type: ignore[no-any-return]
    from hydra.utils import get_class

    return get_class(name)()  # type: ignore[no-any-return]


def _norm(name: str, channels: int) -> nn.Module:
    match name:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            # 8 channels a group where that divides evenly; otherwise all in one, which is layer norm
            return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case _:
            return nn.Identity()


def _pool(name: str) -> nn.Module:
    match name:
        case "max":
            return nn.MaxPool2d(2)
        case "avg":
            return nn.AvgPool2d(2)
        case _:
            return nn.Identity()
