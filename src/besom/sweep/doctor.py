"""`besom doctor`: what a crash has left of a sweep, found and mended.

What must hold when nobody sweeps: every attempt has one end, nothing is RUNNING, no more trials than were asked for,
no process left, each trial one run in MLflow, with its end and every value in its log.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from functools import partial

import psutil
from optuna.trial import TrialState

from besom.errors import InputError
from besom.sweep.attrs import EXPERIMENT, LEASE_S, N_TRIALS, PARENT_RUN, TRACKING
from besom.sweep.catalogue import studies
from besom.sweep.lease import Lease, Watch, held_by
from besom.sweep.page import Page
from besom.sweep.queue import Queue
from besom.sweep.record import Fault, faults
from besom.sweep.study import LOOK_S, SWEPT, Study
from besom.tracking import Store
from besom.tracking.recorder import Status

ROUNDS = 3
MAX_RETRIES = 1_000_000  # a trial that lost its worker is given back, whatever it has spent: the sweep decides


def examine(url: str, name: str | None, tracking_uri: str | None, *, mend: bool) -> bool:
    """Print what is wrong, and what was done about it; whether all is well now.

    Raises:
        InputError: no such storage or study.
    """
    well = True
    for study in studies(url, name):
        left = _mended(study, tracking_uri) if mend else list(_findings(study, tracking_uri))
        for fault in left:
            print(f"{study.name}: {fault.what}")
        well = well and not left
        print(f"{study.name}: {_state(study)}{'' if left else '; all is well'}")
        if left and not mend:
            print(f"mend it with: besom doctor {study.name} --mend")
    return well


def _mended(study: Study, tracking_uri: str | None) -> list[Fault]:
    """What is left after mending. That may show more: a trial given back, and then its run in MLflow."""
    for _ in range(ROUNDS):
        left = list(_findings(study, tracking_uri))
        for fault in left:
            if fault.mend:
                fault.mend()
                print(f"{study.name}: {fault.what}: mended")
        if not any(fault.mend for fault in left):
            break
    return list(_findings(study, tracking_uri))


def _state(study: Study) -> str:
    counts, asked = study.counts(), study.recall(N_TRIALS) or 0  # none: killed before it had said so
    ended = f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
    open_ = f"; {asked - counts.finished} still to go, with the same command" if counts.finished < asked else ""
    return f"{counts.finished} of {asked} trials: {ended}{open_}"


def _findings(study: Study, tracking_uri: str | None) -> Iterator[Fault]:
    _refuse_while_somebody_works(study)
    yield from _of_the_study(study)
    yield from _processes(study)
    uri = tracking_uri or study.recall(TRACKING)
    if not uri:
        return
    store = Store(uri, study.recall(EXPERIMENT) or "")
    page = Page(study, store)
    if not (parent := study.recall(PARENT_RUN)):
        yield Fault("the study has no run in MLflow", page.begin)
        return
    yield from faults(study, store, parent, thorough=True)
    if store.client.get_run(parent).info.status == "RUNNING":
        ended: Status = "KILLED" if study.owed(study.recall(N_TRIALS) or 0) else "FINISHED"
        yield Fault("the study's run is RUNNING", partial(page.close, ended))


def _refuse_while_somebody_works(study: Study) -> None:
    """Of a holder on another machine or in another container only its beat tells whether it lives: in a lease's time.

    Raises InputError: one does, or may; says which.
    """
    watch, said = Watch(study.recall(LEASE_S) or math.inf), False
    first = _holders(study)
    while holders := {what: lease for what, lease in _holders(study).items() if not watch.stopped(what, lease)}:
        for what, lease in holders.items():
            if lease.is_here() or lease != first.get(what) or not study.recall(LEASE_S):
                raise InputError(
                    f"study {study.name!r}: {what} is in the hands of process {lease.pid} on {lease.host}: ask again "
                    "when it has ended; if that machine is gone, the sweep's own command gives back what it held"
                )
        if not said:
            what, lease = next(iter(holders.items()))
            print(
                f"{study.name}: {what} was in the hands of process {lease.pid} on {lease.host}, of which nothing can "
                f"be seen from here: waiting {study.recall(LEASE_S):g} s for a sign of it",
                flush=True,
            )
            said = True
        time.sleep(LOOK_S)


def _holders(study: Study) -> dict[str, Lease]:
    """Whoever has signed for the sweep and for its running trials, and may be alive."""
    signed = {"the sweep": study.supervisor()} | {
        f"trial {trial.number}": held_by(trial) for trial in study.trials((TrialState.RUNNING,))
    }
    return {what: lease for what, lease in signed.items() if lease and not lease.is_dead()}


def _of_the_study(study: Study) -> Iterator[Fault]:
    counts, asked = study.counts(), study.recall(N_TRIALS) or 0
    if counts.finished > asked:
        yield Fault(f"{counts.finished} trials have ended, but {asked} were asked for")
    if study.supervisor():
        yield Fault("its supervisor died", study.forget_supervisor)
    for trial in study.trials():
        if trial.state == TrialState.RUNNING:
            yield Fault(f"trial {trial.number} is RUNNING, but its worker is gone", partial(_give_back, study))


def _give_back(study: Study) -> None:
    watch = Watch(0)
    for _ in range(2):  # a beat is compared with an earlier look
        Queue(study).reap(watch, MAX_RETRIES)


def _processes(study: Study) -> Iterator[Fault]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(SWEPT) == study.identity and process.status() != psutil.STATUS_ZOMBIE:
                yield Fault(f"process {process.pid} is left of it: {' '.join(process.cmdline())[:80]}", process.kill)
