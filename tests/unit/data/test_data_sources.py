from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from besom.data import Images, decoded, digits, image_folder
from besom.errors import InputError


# ── the promise of a source ───────────────────────────────────────────────────────────────────────────────────────────
def _images(**other) -> Images:
    fitting = {
        "name": "noise",
        "origin": "a test",
        "images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "classes": ["off", "on"],
    }
    return Images(**{**fitting, **other})


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(4, 1, 2, 2), r"torch\.float32 \[4, 1, 2, 2\]"),
        (torch.zeros(4, 2, 2, dtype=torch.uint8), r"torch\.uint8 \[4, 2, 2\]"),
        (torch.zeros(4, 1, 2, 2, dtype=torch.int64), r"torch\.int64 \[4, 1, 2, 2\]"),
    ],
)
def test_images_are_bytes_by_channel(images, got):
    with pytest.raises(ValueError, match=rf"^images of noise must be uint8 \[N, C, H, W\], but got {got}$"):
        _images(images=images)


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (torch.tensor([0, 1, 0]), r"torch\.int64 \[3\]"),
        (torch.tensor([[0], [1], [0], [1]]), r"torch\.int64 \[4, 1\]"),
        (torch.tensor([0, 1, 0, 1], dtype=torch.int32), r"torch\.int32 \[4\]"),
        (torch.tensor([0.0, 1.0, 0.0, 1.0]), r"torch\.float32 \[4\]"),
    ],
)
def test_labels_are_one_integer_an_image(labels, got):
    with pytest.raises(ValueError, match=rf"^labels of noise must be int64 \[4\], but got {got}$"):
        _images(labels=labels)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_a_class_is_refused(label):
    with pytest.raises(ValueError, match=rf"^labels of noise must lie in 0\.\.1, but got {label}$"):
        _images(labels=torch.tensor([0, 1, 0, label]))


def test_a_digest_is_the_same_for_the_same_pictures_wherever_they_lie():
    assert _images(origin="here").digest == _images(origin="there").digest


@pytest.mark.parametrize(
    "other", [{"labels": torch.tensor([0, 1, 1, 1])}, {"images": torch.ones(4, 1, 2, 2, dtype=torch.uint8)}]
)
def test_a_digest_tells_one_pixel_or_label_from_another(other):
    assert _images(**other).digest != _images().digest


# ── digits ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_digits_are_1797_grey_pictures_of_8_by_8_pixels():
    whole = decoded(digits())

    assert whole.images.shape == (1797, 1, 8, 8)
    assert whole.images.dtype == torch.uint8
    assert (int(whole.images.min()), int(whole.images.max())) == (0, 16)


def test_digits_have_ten_classes_and_each_is_there():
    whole = decoded(digits())

    assert list(whole.classes) == list("0123456789")
    assert whole.labels.dtype == torch.int64
    assert whole.labels.bincount().min() > 170


def test_digits_are_the_same_each_time():
    assert decoded(digits()).digest == decoded(digits()).digest


# ── a folder of pictures ──────────────────────────────────────────────────────────────────────────────────────────────
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _paint(path: Path, width: int, height: int, colour: tuple[int, ...], mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), colour).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Of different sizes, in two classes."""
    folder = tmp_path / "pictures"
    _paint(folder / "cold" / "sea.png", 20, 10, BLUE)
    _paint(folder / "cold" / "wood.png", 7, 9, GREEN)
    _paint(folder / "hot" / "fire.png", 4, 6, RED)
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size_become_bytes_of_the_size_asked(channels, pictures):
    whole = decoded(image_folder(str(pictures), size=[4, 6], channels=channels))

    assert whole.images.shape == (3, channels, 4, 6)
    assert whole.images.dtype == torch.uint8


def test_each_folder_is_a_class(pictures):
    whole = decoded(image_folder(str(pictures), size=[4, 4], channels=3))

    assert whole.classes == ["cold", "hot"]
    assert whole.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_of_pictures_is_named_by_its_last_part(slash, pictures):
    whole = decoded(image_folder(f"{pictures}{slash}", size=[4, 4], channels=3))

    assert (whole.name, whole.origin) == ("pictures", f"{pictures}{slash}")


def test_colours_keep_their_channels(pictures):
    whole = decoded(image_folder(str(pictures), size=[4, 4], channels=3))

    assert [tuple(picture[:, 0, 0].tolist()) for picture in whole.images] == [BLUE, GREEN, RED]


def test_a_resized_picture_is_the_whole_picture(tmp_path):
    striped = Image.new("L", (16, 4), 0)
    striped.paste(255, (12, 0, 16, 4))  # its last quarter is white
    (tmp_path / "only").mkdir()
    striped.save(tmp_path / "only" / "striped.png")

    (picture,) = decoded(image_folder(str(tmp_path), size=[2, 4], channels=1)).images

    assert picture[0, :, 0].max() < 50
    assert picture[0, :, 3].min() > 200


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_colour_mode_are_read(channels, mode, tmp_path):
    (tmp_path / "only").mkdir()
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (5, 5)).save(tmp_path / "only" / f"picture.{suffix}")

    whole = decoded(image_folder(str(tmp_path), size=[4, 4], channels=channels))
    assert whole.images.shape == (1, channels, 4, 4)


def test_a_picture_that_is_cut_off_is_named(pictures):
    broken = pictures / "hot" / "fire.png"
    broken.write_bytes(broken.read_bytes()[:40])

    with pytest.raises(InputError, match=f"^{broken} is no picture that can be read .*: mend it, or take it away"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_a_class_without_a_picture_is_named(pictures):
    (pictures / "empty").mkdir()

    with pytest.raises(InputError, match=r"data.source.folder=.*empty"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_pictures_of_mixed_channels_become_what_is_asked(pictures):
    _paint(pictures / "hot" / "grey.png", 5, 5, 128, "L")

    whole = decoded(image_folder(str(pictures), size=[4, 4], channels=3))
    assert whole.images[3].eq(128).all()
