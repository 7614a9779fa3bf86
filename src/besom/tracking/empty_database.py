"""A fresh MLflow database in SQLite is copied from an empty one: MLflow itself takes seconds to migrate it into being.

The empty one is made once on a machine for each version of MLflow, and kept in besom's cache.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from besom.errors import InputError
from besom.system.cache import cache_folder

ROWS_OF_ITS_OWN = "experiments"  # the default one, of which MLflow says in the first use where its files lie


def lay(path: Path) -> bool:
    """Make the database, where there is none, and a template is; whether that is so. Its owner alone may read it."""
    if (template := _template()) is None or not _is_empty(path) or not _is_whole(template):
        return False
    fresh = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with contextlib.suppress(OSError):  # a full disk, say: MLflow will meet it too
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(template.read_bytes())
            if _is_empty(path):
                fresh.replace(path)
                return True
    finally:
        fresh.unlink(missing_ok=True)
    return False


def keep(path: Path) -> None:
    """Of a database that MLflow has just made, and nobody has written to, a copy without rows is the template."""
    if (template := _template()) is None:
        return
    fresh = template.with_name(f"{template.name}.{uuid4().hex}")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(fresh)) as copy:
            source.backup(copy)
            copy.execute(f"DELETE FROM {ROWS_OF_ITS_OWN}")
            copy.commit()
        fresh.replace(template)
    except (sqlite3.Error, OSError):  # the cache is full: the next one is made by MLflow again
        fresh.unlink(missing_ok=True)


def _template() -> Path | None:
    """None: nothing can be kept on this machine."""
    with contextlib.suppress(InputError):
        return cache_folder() / f"mlflow-{version('mlflow')}.db"
    return None


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def _is_whole(template: Path) -> bool:
    if not template.exists():
        return False
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(f"{template.as_uri()}?mode=ro", uri=True)) as one:
        return bool(one.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    return False
