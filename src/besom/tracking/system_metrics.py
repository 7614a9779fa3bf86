"""What a run uses of its machine: CPU, memory and GPUs, under the names that MLflow's UI shows as system metrics.

Why not MLflow's own monitor: it measures the whole machine, where several trials run, and asks MLflow at every sample.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any, Self

import psutil

from besom.tracking.run_log import RunLog, read

PREFIX = "system/"
MEGABYTE = 1e6  # as MLflow counts
BLINK_S = 0.1  # the system counts CPU time in hundredths of a second: over less than this it says nothing
PATIENCE_S = 2.0  # for a last sample; a driver may take its time


def sampled(log: RunLog, pid: int, every_s: float | None) -> AbstractContextManager[object]:
    """Meanwhile a process and all that it starts are looked at every so often, and once more at the end; None: never.

    What cannot be read is left out; whatever happens, nothing is raised.
    """
    return nullcontext() if every_s is None else Sampler(log, pid, every_s)


class Sampler:
    """A thread. As with MLflow's own, a sample's step is its number, counted on by a later attempt at the run."""

    def __init__(self, log: RunLog, pid: int, every_s: float) -> None:
        self._log = log
        self._pid = pid
        self._every_s = min(every_s, threading.TIMEOUT_MAX)
        self._ending = threading.Event()
        self._writing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="besom-usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_S)
        with self._writing:  # nothing is written any more: the log may soon have been sent to its end
            self._closed = True

    def _serve(self) -> None:
        with suppress(psutil.Error, OSError):  # the process is gone, or the disk is full: it stays at what there is
            processes, gpus = Processes(self._pid), Gpus()
            step = sum(_is_sample(entry["values"]) for entry, _ in read(self._log.path) if entry["kind"] == "metrics")
            over = False
            while not over:
                over = self._ending.wait(self._every_s)
                if sample := processes.sample():
                    self._write({**sample, **gpus.sample()}, step)
                    step += 1

    def _write(self, sample: dict[str, float], step: int) -> None:
        with self._writing:
            if not self._closed:
                self._log.metrics({f"{PREFIX}{name}": round(value, 1) for name, value in sample.items()}, step)


def _is_sample(values: dict[str, Any]) -> bool:
    return any(key.startswith(PREFIX) for key in values)


class Processes:
    """One, and all that it has started."""

    def __init__(self, pid: int) -> None:
        """Raises psutil.NoSuchProcess."""
        self._root = psutil.Process(pid)
        self._seen, self._used_s = time.monotonic(), self._read()[0]

    def sample(self) -> dict[str, float]:
        """CPU in percent of one core, since the last time; memory that is resident, what two share counted twice.

        Of a dead process that nobody has waited for there is nothing. Raises psutil.NoSuchProcess.
        """
        now, (used_s, resident) = time.monotonic(), self._read()
        if not resident:
            return {}
        found = {"system_memory_usage_megabytes": resident / MEGABYTE}
        if now - self._seen >= BLINK_S:
            # of a child that nobody has waited for, the time is gone with it
            found["cpu_utilization_percentage"] = max(0.0, 100 * (used_s - self._used_s) / (now - self._seen))
            self._seen, self._used_s = now, used_s
        return found

    def _read(self) -> tuple[float, int]:
        """Seconds of CPU time so far, and bytes of memory."""
        used_s, resident = 0.0, 0
        for process in (self._root, *self._root.children(recursive=True)):
            with suppress(psutil.Error), process.oneshot():  # it has ended meanwhile
                times = process.cpu_times()
                used_s += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
        return used_s, resident


class Gpus:
    """Those that a run of this process sees, numbered as it numbers them. Of each, all that uses it is counted."""

    def __init__(self) -> None:
        self._handles = _handles(os.environ.get("CUDA_VISIBLE_DEVICES"))

    def sample(self) -> dict[str, float]:
        return {f"gpu_{n}_{name}": value for n, handle in enumerate(self._handles) for name, value in _use_of(handle)}


def _use_of(handle: Any) -> Iterator[tuple[str, float]]:
    import pynvml

    with suppress(pynvml.NVMLError):  # a share of a GPU (MIG) has no utilization of its own
        yield "utilization_percentage", float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    with suppress(pynvml.NVMLError):
        yield "memory_usage_megabytes", pynvml.nvmlDeviceGetMemoryInfo(handle).used / MEGABYTE


@cache
def _handles(visible: str | None) -> tuple[Any, ...]:
    """Of NVIDIA's library; none where it, its driver or a GPU is missing. `visible`: as CUDA is told; None: all."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        named = map(str, range(pynvml.nvmlDeviceGetCount())) if visible is None else _named(visible)
        return tuple(
            pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name)
            for name in named
        )
    except pynvml.NVMLError:
        return ()


def _named(visible: str) -> list[str]:
    """CUDA sees none from -1 on."""
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[: names.index("-1")] if "-1" in names else names
