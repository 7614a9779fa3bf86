"""A seeded, shuffled, stratified split, and what the training part says of each channel; worked out once a machine."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from besom.data.cache import write_whole
from besom.data.images import Images
from besom.data.pages import ask_for
from besom.errors import InputError
from besom.system.cache import cache_folder

AT_ONCE = 1 << 25  # values in memory while the channels are counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Row numbers of train, val and test: int64, disjoint, together all rows, each class in its share.

    mean, std: float32 [C], of the training part's pixels and no others.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    mean: Tensor
    std: Tensor

    @property
    def sizes(self) -> dict[str, int]:
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    @classmethod
    def of(cls, whole: Images, val_split: float, test_split: float | None, seed: int) -> Self:
        """`val_split` and `test_split` are shares of the whole set. `test_split` None: the test set of its makers.

        Raises:
            InputError: it cannot be split so.
        """
        known_by = f"{whole.digest} {whole.for_test} {val_split!r} {test_split!r} {seed}"
        kept = cache_folder() / f"split-{hashlib.sha256(known_by.encode()).hexdigest()[:16]}.npz"
        if (parts := cls._loaded(kept)) is None:
            train, val, test = _split(whole, val_split, test_split, seed)
            parts = cls(train, val, test, *_statistics(whole.images, train))
            parts._keep(kept)
        return parts

    @classmethod
    def _loaded(cls, path: Path) -> Self | None:
        try:
            with np.load(path) as arrays:
                return cls(*(torch.from_numpy(arrays[field.name]) for field in fields(cls)))
        except Exception:  # not there, or not whole: whatever a damaged archive raises
            return None

    def _keep(self, path: Path) -> None:
        content = io.BytesIO()
        np.savez(content, **{field.name: getattr(self, field.name).numpy() for field in fields(self)})
        try:
            write_whole(path, content.getvalue())
        except OSError as error:  # it is worked out again, by everybody
            log.warning("%s cannot be kept: %s", path, error)


def _split(whole: Images, val_split: float, test_split: float | None, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    from sklearn.model_selection import train_test_split

    rows = torch.arange(len(whole.labels))
    if test_split is None and not whole.for_test:
        raise InputError(f"data.test_split=null: {whole.name} has no test set of its makers: set data.test_split=0.2")
    try:
        if test_split is None:
            rest, test = rows[: -whole.for_test], rows[-whole.for_test :]
        else:
            rest, test = train_test_split(rows, test_size=test_split, stratify=whole.labels, random_state=seed)
        share = val_split * len(rows) / len(rest)
        train, val = train_test_split(rest, test_size=share, stratify=whole.labels[rest], random_state=seed)
    except ValueError as error:  # a class with too few images, a split with fewer images than classes
        raise InputError(
            f"data: {whole.name} ({len(rows)} images, {len(whole.classes)} classes) cannot be split with "
            f"val_split={val_split} and test_split={test_split}: {error}"
        ) from error
    return torch.as_tensor(train), torch.as_tensor(val), torch.as_tensor(test)


def _statistics(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Exact: of each channel's 256 possible values it is counted how often they come."""
    channels = images.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    # in the order of the file: one that does not fit into memory is then read once, from its begin to its end
    for some in torch.split(rows.sort().values, max(1, AT_ONCE // images[0].numel())):
        ask_for(images, some)
        pixels = images.index_select(0, some)
        for channel in range(channels):
            counts[channel] += torch.bincount(pixels[:, channel].flatten(), minlength=256)
    total, values = counts.sum(1).double(), torch.arange(256, dtype=torch.float64)
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean.view(-1, 1)) ** 2).sum(1) / (total - 1)
    # a channel that never changes carries nothing: leave it at 0 instead of dividing by 0
    return mean.float(), variance.sqrt().clamp_min(1e-6).float()
