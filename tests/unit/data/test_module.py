from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from besom.data import Batches, ImageData, Images, Splits, decoded, digits
from besom.errors import InputError

DIGITS = decoded(digits())
SPLITS = ("train", "val", "test")


def _data(
    whole: Images = DIGITS, batch_size: int = 32, val: float = 0.2, test: float = 0.2, seed: int = 0
) -> ImageData:
    return ImageData(whole, _parts(whole, val, test, seed), batch_size, seed)


def _parts(whole: Images = DIGITS, val: float = 0.2, test: float | None = 0.2, seed: int = 0) -> Splits:
    return Splits.of(whole, val, test, seed)


def _noise(images: int, classes: int = 2) -> Images:
    pixels = torch.randint(0, 256, (images, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images("noise", "a test", pixels, torch.arange(images) % classes, [str(name) for name in range(classes)])


def _batches(data: ImageData, loader: Batches) -> list[tuple[Tensor, Tensor]]:
    """As Lightning hands them to the module."""
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


# ── the split ─────────────────────────────────────────────────────────────────────────────────────────────────────────
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.05, 0.45)
a_few = settings(max_examples=15)


@a_few
@given(seeds, fractions, fractions)
def test_every_image_is_in_one_split_only(seed, val, test):
    parts = _parts(val=val, test=test, seed=seed)

    assert torch.cat([getattr(parts, split) for split in SPLITS]).sort().values.tolist() == list(
        range(len(DIGITS.labels))
    )


@a_few
@given(seeds, fractions, fractions)
def test_each_split_has_its_share_of_each_class(seed, val, test):
    parts = _parts(val=val, test=test, seed=seed)

    whole = DIGITS.labels.bincount()
    for split, share in {"train": 1 - val - test, "val": val, "test": test}.items():
        there = DIGITS.labels[getattr(parts, split)].bincount(minlength=10)
        assert (there - share * whole).abs().max() <= 2  # rounded twice, an image each


@a_few
@given(seeds, fractions, fractions)
def test_a_seed_gives_the_same_split_again(seed, val, test):
    first, again = _parts(val=val, test=test, seed=seed), _parts(val=val, test=test, seed=seed)

    assert all(getattr(first, split).equal(getattr(again, split)) for split in SPLITS)


def test_another_seed_gives_another_split():
    assert not _parts(seed=0).test.equal(_parts(seed=1).test)


@pytest.mark.parametrize(
    ("whole", "val", "test"),
    [
        (_noise(2), 0.2, 0.2),  # one image a class
        (_noise(40, classes=10), 0.1, 0.1),  # four images cannot hold ten classes
        (DIGITS, 0.5, 0.499),  # nothing left to train on
    ],
)
def test_a_split_too_small_for_its_classes_is_refused(whole, val, test):
    with pytest.raises(InputError, match=rf"^data: {whole.name} .* cannot be split with val_split={val} and test_spl"):
        _parts(whole, val=val, test=test)


# ── the batches ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("split", SPLITS)
def test_a_split_hands_out_each_of_its_images_once_with_its_label(split):
    data = _data(batch_size=50)

    batches = list(getattr(data, f"{split}_dataloader")())

    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    rows = getattr(data.parts, split)
    pictures = {tuple(picture.flatten().tolist()): int(label) for picture, label in zip(images, labels, strict=True)}
    assert len(labels) == len(rows)
    assert pictures == {tuple(DIGITS.images[row].flatten().tolist()): int(DIGITS.labels[row]) for row in rows}


def test_a_batch_is_normalised_floats_and_integer_labels():
    data = _data(batch_size=50)

    images, labels = _batches(data, data.train_dataloader())[0]

    assert (images.shape, images.dtype) == ((50, 1, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((50,), torch.int64)


def test_shape_and_number_of_classes_are_known_before_the_first_batch():
    data = _data(_noise(100, classes=4))

    assert (data.input_shape, data.num_classes) == ((3, 4, 4), 4)


@pytest.mark.parametrize("whole", [DIGITS, _noise(200)], ids=["digits", "colours"])
def test_each_channel_of_the_training_split_has_mean_0_and_deviation_1(whole):
    data = _data(whole, batch_size=10)

    pixels = torch.cat([images for images, _ in _batches(data, data.train_dataloader())])

    assert pixels.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (pixels.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-4


def _inverted(whole: Images, rows: Tensor) -> Images:
    pixels = whole.images.clone()
    pixels[rows] = 255 - pixels[rows]
    return replace(whole, images=pixels)


@pytest.mark.parametrize("hidden", ["val", "test"])
def test_no_pixel_outside_the_training_split_changes_a_training_batch(hidden):
    data = _data()
    other = _data(_inverted(DIGITS, getattr(data.parts, hidden)))

    for (images, _), (same, _) in zip(
        _batches(data, data.train_dataloader()), _batches(other, other.train_dataloader()), strict=True
    ):
        assert images.equal(same)


@pytest.mark.parametrize("split", ["val", "test"])
def test_other_splits_are_normalised_as_the_training_split_is(split):
    data = _data()
    other = _data(_inverted(DIGITS, data.parts.train))

    (images, _), *_ = _batches(data, getattr(data, f"{split}_dataloader")())
    (changed, _), *_ = _batches(other, getattr(other, f"{split}_dataloader")())

    assert not images.allclose(changed)


def test_a_channel_that_never_changes_stays_finite():
    whole = _noise(100)
    whole.images[:, 1] = 7

    data = _data(whole)

    for images, _ in _batches(data, data.train_dataloader()):
        assert images[:, 1].eq(0).all()


def _order(loader: Batches) -> list[int]:
    return torch.cat([images.flatten(1).long() @ torch.arange(64) for images, _ in loader]).tolist()


ADVICE = pytest.mark.filterwarnings("ignore")  # of Lightning, to whoever trains


class _Listener(pl.LightningModule):
    """What it is given to train on, epoch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.heard: list[list[float]] = []

    def on_train_epoch_start(self) -> None:
        self.heard.append([])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.heard[-1] += batch[0].flatten(1).sum(1).tolist()
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _heard(epochs: int, folder: Path, ckpt_path: Path | None = None) -> list[list[float]]:
    module = _Listener()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, datamodule=_data(), ckpt_path=ckpt_path)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module.heard


@ADVICE
def test_each_epoch_has_an_order_of_its_own(tmp_path):
    first, second = _heard(2, tmp_path)

    assert first != second
    assert sorted(first) == pytest.approx(sorted(second))


@ADVICE
def test_a_run_that_goes_on_has_the_orders_it_would_have_had(tmp_path):
    whole = _heard(3, tmp_path)
    begun = _heard(1, tmp_path)

    assert begun + _heard(3, tmp_path, tmp_path / "last.ckpt") == whole


def test_a_seed_gives_the_same_orders_again():
    first, again = _data().train_dataloader(), _data().train_dataloader()

    assert [_order(first) for _ in range(3)] == [_order(again) for _ in range(3)]


def test_another_seed_gives_another_order():
    whole = _noise(100)

    def positions(seed: int) -> list[int]:
        """Where in the training split the images of the first epoch lie."""
        data = _data(whole, seed=seed)
        images = torch.cat([images for images, _ in data.train_dataloader()])
        there = whole.images[data.parts.train]
        same = images.flatten(1)[:, None].eq(there.flatten(1)).all(dim=2)
        return same.int().argmax(dim=1).tolist()

    assert positions(seed=0) != positions(seed=1)


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_is_not_trained_on_keeps_its_order(split):
    loader = getattr(_data(), f"{split}_dataloader")()

    assert _order(loader) == _order(loader)


def test_a_last_batch_of_a_single_image_is_left_out_for_batch_norm_cannot_take_one():
    data = _data(_noise(100), batch_size=59)  # 60 to train on

    assert [len(labels) for _, labels in data.train_dataloader()] == [59]


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 60), (7, 9), (60, 1), (100, 1)])
def test_no_other_image_is_left_out(batch_size, batches):
    sizes = [len(labels) for _, labels in _data(_noise(100), batch_size).train_dataloader()]

    assert (sum(sizes), len(sizes)) == (60, batches)


def test_training_on_a_single_image_has_one_batch():
    data = _data(_noise(3, classes=1), batch_size=4, val=0.3, test=0.3)

    assert [len(labels) for _, labels in data.train_dataloader()] == [1]
