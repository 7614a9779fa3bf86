"""The live table, at the foot of the terminal; what is said scrolls by above it."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from besom.study.snapshot import StudySnapshot
from besom.study.study import Study
from besom.terminal.lines import Lines
from besom.terminal.table import TerminalSize, picture


class Live(Lines):
    def __init__(self, study: Study, console: Console) -> None:
        super().__init__(study)
        self._console = console
        self._said: deque[str] = deque(maxlen=100)
        self._begin()

    def refresh(self) -> None:
        self._begin_again_after_shrinking()
        self._live.update(picture(StudySnapshot.of(self._study), self._room, datetime.now()))  # drawn below each line
        super().refresh()
        self._live.refresh()

    def say(self, text: str) -> None:
        self._said.append(text)
        self._live.console.print(Text(text))

    def __enter__(self) -> Self:
        self._live.start()
        self.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def _width(self) -> int:
        return self._room.width

    def _begin(self) -> None:
        self._room = TerminalSize(*self._console.size)
        # no thread of its own: it draws when it is told of something new; at the end the summary takes its place
        self._live = RichLive(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def _begin_again_after_shrinking(self) -> None:
        """What was drawn for more room is broken, by each terminal in its own way: nobody can tell where it begins."""
        before, now = self._room, TerminalSize(*self._console.size)
        self._room = now
        if now.width >= before.width and now.height >= before.height:
            return
        self._live.stop()
        self._console.clear()
        self._begin()
        self._live.start()
        for text in list(self._said)[-now.height :]:
            self._live.console.print(Text(text))
