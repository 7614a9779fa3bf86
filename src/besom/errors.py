"""What can go wrong, and how the person at the terminal hears of it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

INTERRUPTED = 130  # the exit code after Ctrl-C


class BesomError(Exception):
    """Base of besom's own errors; its text is all the user sees."""

    exit_code = 1


class InputError(BesomError):
    """The input was wrong. Says what, where and what to do; nothing has been started."""

    exit_code = 2


class RunError(BesomError):
    """A run was started and did not reach its end."""


def first_line(error: BaseException) -> str:
    """Of what it says, or its type's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def near(word: str, known: Iterable[str]) -> str:
    """A hint to end a message with: the names nearest to `word`, or all of them where few.

    >>> near("admw", ["adam", "adamw", "sgd"])
    "; did you mean 'adamw' or 'adam'?"
    """
    names = sorted(set(known))
    if close := get_close_matches(word, names, n=3, cutoff=0.6):
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return f"; choose one of: {', '.join(names)}" if 0 < len(names) <= 30 else ""
