"""Several processes, one database: its URL, and a lock that one of them holds at a time."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from sqlalchemy import Engine


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

    The lock's file lies in the temporary folder: the user's own folder is not littered. A dead process holds nothing.
    """
    path = sqlite_file(url)
    if path is None:
        return nullcontext()
    return FileLock(Path(tempfile.gettempdir()) / f"besom-{_short_hash(str(path.resolve()))}.lock", mode=0o666)


@contextmanager
def database_lock(url: str, engine: Engine, name: str) -> Iterator[None]:
    """Held by one process at a time, on whatever machine, for as long as it lives; `name` tells two locks apart."""
    if engine.dialect.name != "postgresql":
        with sqlite_lock(url):
            yield
        return
    from sqlalchemy import text

    key = int(_short_hash(name), 16) % 2**63
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
