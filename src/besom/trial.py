"""The seam between a sweep and what it runs.

A task function calls `report` and never learns whether a sweep is listening. The engine (`besom.sweep`) puts a
`Listener` here before it calls the task function; training code (`besom.fit`) never imports the engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task", bound=Callable[..., Any])


class TrialPruned(Exception):  # noqa: N818 - the name Optuna's users know
    """The pruner has seen enough of this trial. Let it pass: the sweep records the trial as PRUNED."""


class Listener(Protocol):
    """The sweep's end of the seam."""

    def report(self, value: float, step: int) -> bool:
        """Take an intermediate value; True when the trial should stop here."""


_listener: Listener | None = None


def listen(listener: Listener | None) -> None:
    """Called by the engine in the process where the trial runs; None: the trial has ended."""
    global _listener
    _listener = listener


def in_sweep() -> bool:
    """True in a trial's process. The sweep's worker then writes the run to MLflow, nobody else."""
    return _listener is not None


def report(value: float, step: int) -> None:
    """Report the objective's value so far (higher or lower is better, as the sweep's direction says).

    Outside a sweep this does nothing. Steps count from 0 and rise; a value reported twice for one step is kept once.

    Raises:
        TrialPruned: the trial should stop; do not catch it.
        ValueError: the value is not a number that can be compared, or the step is negative.

    """
    if _listener is None:
        return
    if step < 0:
        raise ValueError(f"a step counts from 0, but got {step}")
    if math.isnan(value := float(value)):
        return  # nothing to compare: the end of the trial says what NaN means for it
    if _listener.report(value, step):
        raise TrialPruned(f"pruned at step {step} with value {value}")


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
