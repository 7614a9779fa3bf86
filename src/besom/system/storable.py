"""Text as any file, terminal and database takes it, and no longer than anybody reads.

A reason or a name may hold anything: the bytes of a file that are no UTF-8, a NUL, 20 MB. Some database or other
refuses each of these, and a run that cannot be written has no end.
"""

from __future__ import annotations

import re
from typing import Any

# control characters but for the ends of lines and tabs, and what turns the direction of writing
ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MAX_TEXT = 64 * 1024  # characters of a reason
MAX_LINE = 500  # of one that stands among other lines


def storable(text: str) -> str:
    r"""The same text, where it is UTF-8 without NULs; what is not stands as its escape.

    >>> storable("caf\udce9 \x00")
    'caf\\udce9 \\x00'
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def storable_all(value: Any) -> Any:
    """The value, in which all texts are storable: those of lists, and of mappings with their keys."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable_all(key): storable_all(child) for key, child in value.items()}
        case list() | tuple():
            return [storable_all(child) for child in value]
        case _:
            return value


def printable(text: str) -> str:
    r"""As text, what a terminal would take for an order: names and reasons come from others.

    >>> printable("a\x1b[2Jb\n\u202ec")
    'a\\x1b[2Jb\n\\u202ec'
    """
    return ORDERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str, limit: int = MAX_LINE) -> str:
    """For people, beside other text: of a long one its begin."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[:limit]} ..."


def is_long(text: str) -> bool:
    return len(text) > MAX_TEXT


def shortened(text: str, whole: str = "") -> str:
    """Of a text that is too long the begin, and how long it was; `whole`: where all of it is."""
    if not is_long(text):
        return text
    note = f" ... (cut: {len(text):,} characters{'; ' * bool(whole)}{whole})"
    return text[: MAX_TEXT - len(note)] + note
