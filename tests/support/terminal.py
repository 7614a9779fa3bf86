"""A terminal as its user sees it: a screen of so many columns and lines, on which a command writes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

import pyte

PATIENCE_S = 300


class Terminal:
    def __init__(self, words: tuple[str, ...], folder: Path, env: Mapping[str, str], columns: int, lines: int) -> None:
        self._ours, theirs = pty.openpty()
        _resize(theirs, columns, lines)
        # its size is asked of the terminal itself
        env = {key: value for key, value in env.items() if key not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            list(words),
            cwd=folder,
            env={"TERM": "xterm", **env},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.sent = b""

    @property
    def screen(self) -> list[str]:
        """Its lines, without the empty ones at the end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().splitlines()

    @property
    def looks(self) -> list[list[tuple[str, str, bool]]]:
        """The same lines as runs of characters that look alike: a text, its colour, whether it is bold."""
        buffer, columns = self._screen.buffer, range(self._screen.columns)
        found = []
        for line, _ in enumerate(self.screen):
            alike = groupby((buffer[line][column] for column in columns), lambda char: (char.fg, char.bold))
            found.append([("".join(char.data for char in chars), *look) for look, chars in alike])
        return found

    def until(self, look: Callable[[list[str]], object], what: str) -> list[str]:
        """The first screen that is so."""
        while not look(self.screen):
            assert self._hear(), f"it ended before {what}: {self.screen}"
        return self.screen

    def resize(self, columns: int, lines: int) -> None:
        """As when its window is dragged smaller."""
        _resize(self._ours, columns, lines)
        self._screen.resize(lines, columns)

    def ctrl_c(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """The exit code, and all that the terminal was sent."""
        while self._hear():
            pass
        os.close(self._ours)
        return self.process.wait(), self.sent.decode()

    def _hear(self) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing was written for {PATIENCE_S} s: {self.screen}"
        try:
            heard = os.read(self._ours, 4096)
        except OSError:  # the last process has closed its end
            return False
        self.sent += heard
        self._stream.feed(heard)
        return bool(heard)


def _resize(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
