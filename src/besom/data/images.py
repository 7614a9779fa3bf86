"""What a source returns: a labelled set, decoded already (`Images`) or still to be decoded (`RawDataset`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """A whole labelled set, before it is split.

    images: uint8 [N, C, H, W]; their scale does not matter, each channel is normalised by the training split.
    labels: int64 [N], each in 0..len(classes)-1.
    for_test: how many, the last ones, its makers have set apart as the test set.
    """

    name: str
    origin: str  # a path or a library: where a person would look for the originals
    images: Tensor
    labels: Tensor
    classes: Sequence[str]
    for_test: int = 0
    note: str = ""  # what was found of the originals, and what was left out

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
            wrong = (self.labels < 0) | (self.labels >= len(self.classes))
            raise ValueError(
                f"labels of {self.name} must lie in 0..{len(self.classes) - 1}, but got {int(self.labels[wrong][0])}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """The same for the same pictures and labels in the same order."""
        content = hashlib.sha256(self.images.numpy().tobytes())
        content.update(self.labels.numpy().tobytes())
        return content.hexdigest()[:16]


class Chunk(NamedTuple):
    """Some decoded pictures: uint8 [n, C, H, W]; their labels: int64 [n]."""

    images: Tensor
    labels: Tensor
    for_test: bool = False  # of the test set that its makers have set apart; those come last


@dataclass(frozen=True)
class RawDataset:
    """A labelled set where it lies, not decoded yet.

    `settings` and `files()` say what the decoded pictures depend on: while those are the same, so are these. `decode`
    is called once on each machine; it returns the classes and the pictures, in chunks that fit into memory.
    """

    name: str
    origin: str
    settings: Mapping[str, Any]
    files: Callable[[], Iterable[Path]]
    decode: Callable[[], tuple[Sequence[str], Iterable[Chunk]]]
    note: Callable[[], str] = str  # what was found of them, and what was left out
