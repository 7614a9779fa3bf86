"""How a process that has imported much ends at once."""

from __future__ import annotations

import atexit
import gc
import sys


def leave_at_once() -> None:
    """At its end Python looks for garbage among all that was imported, which takes a second: it goes without that."""
    atexit.register(_freeze)


def _freeze() -> None:
    if "triton" not in sys.modules:  # which comes with torch, and would complain of each object that is left
        gc.freeze()
