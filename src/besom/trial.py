"""The seam between a sweep and what it runs.

A task function calls `report` and never learns whether a sweep is listening. The engine (`besom.engine`) puts a
`Listener` here before it calls the task function; training code (`besom.training.fit`) never imports the engine.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task", bound=Callable[..., Any])


class TrialPruned(Exception):  # noqa: N818 - the name Optuna's users know
    """The pruner has seen enough of this trial. Let it pass: the sweep records the trial as PRUNED."""


class Listener(Protocol):
    """The sweep's end of the seam."""

    def report(self, value: float, step: int) -> bool:
        """Take an intermediate value; True when the trial should stop here."""


LAST_STEP = 2**31 - 1  # that a database keeps
TRIAL = "BESOM_TRIAL"  # set in a trial's process: what it starts can know whose it is

_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Called by the engine in the process where the trial runs; None: the trial has ended."""
    global _listener
    _listener = listener


def in_sweep() -> bool:
    """True in a trial's processes. The sweep's worker then writes the run to MLflow, nobody else."""
    return _listener is not None or _follows()


def _follows() -> bool:
    """True in a process that DDP has started beside a trial's first one."""
    return TRIAL in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def report(value: float, step: int) -> None:
    """Report the objective's value so far (higher or lower is better, as the sweep's direction says).

    Outside a sweep this does nothing. Steps count from 0 and rise; a value reported twice for one step is kept once.
    Of a DDP trial's processes the first one's value counts. The others wait for its verdict, so that all stop together.

    Raises:
        TrialPruned: the trial should stop; do not catch it.
        SystemExit: the same, in the other processes of a DDP trial: they end in silence.
        ValueError: the value is no number, or the step is none that can be kept.

    """
    if not in_sweep():
        return
    if isinstance(step, bool) or int(step) != step or not 0 <= step <= LAST_STEP:
        raise ValueError(f"a step is a whole number from 0 to {LAST_STEP}, but got {step}")
    step, value = int(step), float(value)
    ranks, verdict = _meeting_point(), f"besom/verdict/{step}"
    if _listener is None:
        if ranks and ranks.get(verdict) == b"stop":
            sys.exit(0)
        return
    # with NaN there is nothing to compare: the end of the trial says what it means
    stop = not math.isnan(value) and _listener.report(value, step)
    if ranks:
        ranks.set(verdict, b"stop" if stop else b"go on")
    if stop:
        raise TrialPruned(f"pruned at step {step} with value {value}")


def _meeting_point() -> Any:
    """Where the processes of a DDP trial leave each other notes (torch.distributed.Store); None: there is one process.

    No collective: were it called in the first process alone, as some write it, the others would never come. And torch
    is not imported here: where there are several processes, the task function has done so.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.distributed_c10d._get_default_store()


def prepare(function: str) -> Callable[[Task], Task]:
    """Name a function that is asked once, before a study's first trial, what shall be the same for all its trials.

    It is called with the first trial's config, in a process of its own, where and as that trial would be, and returns
    overrides, which every trial is given, and a line that says why. The study remembers both. A
    `besom.errors.InputError` that it raises ends the sweep, before a trial was begun.

    >>> @hydra.main(config_path="conf", config_name="config", version_base="1.3")
    ... @besom.prepare("my_project.tuning.best_batch_size")
    ... def main(cfg): ...
    """

    def mark(task: Task) -> Task:
        task.besom_prepare = function  # type: ignore[attr-defined]
        return task

    return mark


def fingerprint(function: str) -> Callable[[Task], Task]:
    """Name a function that tells which data a task function sees, so that a study never mixes two of them unnoticed.

    It is called with the first trial's config, in a process of its own, once in each session of a sweep and on each
    machine, and returns a mapping of names to digests, such as `{"data": "sha256:..."}`. A study that was begun with
    other ones is not gone on with, unless by `hydra.sweeper.resume=anyway` or `fork`.

    >>> @hydra.main(config_path="conf", config_name="config", version_base="1.3")
    ... @besom.fingerprint("my_project.data.digests")
    ... def main(cfg): ...
    """

    def mark(task: Task) -> Task:
        task.besom_fingerprint = function  # type: ignore[attr-defined]
        return task

    return mark


def preload(*modules: str) -> Callable[[Task], Task]:
    """Name the slow imports of a task function, so that a sweep does them once and not in every trial.

    >>> @hydra.main(config_path="conf", config_name="config", version_base="1.3")
    ... @besom.preload("torch", "my_project.training")
    ... def main(cfg): ...
    """

    def mark(task: Task) -> Task:
        task.besom_preload = modules  # type: ignore[attr-defined]
        return task

    return mark
