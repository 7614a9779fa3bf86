"""SQLite is one file shared by processes: what must not happen twice at once is done under a lock beside it."""

from __future__ import annotations

import hashlib
import re
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


def masked(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", url)


def sqlite_lock(url: str) -> AbstractContextManager[object]:
    """Held by one process at a time; a database server needs none.

    The lock's file lies in the temporary folder: the user's own folder is not littered.
    """
    path = sqlite_file(url)
    if path is None:
        return nullcontext()
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"besom-{key}.lock", mode=0o666)
