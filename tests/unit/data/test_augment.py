"""Each picture of a batch is changed in its own way, and only in the way that was asked for."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from besom.data.augment import Affine, ColorJitter, Crop, Cutout, Flip

COUNT = 64
PLACES = list(product(range(5), range(5)))


@pytest.fixture(params=[torch.uint8, torch.float32], ids=["bytes", "floats"])
def images(request: pytest.FixtureRequest) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(1, 256, (COUNT, 3, 12, 10)).to(request.param)


def test_flip_turns_some_pictures_and_leaves_the_others(images: Tensor):
    flipped = Flip(0.5)(images)
    turned = [one.equal(was.flip(2)) for one, was in zip(flipped, images, strict=True)]
    same = [one.equal(was) for one, was in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert 10 < sum(turned) < 54


@pytest.mark.parametrize(("p", "expected"), [(0.0, False), (1.0, True)])
def test_flip_of_none_or_all(images: Tensor, p: float, expected: bool):
    assert Flip(p)(images).equal(images.flip(3) if expected else images)


def test_crop_moves_each_picture_by_whole_pixels_of_its_own(images: Tensor):
    cropped = Crop(2)(images)
    padded = v2.functional.pad(images, [2])
    found = set()
    for one, whole in zip(cropped, padded, strict=True):
        windows = {place: whole[:, place[0] : place[0] + 12, place[1] : place[1] + 10] for place in PLACES}
        places = [place for place, window in windows.items() if one.equal(window)]
        assert len(places) == 1
        found.update(places)
    assert len(found) > 15  # of 25
    assert (cropped.dtype, cropped.shape) == (images.dtype, images.shape)


def test_cutout_takes_a_square_out_of_each_picture(images: Tensor):
    cut = Cutout(4)(images)
    gone = cut == 0
    assert gone.any(1).equal(gone.all(1))  # of all channels
    assert cut[~gone].equal(images[~gone])
    sizes = [(one.any(1).sum().item(), one.any(0).sum().item()) for one in gone[:, 0]]
    assert max(sizes) == (4, 4)
    assert all(height in (2, 3, 4) and width in (2, 3, 4) for height, width in sizes)  # over the edge it is smaller
    assert len({tuple(one.flatten().tolist()) for one in gone[:, 0]}) > COUNT // 2


def test_affine_without_a_change_changes_nothing(images: Tensor):
    assert torch.allclose(Affine()(images), images.float(), atol=1e-3)


def test_affine_turns_as_torchvision_does():
    torch.manual_seed(0)
    picture = torch.zeros(1, 1, 32, 32)
    picture[:, :, 8:24, 14:18] = 255
    turned = Affine(degrees=90)(picture.expand(COUNT, -1, -1, -1))
    angles = torch.arange(-90, 91, 1.0)
    bilinear = v2.InterpolationMode.BILINEAR
    by_torchvision = torch.stack([v2.functional.rotate(picture[0], float(a), bilinear) for a in angles])
    nearest = torch.cdist(turned.flatten(1), by_torchvision.flatten(1)).min(1).values
    assert nearest.max() < 400  # of a picture whose own length is 2,040: it is one of them, between two whole degrees
    assert torch.cdist(turned.flatten(1), turned.flatten(1)).max() > 1000


def test_affine_keeps_the_proportions_of_a_picture_that_is_not_square():
    torch.manual_seed(0)
    picture = torch.zeros(1, 1, 20, 60)
    picture[:, :, 5:15, 25:35] = 255
    turned = Affine(degrees=180)(picture.expand(COUNT, -1, -1, -1))
    assert (turned.sum((1, 2, 3)) / picture.sum() - 1).abs().max() < 0.05


def test_affine_moves_and_scales_within_what_was_asked():
    torch.manual_seed(0)
    picture = torch.zeros(COUNT, 1, 40, 40)
    picture[:, :, 15:25, 15:25] = 255
    changed = Affine(translate=0.1, scale=(0.5, 1.5))(picture)
    share = changed.sum((1, 2, 3)) / picture.sum((1, 2, 3))
    assert 0.2 < share.min() < 0.5
    assert 1.5 < share.max() < 2.4
    rows = (changed.sum((1, 3)) * torch.arange(40)).sum(1) / changed.sum((1, 2, 3))
    assert 2 < (rows - 19.5).abs().max() < 4.6


def test_jitter_of_brightness_is_a_factor_of_each_picture(images: Tensor):
    dark = images.float().clamp(max=150)
    jittered = ColorJitter(brightness=0.5)(dark)
    factors = (jittered / dark).flatten(1)
    assert factors.amax(1).allclose(factors.amin(1), rtol=1e-4)
    assert 0.5 <= factors.min() < 0.7
    assert 1.3 < factors.max() <= 1.5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ColorJitter(contrast=0.8), v2.functional.adjust_contrast),
        (ColorJitter(saturation=0.8), v2.functional.adjust_saturation),
    ],
)
def test_contrast_and_saturation_are_torchvisions(ours: ColorJitter, theirs, images: Tensor):
    jittered = ours(images) / 255
    wanted = images.float() / 255
    for one, was in zip(jittered[:8], wanted[:8], strict=True):
        errors = [(theirs(was, factor / 100) - one).abs().max() for factor in range(20, 181)]
        assert min(errors) < 0.02


def test_a_batch_of_grey_pictures_can_be_jittered():
    images = torch.randint(0, 256, (4, 1, 5, 5), dtype=torch.uint8)
    assert ColorJitter(0.2, 0.2, 0.2)(images).shape == images.shape
