"""What is its owner's alone, on a machine with several users."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from besom.errors import InputError
from besom.system.locks import sqlite_file


def make_private(url: str) -> None:
    """The file of an SQLite URL, where there is none, for its owner alone; SQLite's side files follow it in that."""
    if path := sqlite_file(url):
        with suppress(OSError):  # it is there, or cannot be: whoever opens it says so
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def is_own_folder(folder: Path) -> bool:
    """Whether it is a folder of this user's, into which nobody else may write."""
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022


def refuse_foreign_links(folder: Path) -> None:
    """Raises InputError: the way to the folder goes by another user's link, who could so choose where one writes."""
    whole = folder.absolute()
    for place in (*reversed(whole.parents), whole):
        if place.is_symlink() and place.lstat().st_uid not in (os.getuid(), 0):
            raise InputError(
                f"{place} is a link of another user's, to {place.readlink()}: it is not followed; take it away, or "
                "choose another folder: hydra.run.dir=..., hydra.sweep.dir=..."
            )
