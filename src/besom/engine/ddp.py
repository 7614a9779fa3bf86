"""A trial may be several processes: Lightning's DDP starts the others by the command line of the first.

A trial was not started by a command. So its process poses as the single run it is, for as long as the task function
runs. The processes that it starts know by `BESOM_TRIAL` whose they are (`besom.trial.in_sweep`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil

from besom import trial
from besom.engine.outcome import Outcome, as_outcome
from besom.hydra_app.job import Job

# by which a process knows its place in a distributed run; a trial is the first process of its own
PLACE = ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
GRACE_S = 10.0  # from the first process's end to that of the others


def run(job: Job) -> Outcome:
    """In the trial's process: run it to its end, and to that of the processes it has started as its ranks."""
    with _posing(job):
        outcome = as_outcome(lambda _: job.run(), job.config)
        if outcome.state in ("complete", "pruned"):
            _wait_for_others()
        elif outcome.kind == "exception" and (killed := _killed_child()):
            # a rank that the kernel killed for its memory, say: this process has only heard a connection break
            return replace(outcome, kind="killed", reason=f"{killed}; then {outcome.reason}")
        return outcome


@contextmanager
def _posing(job: Job) -> Iterator[None]:
    before = {name: os.environ.pop(name, None) for name in (*PLACE, trial.TRIAL)}
    os.environ[trial.TRIAL] = str(os.getpid())
    try:
        with job.posing():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _wait_for_others() -> None:
    """They end by themselves, and may have something left to write."""
    if "LOCAL_RANK" not in os.environ:  # nobody has started any
        return
    ranks = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile
            if "LOCAL_RANK" in child.environ():
                ranks.append(child)
    psutil.wait_procs(ranks, timeout=GRACE_S)


def _killed_child() -> str:
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there are none
        return ""
    if ended is None or ended.si_code not in (os.CLD_KILLED, os.CLD_DUMPED):
        return ""
    return f"process {ended.si_pid} of the trial was killed by {signal.Signals(ended.si_status).name}"
