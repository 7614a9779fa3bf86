from __future__ import annotations

import os
import zlib
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
    _paint(tmp_path / "other" / "one.png", 4, 4, RED)

    picture, _ = decoded(image_folder(str(tmp_path), size=[2, 4], channels=1)).images

    assert picture[0, :, 0].max() < 50
    assert picture[0, :, 3].min() > 200


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_colour_mode_are_read(channels, mode, tmp_path):
    (tmp_path / "only").mkdir()
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (5, 5)).save(tmp_path / "only" / f"picture.{suffix}")
    _paint(tmp_path / "other" / "one.png", 4, 4, RED)

    whole = decoded(image_folder(str(tmp_path), size=[4, 4], channels=channels))
    assert whole.images.shape == (2, channels, 4, 4)


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


FORMATS = ("gif", "jp2", "ico", "tga", "jfif", "jpg", "png", "bmp", "webp", "tiff", "ppm")


def test_what_pil_reads_is_used_and_what_is_left_out_is_said(pictures, capsys):
    for name in FORMATS:
        _paint(pictures / "hot" / f"more.{name}", 16, 16, RED)
    (pictures / "hot" / "notes.txt").write_text("")
    (pictures / "cold" / "film.mp4").write_text("")
    os.mkfifo(pictures / "cold" / "pipe.png")

    whole = decoded(image_folder(str(pictures), size=[4, 4], channels=3))

    assert len(whole.images) == 3 + len(FORMATS)
    assert whole.note.startswith(f"{3 + len(FORMATS)} pictures of 2 classes; left out 3 files that PIL does not read: ")
    for kind in (".txt 1", ".mp4 1", "pipes, devices and sockets 1"):
        assert kind in whole.note
    assert whole.note in capsys.readouterr().err


def test_one_class_is_refused(tmp_path):
    _paint(tmp_path / "only" / "one.png", 4, 4, RED)

    with pytest.raises(InputError, match=r"data\.source\.folder=.*: only the class only in it"):
        decoded(image_folder(str(tmp_path), size=[4, 4], channels=3))


@pytest.mark.parametrize("name", ["page.png", "page.jpg"])
def test_postscript_by_whatever_name_starts_no_program(name, pictures):
    Image.new("RGB", (5, 5)).save(pictures / "hot" / "page.eps")
    (pictures / "hot" / "page.eps").rename(pictures / "hot" / name)

    with pytest.raises(InputError, match=rf"{name} is no picture that can be read .*PostScript starts another program"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(pictures):
    Image.new("1", (13300, 13300)).save(pictures / "hot" / "vast.png")

    with pytest.raises(InputError, match=r"vast\.png: 13300 x 13300 pixels would take more than 256 MiB"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_a_text_that_unpacks_to_too_much_is_a_message(pictures):
    chunk = b"zTXt" + b"bomb\0\0" + zlib.compress(b"0" * (1 << 26))
    packed = (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    whole = (pictures / "hot" / "fire.png").read_bytes()
    (pictures / "hot" / "fire.png").write_bytes(whole[:33] + packed + whole[33:])  # behind its header

    with pytest.raises(InputError, match=r"fire\.png is no picture that can be read"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_names_that_are_no_utf_8_are_read(pictures, capsys):
    odd = os.fsdecode(os.fsencode(pictures / "hot") + b"/caf\xe9.png")
    _paint(pictures / "hot" / "more.png", 4, 4, RED)
    (pictures / "hot" / "more.png").rename(odd)
    (pictures / "cold").rename(os.fsdecode(os.fsencode(pictures) + b"/caf\xe9"))

    whole = decoded(image_folder(str(pictures), size=[4, 4], channels=3))

    assert len(whole.images) == 4
    assert whole.classes[0] == "caf\\udce9"
    Path(odd).write_bytes(b"")
    with pytest.raises(InputError, match=r"caf.*udce9\.png is no picture"):
        decoded(image_folder(str(pictures), size=[4, 4], channels=3))


def test_a_folder_that_leads_back_to_itself_ends(pictures):
    (pictures / "hot" / "again").symlink_to(pictures / "hot")

    assert len(decoded(image_folder(str(pictures), size=[4, 4], channels=3)).images) == 3
