"""Each set is decoded once on each machine: the pictures lie in a file that all trials map into their memory.

A set has a folder of its own, named by what its pictures depend on: the source's settings, and the size and the time of
each of its files. It appears whole, by a rename.

Whether the files in it are still what was written is told by their checksums, a CRC-32 for each 16 MB: one core
reads 1 to 3 GB/s. A small set is read through whenever it is asked for. A large one is read through once when a sweep
begins and by a training of its own; a sweep's trials look only at the files' size and time, and read them through where
those have changed. A damaged set is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import torch
from filelock import FileLock

from besom.data.images import Chunk, Images, RawDataset
from besom.data.pages import scattered
from besom.errors import InputError
from besom.system.cache import cache_folder
from besom.system.storable import storable

IMAGES, LABELS, ABOUT, SEEN = "images.u8", "labels.i64", "about.json", "seen.json"
LAYOUT = 1  # of these files; another one is another set
PAGE = 16 << 20  # bytes under one checksum
SMALL = 64 << 20  # bytes of pictures that are read through each time, in some 50 ms
READERS = 4  # threads; a checksum is computed outside of Python's lock

_read_through: set[tuple[Path, str]] = set()  # by this process

log = logging.getLogger(__name__)


def decoded(originals: RawDataset, *, verify: bool = False) -> Images:
    """From the cache, into which it is decoded where it is not there.

    `verify`: read a large set through too, once in this process.

    Raises:
        InputError: the cache cannot be written, or the originals not be read.
    """
    key = _key(originals)
    folder = cache_folder() / f"{originals.name}-{key}"
    if (kept := _read(folder, verify=verify)) is None:
        with FileLock(folder.with_suffix(".lock")):  # one process decodes, the others wait for it
            if (kept := _read(folder, verify=verify, says=True)) is None:
                _make(originals, key, folder)
                kept = _read(folder)
    if kept is None:
        raise InputError(
            f"the pictures of {originals.name} were written to {folder}, and are damaged already: check that disk, or "
            "set BESOM_CACHE to a folder on another one"
        )
    return kept


def _key(originals: RawDataset) -> str:
    """Of the files only size and time are asked: to read them all would take as long as to decode them."""
    known = hashlib.sha256(json.dumps([LAYOUT, dict(originals.settings)], sort_keys=True, default=str).encode())
    for path in originals.files():
        try:
            stat = path.stat()
            about = f"{stat.st_size}\0{stat.st_mtime_ns}"
        except FileNotFoundError:  # a link to nothing
            about = ""
        except OSError as error:
            raise InputError(f"{storable(str(path))} cannot be read: {error.strerror}") from error
        known.update(os.fsencode(path) + f"\0{about}\n".encode())
    return known.hexdigest()[:16]


def _read(folder: Path, *, verify: bool = False, says: bool = False) -> Images | None:
    """None: it is not there, or no longer what was written; `says`: which, where it was there."""
    if not folder.is_dir():
        return None
    try:
        about = _opened(json.loads((folder / ABOUT).read_bytes()))
        _refuse_other_sizes(folder, about["shape"])
        if _is_due(folder, about, verify=verify):
            _read_pages(folder, about)
        return _mapped(folder, about)
    except (OSError, ValueError, KeyError) as error:
        if says:
            why = f"{storable(str(error))}" if isinstance(error, OSError | _Damaged) else f"{ABOUT} is of another shape"
            log.warning("%s is damaged (%s): its pictures are decoded again", folder, why)
        return None


class _Damaged(ValueError):  # noqa: N818 - what it is
    """A set is not what was written."""


def _mapped(folder: Path, about: dict[str, Any]) -> Images:
    shape = about["shape"]
    images = Images(
        name=about["name"],
        origin=about["origin"],
        # a private mapping: read from the file when used, shared by all processes, and never written to
        images=scattered(
            torch.from_file(str(folder / IMAGES), shared=False, size=math.prod(shape), dtype=torch.uint8).view(shape)
        ),
        labels=torch.from_file(str(folder / LABELS), shared=False, size=shape[0], dtype=torch.int64),
        classes=about["classes"],
        for_test=about["for_test"],
        note=str(about.get("note", "")),
    )
    vars(images)["digest"] = about["checksum"][:16]  # known; to work it out takes longer than all the rest
    return images


def _opened(about: Any) -> dict[str, Any]:
    """Raises _Damaged: it is not what was sealed."""
    if not isinstance(about, dict) or about.get("seal") != _seal({**about, "seal": None}):
        raise _Damaged(f"{ABOUT} is of another shape than what was written")
    return about


def _seal(about: dict[str, Any]) -> str:
    """Of all that it says, but for the seal itself."""
    return hashlib.sha256(json.dumps({**about, "seal": None}, sort_keys=True).encode()).hexdigest()


def _refuse_other_sizes(folder: Path, shape: list[int]) -> None:
    """Raises _Damaged: torch would map what is not there."""
    for name, size in ((IMAGES, math.prod(shape)), (LABELS, 8 * shape[0])):
        if (found := (folder / name).stat().st_size) != size:
            raise _Damaged(f"{name} has {found} bytes of {size}")


def _is_due(folder: Path, about: dict[str, Any], *, verify: bool) -> bool:
    """Whether the files are to be read through now."""
    if _stats(folder) != _loaded(folder / SEEN) or math.prod(about["shape"]) <= SMALL:
        return True
    return verify and (folder, about["checksum"]) not in _read_through


def _read_pages(folder: Path, about: dict[str, Any]) -> None:
    """Raises _Damaged: they are not what was written."""
    for name in (LABELS, IMAGES):
        pairs = zip(_pages(folder / name), about["pages"][name], strict=True)
        for number, (found, written) in enumerate(pairs):
            if found != written:
                raise _Damaged(f"{name} has changed between byte {number * PAGE} and {(number + 1) * PAGE}")
    _read_through.add((folder, about["checksum"]))
    if (stats := _stats(folder)) != _loaded(folder / SEEN):
        write_whole(folder / SEEN, json.dumps(stats).encode())


def _pages(path: Path) -> list[int]:
    """The checksum of each."""
    with path.open("rb") as file, ThreadPoolExecutor(READERS) as readers:

        def checksum(begin: int) -> int:
            found, at = 0, begin
            while at < begin + PAGE and (some := os.pread(file.fileno(), min(1 << 20, begin + PAGE - at), at)):
                found, at = zlib.crc32(some, found), at + len(some)
            return found

        return list(readers.map(checksum, range(0, path.stat().st_size, PAGE)))


def _stats(folder: Path) -> dict[str, Any]:
    stats = {name: (folder / name).stat() for name in (IMAGES, LABELS)}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats.items()}


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _make(originals: RawDataset, key: str, folder: Path) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed on the way
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        classes, chunks = originals.decode()
        written = _Written.of(_checked(chunks, originals, classes), new)
        if _key(originals) != key:
            raise InputError(
                f"the files in {originals.origin} have changed while they were read: begin again when they are at rest"
            )
        about = {
            "name": originals.name,
            "origin": originals.origin,
            "classes": list(classes),
            "shape": written.shape,
            "for_test": written.for_test,
            "note": originals.note(),
            "checksum": written.checksum,
            "pages": {name: _pages(new / name) for name in (IMAGES, LABELS)},
            "settings": dict(originals.settings),
        }
        about = json.loads(json.dumps(about, default=str))
        write_whole(new / ABOUT, json.dumps({**about, "seal": _seal(about)}, indent=1).encode())
        write_whole(new / SEEN, json.dumps(_stats(new)).encode())
        if folder.exists():  # damaged; who has it mapped keeps what it has
            folder.rename(new / "damaged")
        new.rename(folder)
        shutil.rmtree(folder / "damaged", ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the pictures of {originals.name} cannot be kept in {folder.parent}: {error.strerror or error}; "
            "set BESOM_CACHE to a folder with room for them"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _checked(chunks: Iterable[Chunk], originals: RawDataset, classes: Sequence[str]) -> Iterator[Chunk]:
    shape = None
    for chunk in chunks:
        try:
            some = Images(originals.name, originals.origin, chunk.images, chunk.labels, classes)
        except ValueError as error:
            raise InputError(f"{originals.origin}: {error}") from error
        shape = shape or some.images.shape[1:]
        if some.images.shape[1:] != shape:
            raise InputError(
                f"{originals.origin}: pictures of {originals.name} are {list(shape)}, others "
                f"{list(some.images.shape[1:])} (channels, height, width): make them one size"
            )
        yield chunk


@dataclass(frozen=True)
class _Written:
    shape: list[int]
    for_test: int
    checksum: str

    @classmethod
    def of(cls, chunks: Iterable[Chunk], folder: Path) -> Self:
        """One chunk in memory at a time. Nothing of it is kept: a few labels would keep the memory around them too."""
        shape, for_test, content = [0, 0, 0, 0], 0, hashlib.sha256()
        with (folder / IMAGES).open("wb") as images, (folder / LABELS).open("wb") as labels:
            for chunk in chunks:
                pixels = chunk.images.contiguous().numpy().tobytes()
                images.write(pixels)
                content.update(pixels)
                labels.write(chunk.labels.contiguous().numpy().tobytes())
                shape = [shape[0] + len(chunk.images), *chunk.images.shape[1:]]
                for_test += len(chunk.images) if chunk.for_test else 0
        content.update((folder / LABELS).read_bytes())
        return cls(shape, for_test, content.hexdigest())


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing, for whoever reads it meanwhile."""
    new = path.with_name(f"{path.name}.{uuid4().hex}")  # a process's number is another's, too: in a container beside
    new.write_bytes(content)
    new.replace(path)
