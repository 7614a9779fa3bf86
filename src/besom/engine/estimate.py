"""What a sweep of besom's own app will take, told from one epoch of its first trial, run as a trial is run."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from besom.engine.fork_server import ServerGone
from besom.engine.outcome import AttemptCallbacks
from besom.engine.plan import Sweep
from besom.engine.preload import Preload
from besom.engine.prepare import ask, asked_of
from besom.engine.trial_process import TrialProcess
from besom.engine.warm_process import Order, WarmProcess, trials_from
from besom.errors import RunError
from besom.system.storable import on_one_line
from besom.tracking.run_log import Entry, read

LEASH_S = 86400.0  # this process is both ends of the trial's life: a closed pipe tells as much as a beat


@dataclass(frozen=True)
class Warmup:
    """One epoch of one trial."""

    said: str  # of what its app has settled for all
    epochs: int  # that the trial would have
    epoch_s: float
    besides_s: float  # what a trial takes but for its epochs
    folder: int  # bytes
    uploaded: int  # bytes that MLflow would be sent

    @property
    def trial_s(self) -> float:
        return self.besides_s + self.epochs * self.epoch_s


def estimate(sweep: Sweep, overrides: list[str], n_trials: int) -> str:
    """Of the time and the disk that so many trials take, if all are as the one with these overrides.

    Raises:
        InputError: what its app refuses.
        RunError: that one fails.
    """
    plan, one = sweep.plan, _measured(sweep, overrides)
    rounds = math.ceil(n_trials / len(plan.slots))
    disk = one.folder + (one.uploaded if plan.tracking_uri else 0)
    at_most = ", at most: a pruner ends some of them early" if plan.pruner else ""
    settled = f"all trials: {one.said}\n" if one.said else ""
    return (
        f"{settled}from one epoch of the first of them ({one.epoch_s:.2f} s, and {one.besides_s:.2f} s for all else):\n"
        f"time  about {_duration(rounds * one.trial_s)}: {n_trials} trials of {one.epochs} epochs, "
        f"{min(len(plan.slots), n_trials)} at a time{at_most}\n"
        f"disk  about {_size(n_trials * disk)}: {_size(disk)} a trial"
    )


def _measured(sweep: Sweep, overrides: list[str]) -> Warmup:
    app, plan = sweep.app, sweep.plan
    os.environ.update(plan.slots[0].environment(os.environ))  # before torch wakes
    order = Order(Preload.of(app.preload, app.program))
    with trials_from(WarmProcess(order)) as warm:
        try:
            return _of_one(sweep, overrides)
        except ServerGone:
            warm.refuse_failed()
            raise


def _of_one(sweep: Sweep, overrides: list[str]) -> Warmup:
    app, plan = sweep.app, sweep.plan
    asks = asked_of(app)
    known = (ask(plan, app, asks, overrides, lambda: False) if asks else None) or {"overrides": [], "said": ""}
    overrides = [*overrides, *known["overrides"]]
    with TemporaryDirectory(prefix="besom-") as parent:
        folder = Path(parent) / "0"
        folder.mkdir()
        epochs = app.compose(0, overrides, folder).trainer.max_epochs
        config = app.compose(0, [*overrides, "trainer.max_epochs=1"], folder)
        terms = AttemptCallbacks(lambda value, step: False, lambda: False, LEASH_S, plan.trial_timeout_s)
        with TrialProcess(app, folder / "output.log", terms) as attempt:
            began = time.monotonic()  # its process is there: the slow imports are done
            outcome = attempt.outcome(config)
            took_s = time.monotonic() - began
        if outcome.state != "complete":
            raise RunError(f"the first of these trials fails: {outcome.kind}: {on_one_line(outcome.reason)}")
        entries = [entry for entry, _ in read(folder / "run.jsonl")]
        epoch_s = min(_epoch_s(entries), took_s)
        uploads = [Path(entry["path"]) for entry in entries if entry["kind"] == "artifact"]
        return Warmup(
            known["said"], epochs, epoch_s, took_s - epoch_s, _bytes(list(folder.rglob("*"))), _bytes(uploads)
        )


def _epoch_s(entries: list[Entry]) -> float:
    """From where training is about to begin to the last metric."""
    began = max(entry["t"] for entry in entries if entry["kind"] == "dataset")
    ended = max(entry["t"] for entry in entries if entry["kind"] == "metrics")
    return (ended - began) / 1000


def _bytes(files: list[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`"""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _size(count: float) -> str:
    """`1.3 MB`"""
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"
