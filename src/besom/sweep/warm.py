"""What each trial's process needs, loaded once by the fork server that they are forked from: its first import.

Modules that the app has named (`besom.preload`) are imported as they are. Those that its script imports are looked at
while they are: what starts a thread, wakes a GPU or draws random numbers when it is imported would not be in each trial
what it is in a process of its own. The server then begins anew, without that module.
"""

import contextlib
import gc
import importlib
import os
import random
import sys
import threading
from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins

from besom.sweep.preload import take_asked

CAN_BEGIN_ANEW = sys.version_info < (3, 14)  # whose fork server has read a secret by now, which it cannot read again


def _import_quietly(module: str) -> None:
    """A trial says better what is wrong with it."""
    with contextlib.suppress(Exception, SystemExit):
        importlib.import_module(module)


def _import_watched(modules: Sequence[str]) -> str | None:
    """The first module that is not to be shared, if any."""
    if modules and CAN_BEGIN_ANEW:
        _import_quietly("numpy.random")  # so that its state can be compared
    for module in modules:
        before = _state()
        _import_quietly(module)
        if CAN_BEGIN_ANEW and _state() != before:
            return module
    return None


def _state() -> tuple[Any, ...]:
    """What no import should change."""
    numpy, cuda = sys.modules.get("numpy.random"), sys.modules.get("torch.cuda")
    drawn = repr(numpy.get_state()) if numpy else ""
    return threading.active_count(), random.getstate(), drawn, bool(cuda and cuda.is_initialized())


gc.disable()  # nothing of what is imported is garbage; till `warmed`
Plugins.instance()  # imports each plugin there is; what they register is forked too
asked = take_asked()
sys.path[:] = [*asked.path, *(place for place in sys.path if place not in asked.path)]
for name in asked.named:
    _import_quietly(name)
if left_out := _import_watched(asked.found):
    print(f"besom: {left_out} is imported anew by each trial: it does more than define when it is", file=sys.stderr)
    sys.stderr.flush()
    asked.without(left_out).ask()
    os.execv(sys.executable, sys.orig_argv)
