"""A set is decoded once on a machine, whoever asks, and whatever has happened to what was kept of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from besom.data import Chunk, Images, RawDataset, decoded
from besom.data.cache import write_whole
from besom.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BESOM_CACHE", str(folder))
    return folder


PICTURES = torch.arange(6 * 3 * 2 * 2, dtype=torch.uint8).view(6, 3, 2, 2)
LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


class Counted:
    """RawDataset of two chunks, and how often they were decoded."""

    def __init__(self, *files: Path, **settings: object) -> None:
        self.times = 0
        self.originals = RawDataset("noise", "a test", settings, lambda: files, self._decode)

    def _decode(self) -> tuple[list[str], list[Chunk]]:
        self.times += 1
        return ["off", "on"], [Chunk(PICTURES[:4], LABELS[:4]), Chunk(PICTURES[4:], LABELS[4:], for_test=True)]


def the_folder(cache: Path) -> Path:
    (found,) = (path for path in cache.iterdir() if path.is_dir())
    return found


def assert_whole(images: Images) -> None:
    assert images.images.equal(PICTURES)
    assert images.labels.equal(LABELS)
    assert list(images.classes) == ["off", "on"]
    assert images.for_test == 2


def test_what_is_decoded_is_what_the_source_has():
    assert_whole(decoded(Counted().originals))


def test_it_is_decoded_once():
    first, again = Counted(), Counted()
    decoded(first.originals)
    assert_whole(decoded(again.originals))
    assert (first.times, again.times) == (1, 0)


def test_its_digest_is_that_of_the_same_pictures_in_memory():
    kept = decoded(Counted().originals)
    assert kept.digest == Images("other", "memory", PICTURES, LABELS, ["a", "b"]).digest


def test_other_settings_are_another_set():
    decoded(Counted(size=1).originals)
    other = Counted(size=2)
    decoded(other.originals)
    assert other.times == 1


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text("longer"), lambda path: os.utime(path, (0, 0))], ids=["size", "time"]
)
def test_a_changed_file_is_another_set(tmp_path: Path, change: Callable[[Path], object]):
    path = tmp_path / "picture"
    path.write_text("one")
    decoded(Counted(path).originals)
    change(path)
    other = Counted(path)
    decoded(other.originals)
    assert other.times == 1


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unnoticed(change: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """As a bad disk does it: its size, its time and its inode stay as they were."""

    def damage(folder: Path) -> None:
        stat = (folder / name).stat()
        change(folder / name)
        os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    return damage


def other_about(**changes: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / "about.json"
        about = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a pixel": lambda folder: flip_a_byte(folder / "images.u8"),
    "a label": lambda folder: flip_a_byte(folder / "labels.i64"),
    "half the pictures": lambda folder: os.truncate(folder / "images.u8", 20),
    "no pictures": lambda folder: (folder / "images.u8").unlink(),
    "no labels": lambda folder: (folder / "labels.i64").unlink(),
    "half of what it is": lambda folder: os.truncate(folder / "about.json", 20),
    "nothing of what it is": lambda folder: (folder / "about.json").unlink(),
    "a pixel, unnoticed": unnoticed(flip_a_byte, "images.u8"),
    "a label, unnoticed": unnoticed(flip_a_byte, "labels.i64"),
    "a byte of what it is": unnoticed(flip_a_byte, "about.json"),
    "a list": lambda folder: (folder / "about.json").write_text("[]"),
    "a number": lambda folder: (folder / "about.json").write_text("42"),
    "no UTF-8": lambda folder: (folder / "about.json").write_bytes(b"\xff\0"),
    "no shape": other_about(shape=None),
    "no checksum": other_about(checksum=None),
    "a negative shape": other_about(shape=[-6, -3, 2, 2]),
    "a huge shape": other_about(shape=[10**9, 3, 2, 2]),
    "a shape of words": other_about(shape=["6", 3, 2, 2]),
    "a smaller shape": other_about(shape=[5, 3, 2, 2]),
    "other classes": other_about(classes=["on"]),
    "classes that are none": other_about(classes=7),
    "more of a test set than there is": other_about(for_test=100),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_damaged_is_made_again_with_a_word(cache: Path, damage: str, caplog: pytest.LogCaptureFixture):
    decoded(Counted().originals)
    folder = the_folder(cache)
    DAMAGE[damage](folder)
    again = Counted()
    assert_whole(decoded(again.originals))
    assert again.times == 1
    assert caplog.text.count(f"{folder} is damaged") == 1
    assert_whole(decoded(Counted().originals))


def test_a_large_set_is_read_through_once_where_that_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("besom.data.cache.SMALL", 0)
    monkeypatch.setattr("besom.data.cache.PAGE", 7)
    decoded(Counted().originals)
    DAMAGE["a pixel, unnoticed"](the_folder(cache))
    trial = Counted()
    decoded(trial.originals)
    assert trial.times == 0
    begin = Counted()
    assert_whole(decoded(begin.originals, verify=True))
    assert begin.times == 1


def test_a_disk_that_keeps_nothing_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("besom.data.cache._read_pages", _fail)
    with pytest.raises(InputError, match="are damaged already: check that disk, or set BESOM_CACHE"):
        decoded(Counted().originals)


def _fail(*_: object) -> None:
    raise ValueError("other bytes")


@pytest.mark.parametrize("name", ["images.u8", "seen.json"])
def test_what_was_only_touched_is_kept(cache: Path, name: str):
    decoded(Counted().originals)
    os.utime(the_folder(cache) / name, (0, 0))
    again = Counted()
    assert_whole(decoded(again.originals))
    assert again.times == 0


def test_pictures_in_use_stay_as_they_are_while_they_are_made_again(cache: Path):
    used = decoded(Counted().originals)
    flip_a_byte(the_folder(cache) / "labels.i64")
    decoded(Counted().originals)
    assert used.images.equal(PICTURES)


def test_a_picture_that_is_written_to_is_written_to_by_this_process_alone():
    mine = decoded(Counted().originals)
    mine.images.zero_()
    assert_whole(decoded(Counted().originals))


PROCESS = """
import os, signal, sys, time
from pathlib import Path
import torch
from besom.data import Chunk, RawDataset, decoded

def decode():
    with open("decoded", "a") as log:
        print(os.getpid(), file=log)
    def chunks():
        yield Chunk(torch.ones(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
        if "killed" in sys.argv:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Chunk(torch.ones(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    return ["one"], chunks()

print(len(decoded(RawDataset("made", "a test", {}, tuple, decode)).labels))
"""


def test_a_process_that_was_killed_on_the_way_leaves_nothing(cache: Path, tmp_path: Path):
    killed = subprocess.run([sys.executable, "-c", PROCESS, "killed"], cwd=tmp_path, check=False)
    assert killed.returncode == -9
    done = subprocess.run([sys.executable, "-c", PROCESS], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "8\n"
    assert len((tmp_path / "decoded").read_text().split()) == 2
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_of_many_processes_one_decodes_and_the_others_wait_for_it(tmp_path: Path):
    words = [sys.executable, "-c", PROCESS]
    at_once = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in at_once] == ["8\n"] * 4
    assert len((tmp_path / "decoded").read_text().split()) == 1


def test_a_cache_that_cannot_be_written_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BESOM_CACHE", "/dev/null/cache")
    with pytest.raises(InputError, match=r"nothing can be kept in /dev/null/cache: set BESOM_CACHE to a folder"):
        decoded(Counted().originals)


def test_a_folder_that_changes_while_it_is_read_is_refused(cache: Path, tmp_path: Path):
    growing = tmp_path / "growing"
    growing.write_text("so far")

    def decode() -> tuple[list[str], list[Chunk]]:
        growing.write_text("so far, and more")
        return ["off", "on"], [Chunk(PICTURES, LABELS)]

    with pytest.raises(InputError, match="a test have changed while they were read"):
        decoded(RawDataset("noise", "a test", {}, lambda: [growing], decode))
    assert not [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (Chunk(PICTURES[:, :1], LABELS), r"pictures of noise are \[3, 2, 2\], others \[1, 2, 2\]"),
        (Chunk(PICTURES.float(), LABELS), r"must be uint8 \[N, C, H, W\], but got torch.float32"),
        (Chunk(PICTURES, LABELS + 1), r"labels of noise must lie in 0..1, but got 2"),
        (Chunk(PICTURES, LABELS[:2]), r"must be int64 \[6\], but got torch.int64 \[2\]"),
    ],
)
def test_what_cannot_be_a_set_is_refused_and_not_kept(cache: Path, second: Chunk, said: str):
    def decode() -> tuple[list[str], list[Chunk]]:
        return ["off", "on"], [Chunk(PICTURES, LABELS), second]

    with pytest.raises(InputError, match=f"^a test: .*{said}"):
        decoded(RawDataset("noise", "a test", {}, tuple, decode))
    assert not [path for path in cache.iterdir() if path.is_dir()]


NO_ROOM = """
import resource, sys
from besom.data import decoded, fake
from besom.errors import InputError

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # no file grows further: as on a full disk, write fails halfway
try:
    decoded(fake(n=100, size=[16, 16], channels=3, classes=2, seed=0))
except InputError as error:
    print(error)
"""


def test_of_a_set_for_which_there_is_no_room_nothing_is_left(cache: Path):
    done = subprocess.run([sys.executable, "-c", NO_ROOM], check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"the pictures of fake cannot be kept in {cache}: File too large; set BESOM_CACHE")
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_two_who_write_one_file_at_once_do_not_meet(tmp_path):
    def write(_):
        for _ in range(200):
            write_whole(tmp_path / "file", b"whole" * 1000)

    with ThreadPoolExecutor(4) as several:
        list(several.map(write, range(4)))

    assert [path.name for path in tmp_path.iterdir()] == ["file"]
