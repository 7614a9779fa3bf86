"""`besom doctor`: what a crash has left of a sweep, found and mended.

What must hold when nobody sweeps: every attempt has one end, nothing is RUNNING, no more trials than were asked for,
no process left, each trial one run in MLflow, with its end and every value in its log.
"""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
from optuna.trial import TrialState

from besom.engine.reconcile import Inconsistency, faults
from besom.engine.study_run import StudyRun
from besom.errors import InputError
from besom.study.attrs import EXPERIMENT, FOLDER, FORKED, LEASE_S, N_TRIALS, PARENT_RUN, TRACKING
from besom.study.folder import store_beside
from besom.study.lease import Lease, LeaseMonitor, lease_of
from besom.study.lookup import studies
from besom.study.queue import Queue
from besom.study.snapshot import listed
from besom.study.storage import refuse_damaged
from besom.study.study import LOOK_S, SWEPT, Study
from besom.study.validation import odd_attributes
from besom.system.encoding import say
from besom.tracking import Store
from besom.tracking.run_log import Skipped, line_numbers, read
from besom.tracking.run_uploader import Status

ROUNDS = 3
MAX_RETRIES = 1_000_000  # a trial that lost its worker is given back, whatever it has spent: the sweep decides


def examine(url: str, name: str | None, tracking_uri: str | None, *, fix: bool) -> bool:
    """Print what is wrong, and what was done about it; whether all is well now.

    Raises:
        InputError: no such storage or study.
    """
    well = True
    refuse_damaged(url)
    for study in studies(url, name):
        notes: list[str] = []
        left = _mended(study, tracking_uri, notes) if fix else list(_findings(study, tracking_uri, notes))
        for note in dict.fromkeys(notes):
            say(f"{study.name}: {note}")
        for fault in left:
            say(f"{study.name}: {fault.what}")
        well = well and not left
        say(f"{study.name}: {_state(study)}{'' if left else f'; all is well: {_compared(study, tracking_uri)}'}")
        if left and not fix:
            say(f"mend it with: besom doctor {study.name} --fix")
    return well


def _mended(study: Study, tracking_uri: str | None, notes: list[str]) -> list[Inconsistency]:
    """What is left after mending. That may show more: a trial given back, and then its run in MLflow."""
    for _ in range(ROUNDS):
        left = list(_findings(study, tracking_uri, []))
        for fault in left:
            if fault.fix:
                fault.fix()
                say(f"{study.name}: {fault.what}: mended")
        if not any(fault.fix for fault in left):
            break
    return list(_findings(study, tracking_uri, notes))


def _compared(study: Study, tracking_uri: str | None) -> str:
    """Of which this was found."""
    begun = sum(trial.state != TrialState.WAITING and FORKED not in trial.user_attrs for trial in study.trials())
    what = "their folders" if begun != 1 else "its folder"
    runs = " and runs in MLflow" if tracking_uri or study.recall(TRACKING) else "; none is recorded in MLflow"
    return f"{begun} trial{'s' * (begun != 1)} with {what}{runs}" if begun else "no trial has begun"


def _state(study: Study) -> str:
    counts, asked = study.counts(), study.recall(N_TRIALS) or 0  # none: killed before it had said so
    ended = f"{counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed"
    open_ = f"; {asked - counts.finished} still to go, with the same command" if counts.finished < asked else ""
    return f"{counts.finished} of {asked} trials: {ended}{open_}"


def _findings(study: Study, tracking_uri: str | None, notes: list[str]) -> Iterator[Inconsistency]:
    _refuse_while_somebody_works(study)
    yield from _of_the_study(study)
    yield from _processes(study)
    yield from _folders(study, notes)
    uri = tracking_uri or store_beside(study.recall(TRACKING), study.url)
    if not uri:
        return
    store = Store(uri, study.recall(EXPERIMENT) or "")
    page = StudyRun(study, store)
    parent = study.recall(PARENT_RUN)
    if not parent or not store.exists(parent):
        yield Inconsistency(
            f"the study has no run in MLflow{' any more' * bool(parent)}", partial(_begin_again, study, page)
        )
        return
    yield from faults(study, store, parent, thorough=True, notes=notes)
    if store.client.get_run(parent).info.status == "RUNNING":
        ended: Status = "KILLED" if study.remaining(study.recall(N_TRIALS) or 0) else "FINISHED"
        yield Inconsistency("the study's run is RUNNING", partial(page.close, ended))


def _begin_again(study: Study, page: StudyRun) -> None:
    page.forget()
    page.begin()


def _folders(study: Study, notes: list[str]) -> Iterator[Inconsistency]:
    """What each trial has written down; of one that ran on another machine it may be there."""
    if (why := study.foreign_folder()) is not None:
        yield Inconsistency(why)
        return
    if str(study.folder) != (recorded := study.recall(FOLDER)):
        notes.append(f"its folder lies in {study.folder} now, as its storage has moved; it was {recorded}")
    missing: dict[str, list[int]] = defaultdict(list)
    notes += [
        f"trial {trial.number}: {', '.join(odd)} of another shape than besom writes, and ignored"
        for trial in study.as_optuna().get_trials(deepcopy=False)
        if (odd := odd_attributes(trial))
    ]
    for trial in study.trials():
        log = study.folder / str(trial.number) / "run.jsonl"
        if trial.state == TrialState.WAITING or FORKED in trial.user_attrs:
            continue
        if said := _unreadable(log):
            notes.append(f"trial {trial.number}: {said}")
        if not log.is_file():
            lease = lease_of(trial)
            missing[lease.host if lease else ""].append(trial.number)
        elif trial.state == TrialState.COMPLETE and (has := _objective(log, study)) not in (None, list(trial.values)):
            yield Inconsistency(
                f"trial {trial.number} has the values {list(trial.values)} in the study, {has} in its log"
            )
    for host, numbers in missing.items():
        some = f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        if host in ("", socket.gethostname()):
            yield Inconsistency(f"{some}: {study.gone_folder() or f'nothing in {study.folder}: no log and no output'}")
        else:
            notes.append(f"{some}: nothing in {study.folder}, and so not compared; ran on {host}")


def _unreadable(log: Path) -> str:
    """What is to be said of lines that are no records; nothing where there are none."""
    skipped: list[Skipped] = []
    for _ in read(log, skipped=skipped):
        pass
    if not skipped:
        return ""
    numbers = listed(line_numbers(log, skipped))
    if len(skipped) == 1:
        return f"1 line of {log} is no record, and skipped: {numbers}"
    return f"{len(skipped)} lines of {log} are no records, and skipped: {numbers}"


def _objective(log: Path, study: Study) -> list[float] | None:
    """As the last attempt has left it in the log; None: it was killed before it could."""
    said: dict[str, float] = {}
    for entry, _ in read(log):
        if entry["kind"] == "metrics":
            said.update(entry["values"])
    keys = [objective.key for objective in study.objectives()]
    return [said[key] for key in keys] if all(key in said for key in keys) else None


def _refuse_while_somebody_works(study: Study) -> None:
    """Of a holder on another machine or in another container only its beat tells whether it lives: in a lease's time.

    Raises InputError: one does, or may; says which.
    """
    watch, said = LeaseMonitor(study.recall(LEASE_S) or math.inf), False
    first = _holders(study)
    while holders := {what: lease for what, lease in _holders(study).items() if not watch.has_expired(what, lease)}:
        for what, lease in holders.items():
            if lease.is_here() or lease != first.get(what) or not study.recall(LEASE_S):
                raise InputError(
                    f"study {study.name!r}: {what} is in the hands of process {lease.pid} on {lease.host}: ask again "
                    "when it has ended; if that machine is gone, the sweep's own command gives back what it held"
                )
        if not said:
            what, lease = next(iter(holders.items()))
            say(
                f"{study.name}: {what} was in the hands of process {lease.pid} on {lease.host}, of which nothing can "
                f"be seen from here: waiting {study.recall(LEASE_S):g} s for a sign of it",
                flush=True,
            )
            said = True
        time.sleep(LOOK_S)


def _holders(study: Study) -> dict[str, Lease]:
    """Whoever has signed for the sweep and for its running trials, and may be alive."""
    signed = {"the sweep": study.supervisor()} | {
        f"trial {trial.number}": lease_of(trial) for trial in study.trials((TrialState.RUNNING,))
    }
    return {what: lease for what, lease in signed.items() if lease and not lease.is_dead()}


def _of_the_study(study: Study) -> Iterator[Inconsistency]:
    counts, asked = study.counts(), study.recall(N_TRIALS) or 0
    if counts.finished > asked:
        yield Inconsistency(f"{counts.finished} trials have ended, but {asked} were asked for")
    if study.supervisor():
        yield Inconsistency("its supervisor died", study.forget_supervisor)
    for trial in study.trials():
        if trial.state == TrialState.RUNNING:
            yield Inconsistency(f"trial {trial.number} is RUNNING, but its worker is gone", partial(_give_back, study))


def _give_back(study: Study) -> None:
    watch = LeaseMonitor(0)
    for _ in range(2):  # a beat is compared with an earlier look
        Queue(study).reap(watch, MAX_RETRIES)


def _processes(study: Study) -> Iterator[Inconsistency]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(SWEPT) == study.identity and process.status() != psutil.STATUS_ZOMBIE:
                yield Inconsistency(
                    f"process {process.pid} is left of it: {' '.join(process.cmdline())[:80]}", process.kill
                )
