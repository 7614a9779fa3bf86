"""Whether a storage was written to since it was last read: an SQLite file tells without being read.

SQLite's manual: PRAGMA data_version.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref

from besom.study.storage import BUSY_S, told_plainly
from besom.system.locks import sqlite_file


class Version:
    """Another number after each commit, whoever made it; None of a server, which has to be read to know."""

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        self._url = url
        self._connection: sqlite3.Connection | None = None
        if path := sqlite_file(url):
            # a connection that never writes: SQLite tells each one of the commits of all others
            self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
            weakref.finalize(self, self._connection.close)

    def __call__(self) -> int | None:
        if self._connection is None:
            return None
        with self._lock, told_plainly(self._url):
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
