"""One try at a trial, in a process of its own, forked from a fork server that has done the slow imports once.

Whatever the task function does to its process (a segfault, `os._exit`, leaked state), the worker and the next trial are
untouched. Both sides speak over a pipe: the trial reports and waits for the verdict; its last word is an `Outcome`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import cloudpickle
from hydra.types import TaskFunction
from omegaconf import DictConfig

from besom import trial
from besom.sweep.job import Job

State = Literal["complete", "pruned", "failed", "interrupted"]
POLL_S = 0.5  # between two looks at whether the sweep is to stop
GRACE_S = 10.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True)
class Outcome:
    state: State
    value: float = math.nan
    reason: str = ""


def warm_up(modules: Sequence[str]) -> None:
    """Start the fork server with these modules imported; trials fork from it. Returns at once."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["besom.sweep.attempt", *modules])
    from multiprocessing.forkserver import ensure_running

    ensure_running()


def attempt(
    job: Job, output: Path, on_report: Callable[[float, int], bool], should_stop: Callable[[], bool]
) -> Outcome:
    """Run one attempt to its end; what it prints goes to the file `output`.

    `on_report(value, step)` answers whether to prune; `should_stop` is asked every POLL_S.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=_run, args=(cloudpickle.dumps(job), there, str(output)), name="trial"
    )
    process.start()
    there.close()
    try:
        return _follow(process, here, on_report, should_stop)
    finally:
        here.close()
        _end(process)


def _follow(
    process: Any, pipe: Connection, on_report: Callable[[float, int], bool], should_stop: Callable[[], bool]
) -> Outcome:
    while True:
        ready = wait([pipe, process.sentinel], timeout=POLL_S)
        if pipe in ready:
            try:
                message = pipe.recv()
            except EOFError:
                process.join()
                return Outcome("failed", reason=_death(process.exitcode))
            if isinstance(message, Outcome):
                return message
            pipe.send(on_report(*message))
        elif ready:
            return Outcome("failed", reason=_death(process.exitcode))
        elif should_stop():
            return Outcome("interrupted", reason="the sweep was stopped; started again, it goes on with this trial")


def _end(process: Any) -> None:
    """Nothing of the trial outlives its attempt."""
    process.join(timeout=GRACE_S if process.exitcode is None and not process.is_alive() else 0.5)
    if process.is_alive():
        process.terminate()
        process.join(GRACE_S)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"the trial's process was killed by {signal.Signals(-exitcode).name}"
    return f"the trial's process ended by itself with exit code {exitcode}, before the task function returned"


# ── in the trial's process ────────────────────────────────────────────────────────────────────────────────────────────
class _Worker:
    """The worker, as the trial sees it (`trial.Listener`)."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def report(self, value: float, step: int) -> bool:
        self._pipe.send((value, step))
        return bool(self._pipe.recv())


def _run(job: bytes, pipe: Connection, output: str) -> None:
    _write_output_to(output)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    # what the task function starts (a DataLoader's workers) should start as it would outside a sweep
    multiprocessing.set_start_method(None, force=True)
    trial.listen(_Worker(pipe))
    asked: Job = cloudpickle.loads(job)
    pipe.send(replace(asked, task=lambda config: _as_outcome(asked.task, config)).run())


def _as_outcome(task: TaskFunction, config: DictConfig) -> Outcome:
    """The task function's end as a value: an exception would make Hydra report a crash."""
    try:
        value = task(config)
    except trial.TrialPruned as pruned:
        return Outcome("pruned", reason=str(pruned))
    except Exception as error:
        traceback.print_exc()
        return Outcome("failed", reason=f"{type(error).__name__}: {error}")
    if not isinstance(value, Real):
        return Outcome("failed", reason=f"the task function returned {value!r}: a sweep needs a number")
    if math.isnan(value):
        return Outcome("failed", reason="the task function returned NaN")
    return Outcome("complete", float(value))


def _write_output_to(path: str) -> None:
    """Python's own streams and those of C libraries alike."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # the fork server's streams are block-buffered where its own output is no terminal: show lines as they come
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
