"""What is wrong with an SQLite file, behind the exceptions of whoever asked it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from besom.system.disk import full_disk, has_room

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
# SQLite does not always tell a full disk from another one that cannot be written
MAYBE_FULL = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
# of a database whose tables were there, a page of text that is none any more
WORDS = ("no such table", "no such column", "Could not decode")


def is_damaged(error: BaseException) -> bool:
    """Whether its pages are not as SQLite has written them."""
    return any(_code(one) in DAMAGED or any(words in str(one) for words in WORDS) for one in _errors(error))


def is_full(error: BaseException, path: Path) -> bool:
    """Whether there was no room for what was to be written into it."""
    found = list(_errors(error))
    if found and full_disk(error):
        return True
    return any(_code(one) in MAYBE_FULL for one in found) and not has_room(path.parent)


def in_words(error: BaseException) -> str:
    """SQLite's own."""
    return next((str(one) for one in _errors(error)), str(error))


def ways_out(path: Path) -> str:
    """What can be done about a damaged file."""
    return f"put back a copy of it, or save what is whole (sqlite3 {path} .recover | sqlite3 saved.db)"


def _errors(error: BaseException | None) -> Iterator[sqlite3.Error]:
    """SQLAlchemy, Optuna and MLflow wrap them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for one in (error, getattr(error, "orig", None)):
            if isinstance(one, sqlite3.Error):
                yield one
        error = error.__cause__ or error.__context__


def _code(error: sqlite3.Error) -> int:
    """Without SQLite's extension of it."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
