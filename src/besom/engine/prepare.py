"""What an app settles once a study, for all its trials: one worker asks it before the first, the others wait.

It is asked where and as a trial runs: in a process of its own, on a slot's device. What it refuses (`InputError`) ends
the sweep before its first trial. In each later session, and on each other machine, it is asked once more which data it
sees: other data than the study began with end the sweep, unless they are to be accepted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from besom.config.redaction import redact
from besom.engine.outcome import AttemptCallbacks
from besom.engine.plan import Plan
from besom.engine.prepare_hook import ANSWER, PrepareHook
from besom.engine.trial_in_process import InProcessTrial
from besom.engine.trial_process import TrialProcess
from besom.engine.trial_run import BEATS
from besom.errors import InputError
from besom.hydra_app.check_space import first_point
from besom.hydra_app.job import App, without_callbacks
from besom.study.attrs import FOUND, PREPARED, PREPARER
from besom.study.lease import Lease, LeaseMonitor
from besom.study.study import StopRequest, Study, differences, other_data
from besom.system.disk import DiskFull
from besom.system.processes import this_machine
from besom.system.storable import on_one_line

LEASH_S = 86400.0  # the pipe tells it of its worker's death
LOOK_S = 0.2


def settled(plan: Plan, app: App, study: Study, goes_on: Callable[[], bool]) -> Plan:
    """The plan, with what was settled; that is done by now, unless the sweep is to end."""
    watch = LeaseMonitor(plan.lease_s)
    seen = f"{supervisor.token if (supervisor := study.supervisor()) else ''} {this_machine()}"

    def question() -> PrepareHook | None:
        """What is still to be asked."""
        known, asks = study.recall(PREPARED), asked_of(app)
        if not asks:
            return None
        if known is None:
            return asks
        return None if seen in known.get("seen_by", ()) or asks.data is None else replace(asks, prepare=None)

    while (asks := question()) and goes_on():
        mine = Lease.mine()
        if study.may_prepare(mine, watch, lambda: question() != asks):
            _settle(plan, app, study, asks, seen, _keeping(mine, plan, study, goes_on))
        else:
            time.sleep(LOOK_S)
    if known := study.recall(PREPARED):
        return replace(plan, space=replace(plan.space, fixed=(*plan.space.fixed, *known["overrides"])))
    return plan


def _keeping(mine: Lease, plan: Plan, study: Study, goes_on: Callable[[], bool]) -> Callable[[], bool]:
    """Asked again and again whether the question must end; that renews the lease of who asks it."""
    lease, beaten = mine, time.monotonic()

    def must_end() -> bool:
        nonlocal lease, beaten
        if time.monotonic() - beaten > plan.lease_s / BEATS:
            lease, beaten = lease.renewed(), time.monotonic()
            study.remember(PREPARER, lease.as_attr())
        return not goes_on()

    return must_end


def _settle(plan: Plan, app: App, study: Study, asks: PrepareHook, seen: str, must_end: Callable[[], bool]) -> None:
    known = study.recall(PREPARED)
    try:
        answer = ask(plan, app, asks, plan.space.overrides(first_point(plan.space)), must_end)
    except InputError as error:
        study.request_stop(StopRequest("refused", str(error)))
        return
    except DiskFull as full:
        study.request_stop(StopRequest("full", str(full)))
        return
    if answer is None:
        return
    if known is None:
        study.remember(PREPARED, {**answer, "seen_by": [seen]})
        return
    there, here = known.get("data"), answer["data"]
    if there is not None and here is not None and (changes := differences(there, here)):
        if plan.resume != "anyway":
            study.remember(FOUND, here)
            study.request_stop(StopRequest("changed", other_data(study.name, changes)))
            return
        study.note_changes(changes)
    study.remember(PREPARED, {**known, "data": here or there, "seen_by": [*known.get("seen_by", ()), seen]})


def asked_of(app: App) -> PrepareHook | None:
    """The functions that `besom.prepare` and `besom.fingerprint` have named; None: there are none."""
    asks = PrepareHook(app.prepare, app.fingerprint)
    return asks if asks.prepare or asks.data else None


def ask(
    plan: Plan, app: App, asks: PrepareHook, overrides: list[str], must_end: Callable[[], bool]
) -> dict[str, Any] | None:
    """The app's answer for a trial with these overrides, as `PrepareHook` writes it; None: it must end.

    Raises:
        InputError: what the app refuses.
        DiskFull: it could not be asked for want of space.
    """
    asked = replace(app, task=asks, context=without_callbacks(app.context))
    terms = AttemptCallbacks(lambda value, step: False, must_end, LEASH_S, plan.trial_timeout_s)
    with TemporaryDirectory(prefix="besom-") as parent:
        folder = Path(parent) / "0"
        folder.mkdir()
        alone = plan.isolation == "none"
        attempt = InProcessTrial(asked, terms) if alone else TrialProcess(asked, folder / "output.log", terms)
        with attempt:
            outcome = attempt.outcome(app.compose(0, overrides, folder))
        if outcome.state == "complete":
            return dict(json.loads((folder / ANSWER).read_text()))
    if InputError.__name__ in outcome.exception:
        raise InputError(outcome.reason.removeprefix(f"{outcome.exception[0]}: "))
    if outcome.kind == "disk full":
        raise DiskFull(f"a disk is full: {outcome.reason}; make room, and start the same command again")
    if outcome.state == "interrupted":
        return None
    # the trials will say it better, if it is theirs too
    return {
        "overrides": [],
        "said": redact(f"nothing was settled: {outcome.kind}: {on_one_line(outcome.reason)}"),
        "data": None,
    }
