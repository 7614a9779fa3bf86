"""What a trial prints, in a file with a bound: of endless output the begin and the end are kept.

A trial's process and all that it starts write to the file itself, at its end (`O_APPEND`): nobody stands between who
could block it or die. So the worker looks now and then, and takes out the middle.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MAX_OUTPUT = 100 * 10**6  # bytes
CATCH_UP = 3  # times that it is looked at once more before it is cut: who writes without a pause is never caught up
HEAD = TAIL = 10 * 10**6  # that are kept of a file that is longer


class CappedOutput:
    """The file, held open: a trial that deletes it does not get rid of its bound."""

    def __init__(self, path: Path, limit: int = MAX_OUTPUT, head: int = HEAD, tail: int = TAIL) -> None:
        self._limit, self._head, self._tail = limit, head, tail
        self._left_out = 0
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def cut(self) -> None:
        """Where it is too long. What is written in the moment in which the file is made shorter is left out too."""
        with contextlib.suppress(OSError):  # the disk is full, or it is no file any more
            if (size := os.fstat(self._file).st_size) <= self._limit:
                return
            end = os.pread(self._file, self._tail, size - self._tail)
            end = end[end.find(b"\n") + 1 :]  # whole lines, where there are any
            self._left_out += size - self._head - len(end)
            note = f"\n[besom: {self._left_out:,} bytes of output are left out here: the limit is {self._limit:,}]\n"
            kept = [note.encode(), end]
            for _ in range(CATCH_UP):
                kept.append(os.pread(self._file, self._tail, size))  # written meanwhile
                size += len(kept[-1])
            os.ftruncate(self._file, self._head)
            os.write(self._file, b"".join(kept))

    def close(self) -> None:
        """Look for the last time: nothing of the trial is left that could write."""
        self.cut()
        with contextlib.suppress(OSError):
            os.close(self._file)
