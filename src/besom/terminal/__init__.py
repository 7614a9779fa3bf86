"""What the terminal shows of a study: while it is swept, a live table where someone watches, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console

from besom.study.study import Study
from besom.system.encoding import make_output_readable
from besom.terminal.lines import Lines
from besom.terminal.live import Live
from besom.terminal.screen import Screen

__all__ = ["Progress", "console", "is_watched", "progress"]


class Progress(Protocol):
    def refresh(self) -> None:
        """Look at the study and show what is new."""

    def say(self, text: str) -> None:
        """A line of its own."""


@contextmanager
def progress(study: Study, *, plain: bool = False) -> Iterator[Progress]:
    """Shows the last state once more on the way out. `plain`: the terminal is needed by others, a debugger too."""
    make_output_readable()
    if plain or not is_watched():
        view: Progress = Lines(study)
        yield view
        view.refresh()
        return
    with Live(study, console()) as view:
        yield view
        view.refresh()


def console() -> Console:
    make_output_readable()
    return Screen(highlight=False)


def is_watched() -> bool:
    """Not rich's `is_terminal`: where FORCE_COLOR is set, as CI does, that is true of pipes as well."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal
