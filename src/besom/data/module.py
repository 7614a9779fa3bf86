"""The DataModule: a seeded, shuffled, stratified split; batches taken by index as whole tensors."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from besom.data.sources import Images
from besom.errors import InputError

Batch = tuple[Tensor, Tensor]


class Split(Dataset[Batch]):
    """One part of the images. A batch is one indexing operation, not a loop over samples."""

    def __init__(self, whole: Images, rows: Tensor) -> None:
        self.images = whole.images[rows]
        self.labels = whole.labels[rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Batch:
        return self.images[row], self.labels[row]

    def __getitems__(self, rows: list[int]) -> Batch:
        """What torch's fetcher asks for when it is there: a whole batch at once."""
        return self.images[rows], self.labels[rows]


class ImageData(pl.LightningDataModule):
    """Batches of (images: float32 [B, C, H, W], normalised; labels: int64 [B]).

    `val_split` and `test_split` are shares of the whole set. The test split is built only for `trainer.test`.
    """

    def __init__(self, whole: Images, batch_size: int, val_split: float, test_split: float, seed: int) -> None:
        super().__init__()
        self.whole = whole
        self.num_classes = len(whole.classes)
        self.input_shape: tuple[int, int, int] = tuple(whole.images.shape[1:])  # type: ignore[assignment]
        self._batch_size = batch_size
        self._seed = seed
        self.rows = _split(whole, val_split, test_split, seed)
        self.train = Split(whole, self.rows["train"])
        pixels = self.train.images.float()
        self._mean = pixels.mean(dim=(0, 2, 3)).view(1, -1, 1, 1)
        # a channel that never changes carries nothing: leave it at 0 instead of dividing by 0
        self._std = pixels.std(dim=(0, 2, 3)).clamp_min(1e-6).view(1, -1, 1, 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        order = torch.Generator().manual_seed(self._seed)
        # batch norm cannot train on one image
        leaves_one = len(self.train) % self._batch_size == 1
        return self._loader(self.train, shuffle=True, generator=order, drop_last=leaves_one and len(self.train) > 1)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(Split(self.whole, self.rows["val"]))

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(Split(self.whole, self.rows["test"]))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise on the device: a quarter of the bytes travel."""
        images, labels = batch
        return (images.float() - self._mean.to(images.device)) / self._std.to(images.device), labels

    def _loader(self, split: Split, **options: object) -> DataLoader[Batch]:
        return DataLoader(split, batch_size=self._batch_size, collate_fn=_as_is, **options)  # type: ignore[arg-type]


def _as_is(batch: Batch) -> Batch:
    """`__getitems__` has already made the batch."""
    return batch


def _split(whole: Images, val_split: float, test_split: float, seed: int) -> dict[str, Tensor]:
    """Row numbers of train, val and test: disjoint, together all rows, each class in its share."""
    rows = torch.arange(len(whole.labels))
    try:
        rest, test = train_test_split(rows, test_size=test_split, stratify=whole.labels, random_state=seed)
        train, val = train_test_split(
            rest, test_size=val_split / (1 - test_split), stratify=whole.labels[rest], random_state=seed
        )
    except ValueError as error:  # a class with too few images, a split with fewer images than classes
        raise InputError(
            f"data: {whole.name} ({len(rows)} images, {len(whole.classes)} classes) cannot be split with "
            f"val_split={val_split} and test_split={test_split}: {error}"
        ) from error
    return {"train": torch.as_tensor(train), "val": torch.as_tensor(val), "test": torch.as_tensor(test)}
