"""The DataModule: batches taken by index as whole tensors, normalised and augmented on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pytorch_lightning as pl
import torch
from torch import Tensor

from besom.config.schema import MemoryFormat
from besom.data.images import Images
from besom.data.pages import ask_for
from besom.data.parts import Splits

Batch = tuple[Tensor, Tensor]
MEMORY_FORMATS = {"contiguous": "contiguous_format", "channels_last": "channels_last"}  # torch's names
SHARE = 0.25  # of a GPU's free memory that a part's pictures may take


@dataclass
class Batches:
    """Of the `rows` of a set, those that are this process's share; each batch is one indexing operation.

    `order` gives the rows of an epoch anew, for training; None: as they are.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    size: int
    rank: int = 0
    processes: int = 1
    order: Callable[[int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self._sizes())

    def __iter__(self) -> Iterator[Batch]:
        rows = self.rows
        if self.order:
            rows = rows[self.order(len(rows))]
            # a step is taken by all processes together: the last ones begin again
            rows = torch.cat([rows, rows])[: self._share() * self.processes]
        mine = rows[self.rank :: self.processes].to(self.images.device)
        sizes = self._sizes()
        batches = torch.split(mine[: sum(sizes)], sizes)
        ask_for(self.images, mine[: self.size])
        for some, following in zip_longest(batches, batches[1:], fillvalue=mine[:0]):
            ask_for(self.images, following)  # they come from the disk while this batch is computed
            # whole pictures are copied: twenty times faster than indexing their pixels
            yield self.images.index_select(0, some), self.labels.index_select(0, some)

    def _share(self) -> int:
        return -(-len(self.rows) // self.processes)

    def _sizes(self) -> list[int]:
        left = self._share() if self.order else len(range(self.rank, len(self.rows), self.processes))
        whole, rest = divmod(left, self.size)
        if rest == 1 and whole and self.order:  # batch norm cannot train on one image
            rest = 0
        return [self.size] * whole + [rest] * bool(rest)


class ImageData(pl.LightningDataModule):
    """Batches of (images: float32 [B, C, H, W], normalised; labels: int64 [B]).

    `augment` changes the pictures of a training batch (uint8 [B, C, H, W]), and no others. The test part is taken only
    for `trainer.test`.
    """

    def __init__(
        self,
        whole: Images,
        parts: Splits,
        batch_size: int,
        seed: int,
        augment: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> None:
        super().__init__()
        self.whole = whole
        self.parts = parts
        self.num_classes = len(whole.classes)
        self.input_shape = whole.shape
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment
        self.memory_format: MemoryFormat = "contiguous"  # of the batches: or channels_last, as the network has it
        self._mean, self._std = parts.mean.view(1, -1, 1, 1), parts.std.view(1, -1, 1, 1)

    def train_dataloader(self) -> Batches:
        return self._batches(self.parts.train, self._order)

    def val_dataloader(self) -> Batches:
        return self._batches(self.parts.val)

    def test_dataloader(self) -> Batches:
        return self._batches(self.parts.test)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: a quarter of the bytes travel."""
        images, labels = batch
        if self.trainer and self.trainer.training:
            for step in self._augment:
                images = step(images)
        return self.normalised(images, self.memory_format), labels

    def normalised(self, images: Tensor, memory_format: MemoryFormat) -> Tensor:
        """As the source has them → float32; over the training part each channel has mean 0 and deviation 1."""
        self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        pixels = images.float().sub_(self._mean).div_(self._std)
        return pixels.contiguous(memory_format=getattr(torch, MEMORY_FORMATS[memory_format]))

    def _order(self, length: int) -> Tensor:
        """An epoch's own: a run that goes on from a checkpoint goes on with the order it would have had."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return torch.randperm(length, generator=torch.Generator().manual_seed((self._seed << 20) + epoch))

    def _batches(self, rows: Tensor, order: Callable[[int], Tensor] | None = None) -> Batches:
        images, labels, trainer = self.whole.images, self.whole.labels, self.trainer
        if trainer is None:
            return Batches(images, labels, rows, self._batch_size, order=order)
        device = trainer.strategy.root_device
        if device.type == "cuda" and len(rows) * images[0].numel() < SHARE * torch.cuda.mem_get_info(device)[0]:
            ask_for(images, rows)  # they travel once
            images, labels, rows = images[rows].to(device), labels[rows].to(device), torch.arange(len(rows))
        return Batches(images, labels, rows, self._batch_size, trainer.global_rank, trainer.world_size, order)
