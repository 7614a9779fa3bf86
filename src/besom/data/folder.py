"""A person's own pictures as they lie in folders, one a class: what is there, what is left out, and how one is read."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from besom.errors import InputError
from besom.system.storable import storable

# of PIL's formats those that start another program (PostScript: Ghostscript), or whose pictures PIL cannot decode
NEVER = frozenset(("EPS", "PDF", "MPEG", "WMF", "EMF", "BUFR", "GRIB", "HDF5"))
MAX_BYTES = 1 << 28  # of one picture in memory: 9,400 x 9,400 pixels of three colours
NO_FILES = "pipes, devices and sockets"
NAMED = 5  # kinds of files that are left out


@cache
def formats() -> tuple[str, ...]:
    """That are read, by PIL's names; told by a file's content, whatever its name says."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NEVER)


@cache
def endings() -> frozenset[str]:
    """Of names of files that are looked at: `.png`."""
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats())


@dataclass(frozen=True)
class Found:
    """The pictures of a folder, each with the number of its class; and what else lies there, by kind."""

    classes: Sequence[str]
    samples: Sequence[tuple[str, int]]
    skipped: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, folder: Path, where: str) -> Self:
        """Hidden files are nobody's pictures.

        Raises:
            InputError: there are no two classes with pictures; says of the key `where`.
        """
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
        samples: list[tuple[str, int]] = []
        skipped: Counter[str] = Counter()
        for number, name in enumerate(names):
            for path in files(folder / name):
                kind = _kind(path)
                if kind is None:
                    samples.append((str(path), number))
                else:
                    skipped[kind] += 1
        found = cls([storable(name) for name in names], samples, skipped)
        empty = set(range(len(names))) - {number for _, number in samples}
        if empty:
            without = ", ".join(found.classes[number] for number in sorted(empty))
            raise InputError(
                f"{where}: no picture of class {without}{found._skipped()}; add some, or take its folder away"
            )
        if len(names) < 2:
            there = f"only the class {found.classes[0]}" if names else "no folder"
            raise InputError(f"{where}: {there} in it: a classifier needs two classes at least, a folder for each")
        return found

    def __str__(self) -> str:
        """`600 pictures of 3 classes; left out 3 files: .txt 2, .mp4 1`"""
        return f"{len(self.samples)} pictures of {len(self.classes)} classes{self._skipped()}"

    def _skipped(self) -> str:
        if not self.skipped:
            return ""
        named = ", ".join(f"{storable(kind)} {count}" for kind, count in self.skipped.most_common(NAMED))
        more = ", ..." if len(self.skipped) > NAMED else ""
        count = self.skipped.total()
        return f"; left out {count} file{'s' * (count != 1)} that PIL does not read: {named}{more}"


def files(folder: Path) -> Iterator[Path]:
    """In one order on every machine; a folder that a link leads back to is not walked again."""
    walked = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        about = Path(parent).stat()
        if (about.st_dev, about.st_ino) in walked:
            folders.clear()
            continue
        walked.add((about.st_dev, about.st_ino))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _kind(path: Path) -> str | None:
    """None: a picture, by its name; otherwise as what it is left out. Nothing is opened: a pipe would hang."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return NO_FILES
    except OSError:
        return "links to nothing"
    ending = path.suffix.lower()
    return None if ending in endings() else ending or "without an ending"


def picture(path: str, *, size: tuple[int, int], channels: int) -> Tensor:
    """uint8 [C, H, W]; `size`: width, height, as PIL has it.

    Raises:
        InputError: it cannot be read.
    """
    try:
        _refuse_no_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is refused below
            opened = Image.open(path, formats=formats())
        with opened:
            opened.draft(None, size)  # of a JPEG no more is decoded than is needed
            _refuse_too_large(path, opened)
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I"):  # 16 bits, of which PIL would make white
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            resized = upright.convert("RGB" if channels == 3 else "L").resize(size, Image.Resampling.BILINEAR)
    except InputError:
        raise
    except Exception as error:  # each of PIL's formats has its own way to fail
        said = storable(str(error)) or type(error).__name__
        hint = " (PostScript starts another program)" if _is_postscript(path) else ""
        raise InputError(
            f"{storable(path)} is no picture that can be read ({said}){hint}: mend it, or take it away"
        ) from error
    pixels = torch.from_numpy(np.array(resized))
    return pixels.permute(2, 0, 1) if channels == 3 else pixels.unsqueeze(0)


def _refuse_no_file(path: str) -> None:
    """What would hang when it is opened."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise InputError(f"{storable(path)} is no file: take it away")


def _refuse_too_large(path: str, opened: Image.Image) -> None:
    width, height = opened.size
    if width * height * max(3, len(opened.getbands())) > MAX_BYTES:
        raise InputError(
            f"{storable(path)}: {width} x {height} pixels would take more than {MAX_BYTES >> 20} MiB of memory: "
            "make it smaller"
        )


def _is_postscript(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - it may be no UTF-8
            return file.read(4) in (b"%!PS", b"\xc5\xd0\xd3\xc6")
    except OSError:
        return False
