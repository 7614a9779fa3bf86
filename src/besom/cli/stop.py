"""`besom stop`: asks a sweep to end as Ctrl-C at its supervisor would, from wherever its storage can be reached."""

from __future__ import annotations

import socket
import time

from besom.errors import InputError
from besom.study.command import Command
from besom.study.lease import Lease
from besom.study.lookup import chosen
from besom.study.snapshot import StudySnapshot
from besom.study.study import LOOK_S, StopRequest, Study
from besom.system.encoding import say

PATIENCE_S = 120.0  # a trial takes its time to end where it trains on a busy machine; a cluster may be slow to tell


def stop(url: str, name: str) -> bool:
    """Ask, and wait; whether the sweep has ended.

    Raises:
        InputError: no such storage or study, or nobody sweeps it.
    """
    study = chosen(url, name)
    lease = study.supervisor()
    if lease is None or lease.is_dead():
        raise InputError(f"study {name!r} is not being swept: there is nothing to stop; besom status {name} says more")
    study.request_stop(StopRequest("asked", f"besom stop, from {socket.gethostname()}"))
    say(f"study {name}: asked process {lease.pid} on {lease.host} to stop; its trials go back to the queue", flush=True)
    if not _ends(study, lease):
        say(f"it has not ended within {PATIENCE_S:.0f} s; it will, if its machine is there: besom status {name}")
        return False
    say(_left(study))
    return True


def _ends(study: Study, lease: Lease) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while _is_here_still(study, lease):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S / 4)
    return True


def _is_here_still(study: Study, lease: Lease) -> bool:
    """The very one that was asked; another one may have begun meanwhile."""
    now = study.supervisor()
    return now is not None and now.token == lease.token and not now.is_dead()


def _left(study: Study) -> str:
    snapshot, command = StudySnapshot.of(study), Command.of(study)
    counts = snapshot.counts
    ended = f"{counts.finished} of {snapshot.n_trials} trials have ended"
    todo = snapshot.n_trials - counts.finished
    if todo <= 0:
        return f"study {study.name}: {ended}; nothing is left to do"
    return f"study {study.name}: {ended}, {todo} to go; go on with: {command or 'the same command'}"
