"""How an attempt at a trial ended, told apart so that the study, MLflow and the user each get the true reason."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf

from besom import trial
from besom.config.redaction import redact
from besom.system.disk import full_disk
from besom.system.storable import MAX_TEXT, is_long, shortened, storable

State = Literal["complete", "pruned", "failed", "interrupted"]
# why a trial failed
Kind = Literal["", "exception", "nan", "oom", "timeout", "killed", "lost", "broken", "bad value", "config", "disk full"]

WHOLE = "exception.txt"  # in a trial's folder: what its exception says, where that is too long for a database


@dataclass(frozen=True)
class Outcome:
    state: State
    values: tuple[float, ...] = ()  # the objectives
    kind: Kind = ""
    reason: str = ""
    exception: tuple[str, ...] = ()  # the names of its class and of that class's bases

    def __post_init__(self) -> None:
        """Whatever the reason's text is, each database takes it."""
        object.__setattr__(self, "reason", shortened(storable(self.reason)))


@dataclass(frozen=True)
class AttemptCallbacks:
    """What an attempt must keep to."""

    on_report: Callable[[float, int], bool]  # takes (value, step); True: prune
    should_stop: Callable[[], bool]
    leash_s: float  # a trial that has not felt its leash for this long ends itself
    timeout_s: float | None = None


def as_outcome(task: TaskFunction, config: DictConfig) -> Outcome:
    """The task function's end as a value: an exception would make Hydra report a crash.

    Whatever it raises is its own: a Ctrl-C does not reach a trial's process, and to one in the worker's own process it
    is an `Interrupted`.
    """
    try:
        returned = task(config)
    except trial.TrialPruned as pruned:
        return Outcome("pruned", reason=_kept_whole(_words(pruned), config))
    except Interrupted:
        raise
    except SystemExit as left:
        if words := full_disk(left):
            return disk_full(words, type(left))
        return _left(left, config)
    except BaseException as error:
        _print(redact(traceback.format_exc()), end="")
        if words := full_disk(error, _folder(config)):
            return disk_full(words, type(error))
        names = tuple(ancestor.__name__ for ancestor in type(error).__mro__)
        kind: Kind = "oom" if _is_out_of_memory(names) else "exception"
        reason = _kept_whole(f"{type(error).__name__}: {_words(error)}", config)
        return Outcome("failed", kind=kind, reason=reason, exception=names)
    try:
        values = tuple(_numbers(returned))
    except Exception:  # whatever a value says that is asked to be a number
        reason = f"the task function returned {_shown(returned)}: a sweep needs a number, or a tuple of numbers"
        return Outcome("failed", kind="bad value", reason=reason)
    if any(map(math.isnan, values)):
        return Outcome("failed", kind="nan", reason=f"the task function returned {_shown(returned)}")
    return Outcome("complete", values)


class Interrupted(BaseException):
    """Not the task function's doing: it passes through the user's code, which may catch every Exception."""


def _left(left: SystemExit, config: DictConfig) -> Outcome:
    """`sys.exit` is no crash, which would be tried again; but for the one that answers a SIGTERM, as Lightning does."""
    if left.code == 128 + signal.SIGTERM:
        return death(-signal.SIGTERM, memory_ran_out=False)
    if left.code in (None, 0):
        reason = f"the task function called sys.exit({'' if left.code is None else 0}), and so returned no number"
        return Outcome("failed", kind="bad value", reason=reason)
    words = _words(left)
    _print(words)  # as Python would
    names = tuple(ancestor.__name__ for ancestor in type(left).__mro__)
    reason = _kept_whole(f"SystemExit: {words}", config)
    return Outcome("failed", kind="exception", reason=reason, exception=names)


def _print(text: str, end: str = "\n") -> None:
    """Where the disk is full, or the task function has closed stderr, nothing is to be done."""
    with contextlib.suppress(OSError, ValueError):
        print(storable(text), end=end, file=sys.stderr, flush=True)


def disk_full(words: str, error: type[BaseException] | None = None) -> Outcome:
    """No fault of the trial's: it waits for another attempt."""
    names = tuple(ancestor.__name__ for ancestor in error.__mro__) if error else ()
    return Outcome("interrupted", kind="disk full", reason=words, exception=names)


def _folder(config: DictConfig) -> Path | None:
    """The trial's."""
    folder = OmegaConf.select(config, "hydra.run.dir")
    return None if folder is None else Path(str(folder))


def _kept_whole(text: str, config: DictConfig) -> str:
    """The text, or of a long one the begin and in which file of the trial's folder the whole is."""
    folder = _folder(config)
    if not is_long(text) or folder is None:
        return text
    path = folder / WHOLE
    try:
        path.write_text(storable(text), encoding="utf-8")
    except OSError:
        return shortened(text)
    return shortened(text, f"the whole is in {path}")


def _words(error: BaseException) -> str:
    try:
        return redact(str(error))
    except Exception:  # of a class of the user's
        return f"(its text cannot be had: {type(error).__name__}.__str__ fails)"


def death(exitcode: int | None, memory_ran_out: bool) -> Outcome:
    """Of a trial's process that went without a last word; `exitcode` as `subprocess` has it."""
    if memory_ran_out and exitcode == -signal.SIGKILL:
        return Outcome("failed", kind="oom", reason="the system ran out of memory and killed the trial's process")
    if exitcode is not None and exitcode < 0:
        reason = f"the trial's process was killed by {signal.Signals(-exitcode).name}"
    else:
        reason = f"the trial's process ended with exit code {exitcode}, before the task function returned"
    return Outcome("failed", kind="killed", reason=reason)


def oom_kills() -> int:
    """Processes that Linux has killed for want of memory, in this control group or else on this machine."""
    for path in _counters():
        with contextlib.suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def tail(output: Path, lines: int = 20) -> str:
    """The last lines a trial printed, of which the last 64 kB: a line may be of any length."""
    if not output.is_file():
        return ""
    with output.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_TEXT))
        last = file.read().decode(errors="backslashreplace")
    return storable("\n".join(last.splitlines()[-lines:]))[-MAX_TEXT:]


def _numbers(returned: Any) -> Iterator[float]:
    for value in returned if isinstance(returned, (tuple, list)) else (returned,):
        if isinstance(value, (str, bytes, bytearray)):  # `float` would read it
            raise TypeError(value)
        yield float(value)


def _shown(returned: Any) -> str:
    try:
        text = repr(returned)
    except Exception:  # an integer of more than 4,300 digits, or a class of the user's
        text = f"a {type(returned).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _is_out_of_memory(names: Sequence[str]) -> bool:
    """By name: torch's error class cannot be imported where torch is not wanted."""
    return "MemoryError" in names or "OutOfMemoryError" in names


def _counters() -> Iterator[Path]:
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield Path(f"/sys/fs/cgroup{group}/memory.events")
        elif "memory" in controllers.split(","):
            yield Path(f"/sys/fs/cgroup/memory{group}/memory.oom_control")
    yield Path("/proc/vmstat")
