"""What the warm process does (`warm_process.py`): `python -m besom.engine.warm_main FD... [workers] [records]`.

Modules that the app has named (`besom.preload`) are imported as they are. Those that its script imports are looked at
while they are: what starts a thread, wakes a GPU or seeds random numbers when it is imported would not be in each trial
what it is in a process of its own. The trials' process then begins anew, without that module.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.plugins import Plugins

from besom.engine import (
    warm_process,
)
from besom.engine.fork_server import interpreter, serve
from besom.engine.warm_process import ONE_THREAD, RECORDS, TO_WORKER, WORKERS, Order, Remarks
from besom.errors import first_line
from besom.system.processes import call_this

TASKS = Path("/proc/self/task")
# what MLflow's client loads when it is first used
OF_MLFLOW = (
    "mlflow",
    "mlflow.tracking._tracking_service.client",
    "mlflow.store.tracking.rest_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "besom.engine.study_run",
)


@dataclass(frozen=True)
class Fds:
    """As `warm_process.WarmProcess` has made them."""

    trials: int
    ask_trials: int
    workers: int
    say_remarks: int
    orders: int  # of who makes workers
    orders_of_trials: int


def main(fds: Fds, *, makes_workers: bool, records: bool) -> NoReturn:
    for sign in TO_WORKER:
        signal.signal(sign, signal.SIG_IGN)
    gc.disable()  # nothing of what is imported is garbage; till it serves
    call_this("besom-warm")
    Plugins.instance()  # imports each plugin there is; what they register is forked too
    if makes_workers:
        importlib.import_module("besom.engine.worker")
        if os.fork():
            for fd in (fds.trials, fds.say_remarks, fds.orders_of_trials):
                os.close(fd)
            warm_process.inherit(socket.socket(fileno=fds.ask_trials))
            _make_workers(fds, records=records)
    for fd in (fds.ask_trials, fds.workers, fds.orders):
        os.close(fd)
    _make_trials(fds)


def _make_workers(fds: Fds, *, records: bool) -> NoReturn:
    if records:
        from besom.tracking import environment
        from besom.tracking.mlflow_store import keep_mlflow_quiet

        keep_mlflow_quiet()
        for module in OF_MLFLOW:
            importlib.import_module(module)
        environment.find()
    _take_order(fds.orders)
    _freeze()
    serve(socket.socket(fileno=fds.workers))


def _take_order(fd: int) -> Order:
    """Wait for it. Where none comes, its sender is gone, and so is what this process is for."""
    with os.fdopen(fd) as file:
        text = file.read()
    if not text:
        os._exit(0)
    order = Order.loads(text)
    os.environ.update(order.environ | ONE_THREAD)
    sys.path[:] = [*order.asked.path, *(place for place in sys.path if place not in order.asked.path)]
    return order


def _make_trials(fds: Fds) -> NoReturn:
    order = _take_order(fds.orders_of_trials)
    if not order.makes_trials:
        os._exit(0)
    remarks, fresh = Remarks(), order.fresh
    for module in order.asked.named if not fresh else ():
        before = _state()
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            remarks.failed[module] = f"{type(error).__name__}: {first_line(error)}"
        if does := _does(before, _state()):
            remarks.unsafe[module] = does
            fresh = True
            break
    if not fresh and (left_out := _import_watched(order.asked.found)):
        print(f"besom: {left_out} is imported anew by each trial: it does more than define when it is", flush=True)
        _begin_anew(replace(order, asked=order.asked.without(left_out)), fds)
    with os.fdopen(fds.say_remarks, "w") as file, contextlib.suppress(OSError):  # who has started it is gone
        file.write(json.dumps(asdict(remarks)))
    if remarks.failed:  # no trial is to begin
        sys.exit(1)
    _freeze()
    serve(socket.socket(fileno=fds.trials), fresh=fresh)


def _begin_anew(order: Order, fds: Fds) -> NoReturn:
    """As the trials' process alone."""
    orders = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it outlives this program
    orders.write(order.dumps())
    orders.seek(0)
    ends = [fds.trials, *(os.open(os.devnull, os.O_RDONLY) for _ in range(2)), fds.say_remarks]
    ends += [os.open(os.devnull, os.O_RDONLY), orders.fileno()]
    for fd in ends:
        os.set_inheritable(fd, True)
    os.execv(sys.executable, interpreter("besom.engine.warm_main", ends))


def _import_watched(modules: Sequence[str]) -> str | None:
    """The first module that is not to be shared, if any."""
    if modules:
        with contextlib.suppress(Exception):
            importlib.import_module("numpy.random").random()  # so that its state can be compared
        random.random()
    for module in modules:
        before = _state()
        with contextlib.suppress(Exception, SystemExit):  # a trial says better what is wrong with it
            importlib.import_module(module)
        if _state() != before:
            return module
    return None


def _state() -> tuple[Any, ...]:
    """What no import should change."""
    numpy, cuda = sys.modules.get("numpy.random"), sys.modules.get("torch.cuda")
    # a few draws leave the array as it is, and move the place in it: each trial draws seeds of its own, and the same is
    # true of a process of its own; whoever sets a seed wants the numbers that follow from it
    seeded = (random.getstate()[1][:-1], numpy.get_state()[1].tobytes() if numpy else b"")
    return _threads(), bool(cuda and cuda.is_initialized()), *seeded


def _threads() -> int:
    """Python's, and those of C libraries too where they can be counted."""
    return len(list(TASKS.iterdir())) if TASKS.exists() else threading.active_count()


def _does(before: tuple[Any, ...], after: tuple[Any, ...]) -> str | None:
    if after[0] > before[0]:
        return "starts a thread"
    return "wakes the GPU" if after[1] and not before[1] else None


def _freeze() -> None:
    """A search for garbage in a forked process would take 0.4 s each time, and copy each page with an object on it."""
    gc.enable()
    gc.freeze()


if __name__ == "__main__":
    given, words = [int(word) for word in sys.argv[1:] if word.isdecimal()], sys.argv[1:]
    main(Fds(*given), makes_workers=WORKERS in words, records=RECORDS in words)
