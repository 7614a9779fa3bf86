"""A process ends as a Python process does, though it was forked from another."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import weakref

LIMIT_S = 10.0  # for all that is left to do


def begin() -> None:
    """At the process's start: what the process it was forked from has to put in order at its end is not this one's."""
    finalizers = getattr(weakref.finalize, "_registry", {})  # a temporary folder of the fork server, say
    for about in finalizers.values():
        about.atexit = False


def end(code: int = 0, limit_s: float = LIMIT_S) -> None:
    """Wait for its threads, run what was registered to be run at its end, write what was left to write.

    `code`: with which the process is about to exit.

    What is not done after `limit_s` is not waited for: the process ends then.
    """
    timer = threading.Timer(limit_s, _give_up, (code, limit_s))
    timer.daemon = True
    timer.start()
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does first
    with contextlib.suppress(BaseException):  # a handler's; it has been printed
        atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by the task function, or the disk is full
            stream.flush()
    timer.cancel()


def _give_up(code: int, limit_s: float) -> None:
    print(f"besom: this process has not ended {limit_s:g} s after its result; it is ended", flush=True)
    os._exit(code)
