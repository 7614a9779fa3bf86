"""The fork server's last import: what it holds by now is there for all trials, and is looked at by none."""

import atexit
import gc
import os

gc.enable()
# a trial's search for garbage would take 0.4 s each time, and copy every page that has an object on it
gc.freeze()
SERVER = os.getpid()


def _leave() -> None:
    """It has nothing to put in order; to take down all it has imported takes a second. Its trials have."""
    if os.getpid() == SERVER:
        os._exit(0)


atexit.register(_leave)
