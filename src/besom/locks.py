"""Several processes, one database: its URL, and the lock on an SQLite file that one of them holds at a time."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock


def sqlite_file(url: str) -> Path | None:
    """The file of a `sqlite:///` URL; None for any other URL."""
    scheme, _, path = url.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path:
        return None
    return Path(path.partition("?")[0]).absolute()


def absolute(url: str) -> str:
    """A URL that means the same in every process, whatever its working directory."""
    path = sqlite_file(url)
    if path is None:
        return url
    scheme, _, rest = url.partition(":///")
    return f"{scheme}:///{path}{rest[len(rest.partition('?')[0]) :]}"


def sqlite_lock(url: str) -> AbstractContextManager[object]:
    """Held by one process at a time; a database server needs none.

    The lock's file lies in the temporary folder: the user's own folder is not littered. A dead process holds nothing.
    """
    path = sqlite_file(url)
    if path is None:
        return nullcontext()
    return FileLock(Path(tempfile.gettempdir()) / f"besom-{_short_hash(str(path.resolve()))}.lock", mode=0o666)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
