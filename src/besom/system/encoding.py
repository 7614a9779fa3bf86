"""Output on terminals and in pipes whose encoding lacks some of besom's signs, or of a user's."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from typing import TextIO

from besom.system.storable import printable

ERRORS = "besom.readable"  # the name of the error handler
# one sign for one sign: what is aligned stays aligned
SIGNS = str.maketrans("▁▂▃▄▅▆▇█…·×→−–—“”‘’∅✕▼", "_.-~=+*#~-x>---\"\"''-xv")


def make_output_readable() -> None:
    """From here on print a similar ASCII sign where the output's encoding has none, and never fail for one."""
    codecs.register_error(ERRORS, _similar)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def say(text: object = "", *, end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print what others have named or said: as text, whatever is in it."""
    print(printable(str(text)), end=end, file=file, flush=flush)


def _similar(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(sign: str) -> str:
    """`e` of `é`; `?` where nothing is similar."""
    similar = unicodedata.normalize("NFKD", sign.translate(SIGNS)).encode("ascii", "ignore").decode()
    return similar[0] if similar else "?"
