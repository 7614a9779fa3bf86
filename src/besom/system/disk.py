"""A disk that is full, or a quota that is spent: nobody's fault, and to be told as what it is."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from besom.config.redaction import redact
from besom.errors import RunError
from besom.system.storable import on_one_line, storable

FULL = (errno.ENOSPC, errno.EDQUOT)
# how it is told by who keeps no error number: libc, SQLite, PostgreSQL, CUDA's and others' own files
WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full", "could not extend file")
# torch's checkpoints: a write has failed, and it does not say why
TORCHS = ("pytorchstreamwriter failed writing file", "inline_container.cc", "unexpected pos")
PROBE = 1 << 16  # bytes
LONGEST = 10_000  # characters of an exception that are looked at


class DiskFull(RunError):  # noqa: N818 - what happened
    """A file could not be written for want of space."""


def full_disk(error: BaseException, folder: Path | None = None) -> str:
    """What of an exception and its causes says that a disk is full, in its words; nothing where none does.

    `folder`: where it has probably written. That is looked at where torch alone speaks, which gives no reason.
    """
    for one in _causes(error):
        words = _words(one)
        if isinstance(one, OSError) and one.errno in FULL:
            return words
        said = words.lower()
        if any(known in said for known in WORDS):
            return words
        if folder is not None and any(known in said for known in TORCHS) and not has_room(folder):
            return words
    return ""


def as_disk_full(error: BaseException) -> DiskFull | None:
    """For who had started it; None: it is something else."""
    if words := full_disk(error):
        return DiskFull(f"a disk is full: {words}; make room, and start the same command again")
    return None


def has_room(folder: Path) -> bool:
    """Whether a little can be written there. By trying: a quota is nowhere to be asked."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * PROBE)
            file.flush()
            os.fsync(file.fileno())  # some disks find out only then
    except OSError as error:
        return error.errno not in FULL
    return True


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that has led to it."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [one.__context__, one.__cause__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
        if isinstance(orig := getattr(one, "orig", None), BaseException):  # SQLAlchemy's
            left.append(orig)


def _words(error: BaseException) -> str:
    try:
        text = str(error)[:LONGEST]
    except Exception:  # of a class of the user's
        return type(error).__name__
    return on_one_line(redact(storable(f"{type(error).__name__}: {text}")))
