"""Each set is decoded once on each machine: the pictures lie in a file that all trials map into their memory.

A set has a folder of its own, named by what its pictures depend on: the source's settings, and the size and the time of
each of its files. It appears whole, by a rename. Whether the files in it are still what was written is told by their
size and time, and where those have changed, by their checksum; a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock

from besom.data.images import Chunk, Images, Originals
from besom.data.pages import scattered
from besom.errors import InputError
from besom.private import is_own_folder
from besom.storable import storable

IMAGES, LABELS, ABOUT, SEEN = "images.u8", "labels.i64", "about.json", "seen.json"
LAYOUT = 1  # of these files; another one is another set

log = logging.getLogger(__name__)


def decoded(originals: Originals) -> Images:
    """From the cache, into which it is decoded where it is not there.

    Raises:
        InputError: the cache cannot be written, or the originals not be read.
    """
    key = _key(originals)
    folder = cache_folder() / f"{originals.name}-{key}"
    if (kept := _read(folder)) is None:
        with FileLock(folder.with_suffix(".lock")):  # one process decodes, the others wait for it
            if (kept := _read(folder)) is None:
                _make(originals, key, folder)
                kept = _read(folder)
    assert kept is not None
    return kept


def cache_folder() -> Path:
    """`BESOM_CACHE`, or a folder of the user's own.

    Raises:
        InputError: it cannot be written.
    """
    named = os.environ.get("BESOM_CACHE")
    own = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "besom"
    spare = Path(tempfile.gettempdir()) / f"besom-{os.getuid()}"  # in a container there may be no home
    for folder in [Path(named)] if named else [own, spare]:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and (folder != spare or is_own_folder(folder)):
            return folder
    raise InputError(f"decoded pictures cannot be kept in {named or own}: set BESOM_CACHE to a folder to write to")


def _key(originals: Originals) -> str:
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


def _read(folder: Path) -> Images | None:
    """None: it is not there, or no longer what was written."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        if _stats(folder) != _loaded(folder / SEEN) and not _is_whole(folder, about["checksum"]):
            log.warning("%s is damaged: its pictures are decoded again", folder)
            return None
    except (OSError, ValueError, KeyError):
        return None
    shape = about["shape"]
    count = shape[0] * shape[1] * shape[2] * shape[3]
    images = Images(
        name=about["name"],
        origin=about["origin"],
        # a private mapping: read from the file when used, shared by all processes, and never written to
        images=scattered(
            torch.from_file(str(folder / IMAGES), shared=False, size=count, dtype=torch.uint8).view(shape)
        ),
        labels=torch.from_file(str(folder / LABELS), shared=False, size=shape[0], dtype=torch.int64),
        classes=about["classes"],
        for_test=about["for_test"],
        note=str(about.get("note", "")),
    )
    vars(images)["digest"] = about["checksum"][:16]  # known; to work it out takes longer than all the rest
    return images


def _is_whole(folder: Path, checksum: str) -> bool:
    """Looked at again only when a file has changed since."""
    content = hashlib.sha256()
    for name in (IMAGES, LABELS):
        with (folder / name).open("rb") as file:
            while some := file.read(1 << 22):
                content.update(some)
    if content.hexdigest() != checksum:
        return False
    write_whole(folder / SEEN, json.dumps(_stats(folder)).encode())
    return True


def _stats(folder: Path) -> dict[str, Any]:
    stats = {name: (folder / name).stat() for name in (IMAGES, LABELS)}
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats.items()}


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _make(originals: Originals, key: str, folder: Path) -> None:
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
            "settings": dict(originals.settings),
        }
        write_whole(new / ABOUT, json.dumps(about, indent=1, default=str).encode())
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


def _checked(chunks: Iterable[Chunk], originals: Originals, classes: Sequence[str]) -> Iterator[Chunk]:
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
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_bytes(content)
    new.replace(path)
